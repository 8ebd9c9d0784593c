//! What a slow, silent or greedy client gets.

use std::time::Duration;

use crate::server::{Options, Server, error};

const SHORT: Duration = Duration::from_millis(50);
const MIB: usize = 1 << 20;

fn impatient() -> Server {
    Server::start(Options::limits(|limits| {
        limits.header_timeout = SHORT;
        limits.body_idle_timeout = SHORT;
    }))
}

#[tokio::test]
async fn silent_and_half_sent_heads_are_closed() {
    let server = impatient();
    for sent in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET /healthz HTTP/1.1\r\nHost: loc",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.write(sent.as_bytes()).await;
        let said = client.closed().await;
        assert!(!said.contains("200 OK"), "{sent:?}: {said:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_answer() {
    let server = impatient();
    let mut client = server.connect().await;
    client
        .write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.closed().await, "");
}

#[tokio::test]
async fn an_open_stream_outlives_the_header_timeout() {
    let server = impatient();
    let mut stream = server.connect().await;
    stream
        .write(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    stream.until("open").await;
    // A silent connection that begins later is closed first: its timeout has passed, and with it
    // the stream's.
    server.connect().await.closed().await;
    server.end_stream.cancel();
    stream.until("end").await;
}

#[tokio::test]
async fn a_body_that_pauses_is_an_error() {
    let server = impatient();
    let mut client = server.connect().await;
    client
        .write(b"POST /v1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"na")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.error(), error(400, "INVALID_PARAMS"));
    assert!(
        answer.message().contains("paused for more than 50 ms"),
        "{answer:?}"
    );
    client.closed().await;
}

#[tokio::test]
async fn a_body_of_two_mib_is_refused_and_the_client_can_read_why() {
    let server = Server::start(Options::default());
    let json = format!("{{\"name\":\"{}\"}}", "x".repeat(2 * MIB));
    // The whole body is written before the answer is read.
    let answer = server.post("/v1/echo", &json).await;
    assert_eq!(answer.error(), error(413, "PAYLOAD_TOO_LARGE"));
    assert!(answer.message().contains("1048576 bytes"), "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_chunked_body_cannot_hide_its_size() {
    let server = Server::start(Options::default());
    let mut client = server.connect().await;
    client
        .write(b"POST /v1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..32 {
        client.write(chunk.as_bytes()).await;
    }
    assert_eq!(client.answer().await.error(), error(413, "PAYLOAD_TOO_LARGE"));
}

#[tokio::test]
async fn an_announced_size_is_refused_without_waiting_for_the_body() {
    let server = Server::start(Options::default());
    let mut client = server.connect().await;
    client
        .write(b"POST /v1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.error(), error(413, "PAYLOAD_TOO_LARGE"));
}

#[tokio::test]
async fn a_route_can_have_another_body_limit() {
    let server = Server::start(Options::default());
    let json = format!("{{\"name\":\"{}\"}}", "x".repeat(2 * MIB));
    let answer = server.post("/v1/large", &json).await;
    assert_eq!((answer.status, answer.body.len() > 2 * MIB), (200, true));
}

#[tokio::test]
async fn too_many_or_too_large_headers_name_the_limit() {
    let server = Server::start(Options::default());
    let many: String = (0..70).map(|i| format!("\r\nX-{i}: 1")).collect();
    let answer = server.get("/healthz", &many).await;
    assert_eq!(answer.error(), error(413, "PAYLOAD_TOO_LARGE"));
    assert!(answer.message().contains("at most 64"), "{answer:?}");
    let large = format!("\r\nX-Large: {}", "x".repeat(40_000));
    let answer = server.get("/healthz", &large).await;
    assert_eq!(answer.error(), error(413, "PAYLOAD_TOO_LARGE"));
    assert!(answer.message().contains("at most 32768"), "{answer:?}");
}

#[tokio::test]
async fn absurd_headers_end_the_connection() {
    let server = Server::start(Options::default());
    let mut client = server.connect().await;
    let head = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: {}\r\n\r\n",
        "x".repeat(300_000)
    );
    client.write(head.as_bytes()).await;
    let said = client.closed().await;
    assert!(said.starts_with("HTTP/1.1 431"), "{said:?}");
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_their_turn() {
    let server = Server::start(Options::limits(|limits| limits.max_connections = 1));
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut first = server.connect().await;
    first.write(request).await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = server.connect().await;
    second.write(request).await;
    assert!(!second.hears_soon().await);
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}
