//! HTTP/2 by prior knowledge on the same port.

use http_front::Served;
use reqwest::{Client, Method, Response, Version};
use serde_json::Value;

use crate::server::{Options, Server, TOKEN};

#[expect(
    clippy::disallowed_methods,
    reason = "a test client that speaks to loopback only"
)]
fn client() -> Client {
    // Fails when another test has installed it already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .unwrap()
}

async fn send(server: &Server, method: Method, path: &str, body: Option<String>) -> Response {
    let mut request = client()
        .request(method, format!("http://{}{path}", server.addr))
        .bearer_auth(TOKEN)
        .header("content-type", "application/json");
    if let Some(body) = body {
        request = request.body(body);
    }
    request.send().await.unwrap()
}

/// ORCH-3450.
#[tokio::test]
async fn requests_errors_and_limits_are_the_same() {
    let server = Server::start(Options::with_token());
    let me = send(&server, Method::GET, "/v1/me", None).await;
    assert_eq!((me.version(), me.status().as_u16()), (Version::HTTP_2, 200));
    let correlation = me.headers()["x-correlation-id"].to_str().unwrap().to_owned();
    assert_eq!(me.json::<Value>().await.unwrap()["correlation_id"], correlation);

    let missing = send(&server, Method::GET, "/v1/nothing", None).await;
    assert_eq!(missing.json::<Value>().await.unwrap()["code"], "NOT_FOUND");

    let json = format!("{{\"name\":\"{}\"}}", "x".repeat(2 << 20));
    let large = send(&server, Method::POST, "/v1/echo", Some(json)).await;
    assert_eq!(large.status(), 413);
    assert_eq!(large.json::<Value>().await.unwrap()["code"], "PAYLOAD_TOO_LARGE");

    let unauthenticated = client()
        .get(format!("http://{}/v1/me", server.addr))
        .send()
        .await
        .unwrap();
    assert_eq!(unauthenticated.status(), 401);
}

#[tokio::test]
async fn the_authority_is_the_host() {
    let server = Server::start(Options::default());
    let forged = client()
        .get(format!("http://{}/healthz", server.addr))
        .header("host", "evil.example");
    assert_eq!(forged.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn an_open_stream_is_finished_on_a_graceful_stop() {
    let server = Server::start(Options::with_token());
    let mut stream = send(&server, Method::GET, "/v1/stream", None).await;
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "open\n");
    server.shutdown.cancel();
    server.end_stream.cancel();
    assert_eq!(stream.text().await.unwrap(), "end\n");
    assert_eq!(server.served().await, Served::Drained);
}
