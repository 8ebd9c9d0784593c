//! What a page in a browser may not do.

use crate::server::{Answer, Options, Server, error};

/// A request with exactly these header lines.
async fn raw(server: &Server, lines: &str) -> Answer {
    let mut client = server.connect().await;
    client
        .write(format!("{}\r\n\r\n", lines.replace('\n', "\r\n")).as_bytes())
        .await;
    client.answer().await
}

#[tokio::test]
async fn a_forged_host_is_refused_before_the_body_is_read() {
    let server = Server::start(Options::default());
    // The body never comes, and the answer does not wait for it.
    let answer = raw(
        &server,
        "POST /v1/echo HTTP/1.1\nHost: evil.example\nContent-Type: application/json\nContent-Length: 1000",
    )
    .await;
    assert_eq!(answer.error(), error(403, "FORBIDDEN"));
    assert_eq!(answer.json()["policy_label"], "host");
    assert!(answer.message().contains("evil.example"), "{answer:?}");
}

#[tokio::test]
async fn there_must_be_exactly_one_well_formed_host() {
    let server = Server::start(Options::default());
    for lines in [
        "GET /healthz HTTP/1.0",
        "GET /healthz HTTP/1.1\nHost: localhost\nHost: localhost",
        "GET /healthz HTTP/1.1\nHost: user@localhost",
        "GET /healthz HTTP/1.1\nHost: localhost/x",
        "GET http://evil.example/healthz HTTP/1.1\nHost: localhost",
        "GET http://localhost/healthz HTTP/1.1\nHost: evil.example",
    ] {
        assert_eq!(
            raw(&server, lines).await.error(),
            error(403, "FORBIDDEN"),
            "{lines}"
        );
    }
    for lines in [
        "GET /healthz HTTP/1.1\nHost: LOCALHOST:9",
        "GET http://localhost/healthz HTTP/1.1\nHost: localhost",
    ] {
        assert_eq!(raw(&server, lines).await.status, 200, "{lines}");
    }
}

#[tokio::test]
async fn a_configured_host_is_answered() {
    let mut options = Options::default();
    options.http.allowed_hosts = vec!["gpu-box.lan".parse().unwrap()];
    let server = Server::start(options);
    assert_eq!(
        raw(&server, "GET /healthz HTTP/1.1\nHost: GPU-box.lan:8080")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn foreign_origins_are_refused_and_get_no_cors_headers() {
    let server = Server::start(Options::default());
    for header in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://localhost:1",
        "Sec-Fetch-Site: cross-site",
        "Origin: http://localhost\r\nOrigin: http://localhost",
    ] {
        for head in ["GET /healthz", "OPTIONS /v1/echo", "POST /v1/echo"] {
            let answer = server.send(&format!("{head} HTTP/1.1\r\n{header}"), b"").await;
            assert_eq!(answer.error(), error(403, "FORBIDDEN"), "{head} {header}");
            assert_eq!(answer.json()["policy_label"], "origin");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
}

#[tokio::test]
async fn a_configured_origin_gets_exactly_what_it_needs() {
    let mut options = Options::with_token();
    options.http.allowed_origins = vec!["http://ui.lan:3000".parse().unwrap()];
    let server = Server::start(options);
    let origin = "\r\nOrigin: http://ui.lan:3000\r\nSec-Fetch-Site: cross-site";
    let asks = format!("OPTIONS /v1/echo HTTP/1.1{origin}\r\nAccess-Control-Request-Method: POST");
    let preflight = server.send(&asks, b"").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("http://ui.lan:3000")
    );
    assert!(
        preflight
            .header("access-control-allow-headers")
            .unwrap()
            .contains("authorization")
    );
    // A permission to ask is no permission to get: the request itself still needs the token, and
    // the page can read why.
    let refused = server.get("/v1/me", origin).await;
    assert_eq!(refused.error(), error(401, "MISSING_TOKEN"));
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("http://ui.lan:3000")
    );
    assert_eq!(refused.header("vary"), Some("origin"));
    let other = server.get("/v1/me", "\r\nOrigin: http://ui.lan:3001").await;
    assert_eq!(other.error(), error(403, "FORBIDDEN"));
}

#[tokio::test]
async fn only_a_configured_origin_is_answered_a_preflight() {
    let server = Server::start(Options::with_token());
    let own = format!("\r\nOrigin: http://{}", server.addr);
    for origin in ["", own.as_str()] {
        let asks = format!("OPTIONS /v1/echo HTTP/1.1{origin}\r\nAccess-Control-Request-Method: POST");
        assert_eq!(
            server.send(&asks, b"").await.error(),
            error(401, "MISSING_TOKEN"),
            "{origin}"
        );
    }
}

#[tokio::test]
async fn json_needs_its_content_type() {
    let server = Server::start(Options::default());
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "",
    ] {
        let head = format!("POST /v1/echo HTTP/1.1\r\nContent-Type: {kind}");
        let answer = server.send(&head, b"{\"name\":\"x\"}").await;
        assert_eq!(answer.error(), error(400, "INVALID_PARAMS"), "{kind}");
    }
    let head = "POST /v1/echo HTTP/1.1\r\nContent-Type: Application/JSON; charset=utf-8";
    assert_eq!(server.send(head, b"{\"name\":\"x\"}").await.status, 200);
}
