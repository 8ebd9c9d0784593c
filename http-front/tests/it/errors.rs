//! Every failure is an error body with the request's correlation id.

use crate::server::{Options, Server, error};

#[tokio::test]
async fn the_correlation_id_is_kept_or_made_on_every_response() {
    let server = Server::start(Options::default());
    for path in ["/healthz", "/v1/no-such-route", "/v1/panic"] {
        let answer = server.get(path, "\r\nX-Correlation-Id: abc-1").await;
        assert_eq!(answer.header("x-correlation-id"), Some("abc-1"), "{path}");
    }
    for invalid in ["a b".to_owned(), "x".repeat(129)] {
        let answer = server
            .get("/v1/me", &format!("\r\nX-Correlation-Id: {invalid}"))
            .await;
        let made = answer.header("x-correlation-id").unwrap().to_owned();
        assert_eq!(made.len(), 36, "{made}");
        assert_eq!(answer.json()["correlation_id"], made);
    }
}

#[tokio::test]
async fn unknown_routes_and_methods() {
    let server = Server::start(Options::default());
    let unknown = server.get("/v1/nothing", "").await;
    assert_eq!(unknown.error(), error(404, "NOT_FOUND"));
    assert!(unknown.message().contains("/v1/nothing"));
    let method = server.send("DELETE /v1/echo HTTP/1.1", b"").await;
    assert_eq!(method.error(), error(405, "INVALID_PARAMS"));
    assert_eq!(method.header("allow"), Some("POST"));
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_connection_lives() {
    let server = Server::start(Options::default());
    let mut client = server.connect().await;
    for _ in 0..2 {
        client
            .write(b"GET /v1/panic HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.error(), error(500, "INTERNAL"));
        assert!(!answer.body.contains("secret"), "{answer:?}");
    }
    let bug = server.get("/v1/bug", "").await;
    assert_eq!(bug.error(), error(500, "INTERNAL"));
    assert!(!bug.body.contains("secret"), "{bug:?}");
}

#[tokio::test]
async fn backoff_is_told_in_seconds_and_exactly() {
    let answer = Server::start(Options::default()).get("/v1/busy", "").await;
    assert_eq!(answer.error(), error(429, "ADMISSION_REJECT"));
    assert_eq!(
        (answer.header("retry-after"), answer.header("x-backoff-ms")),
        (Some("2"), Some("1500"))
    );
    assert_eq!(answer.json()["retry_after_ms"], 1_500);
}

#[tokio::test]
async fn bad_json_names_the_field() {
    let server = Server::start(Options::default());
    let deep = format!("{{\"name\":{}", "[".repeat(100_000));
    for (json, text) in [
        (r#"{"name":"x","colour":1}"#, "colour: unknown field `colour`"),
        (
            r#"{"name":5}"#,
            "name: invalid type: integer `5`, expected a string",
        ),
        (
            r#"{"name":"x","inner":{"count":300}}"#,
            "inner.count: invalid value: integer `300`",
        ),
        (r#"{"name":"x","name":"y"}"#, "duplicate field `name`"),
        (r#"{}"#, "missing field `name`"),
        (r#"{"name":"x"} x"#, "something after the JSON value"),
        (r#"{"name":"#, "EOF while parsing"),
        (deep.as_str(), "name: invalid type: sequence"),
        ("", "EOF while parsing"),
    ] {
        let answer = server.post("/v1/echo", json).await;
        assert_eq!(answer.error(), error(400, "INVALID_PARAMS"), "{text}");
        assert!(answer.message().contains(text), "{text}: {}", answer.message());
    }
}

#[tokio::test]
async fn bad_paths_and_queries_are_invalid_parameters() {
    let server = Server::start(Options::default());
    assert_eq!(server.get("/v1/items/7", "").await.body, "7");
    assert_eq!(server.get("/v1/items?limit=7", "").await.body, "7");
    for path in [
        "/v1/items/x",
        "/v1/items/300",
        "/v1/items?limit=x",
        "/v1/items",
        "/v1/items?limit=1&colour=2",
    ] {
        let answer = server.get(path, "").await;
        assert_eq!(answer.error(), error(400, "INVALID_PARAMS"), "{path}");
        assert_ne!(answer.message(), "", "{path}");
    }
}
