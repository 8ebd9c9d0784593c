//! Graceful stop.

use std::time::Duration;

use http_front::Served;
use tokio::net::TcpStream;

use crate::server::{Client, HANG, Options, Server};

/// Nothing but the stop itself ends a connection within the test.
fn patient() -> Server {
    Server::start(Options::limits(|limits| {
        limits.header_timeout = 10 * HANG;
        limits.shutdown_grace = 10 * HANG;
    }))
}

async fn open_stream(server: &Server) -> Client {
    let mut stream = server.connect().await;
    stream
        .write(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    stream.until("open").await;
    stream
}

#[tokio::test]
async fn a_stream_that_ends_within_the_grace_is_finished() {
    let server = patient();
    let mut stream = open_stream(&server).await;
    let mut idle = server.connect().await;
    server.shutdown.cancel();
    // The idle connection is closed and the port given up at once; the stream goes on.
    assert_eq!(idle.closed().await, "");
    while TcpStream::connect(server.addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.end_stream.cancel();
    let said = stream.closed().await;
    assert!(said.ends_with("4\r\nend\n\r\n0\r\n\r\n"), "{said:?}");
    assert_eq!(server.served().await, Served::Drained);
}

#[tokio::test]
async fn what_does_not_end_within_the_grace_is_cut() {
    let server = Server::start(Options::limits(|limits| {
        limits.shutdown_grace = Duration::from_millis(50);
    }));
    let mut stream = open_stream(&server).await;
    server.shutdown.cancel();
    assert!(!stream.closed().await.contains("end"));
    assert_eq!(server.served().await, Served::Cut { open: 1 });
}

#[tokio::test]
async fn a_finished_request_does_not_hold_its_connection_open() {
    let server = patient();
    let mut kept = server.connect().await;
    kept.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(kept.answer().await.status, 200);
    server.shutdown.cancel();
    assert_eq!(kept.closed().await, "");
    drop(kept);
    assert_eq!(server.served().await, Served::Drained);
}

#[tokio::test]
async fn a_port_is_bound_once_and_can_be_bound_again() {
    let server = Server::start(Options::default());
    let addr = server.addr;
    let error = http_front::Listener::bind(addr).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("cannot listen on {addr} (another program listens there)")
    );
    server.get("/healthz", "").await;
    server.shutdown.cancel();
    server.served().await;
    assert!(http_front::Listener::bind(addr).is_ok());
}
