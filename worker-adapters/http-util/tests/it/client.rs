//! What is sent, where it may go, and what comes back when the peer behaves.

use std::process::Command;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use http_util::{BuildError, Client, ClientOptions, HttpError, Request};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::server::{SHORT, Server, Step, endpoint, patient, reply, say, stream_head, token};

const CANARY: &str = "canary-4711-secret";

#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Doc {
    n: u32,
}

#[tokio::test]
async fn json_round_trips_share_one_connection() -> anyhow::Result<()> {
    let ok = || reply("200 OK", "", r#"{"n":7}"#);
    let server = Server::always(vec![Step::Hear, ok(), Step::Hear, ok(), Step::AwaitClose]).await?;
    let endpoint = server.endpoint(patient())?;
    assert_eq!(endpoint.get_json::<Doc>("/doc?full=1").await?, Doc { n: 7 });
    assert_eq!(
        endpoint.post_json::<_, Doc>("/doc", &Doc { n: 6 }).await?,
        Doc { n: 7 }
    );
    let seen = server.seen();
    assert_eq!(seen.connections, 1);
    assert!(
        seen.requests[0].starts_with("GET /doc?full=1 HTTP/1.1\r\n"),
        "{seen:?}"
    );
    assert!(seen.requests[0].contains("user-agent: llama-orch/"), "{seen:?}");
    assert!(!seen.requests[0].contains("authorization"), "{seen:?}");
    assert!(
        seen.requests[1].contains("content-type: application/json\r\n"),
        "{seen:?}"
    );
    assert!(seen.requests[1].ends_with("\r\n\r\n{\"n\":6}"), "{seen:?}");
    Ok(())
}

/// ORCH-3278.
#[tokio::test]
async fn a_bearer_token_goes_to_its_endpoint_only() -> anyhow::Result<()> {
    let script = vec![Step::Hear, reply("200 OK", "", "{}"), Step::AwaitClose];
    let (with, without) = (
        Server::always(script.clone()).await?,
        Server::always(script).await?,
    );
    let client = Client::new(patient())?;
    let address = |server: &Server| Url::parse(&format!("http://{}", server.addr));
    let trusted = client.endpoint(address(&with)?, Some(&token(CANARY)))?;
    let other = client.endpoint(address(&without)?, None)?;
    let forged = Request::get("/?key=hidden").header(
        http::header::AUTHORIZATION,
        HeaderValue::from_static("Bearer other"),
    );
    assert_eq!(
        format!("{forged:?}"),
        r#"Request { method: GET, path: "/", body_bytes: 0, .. }"#
    );
    let reply = trusted.send(forged).await?;
    assert!(!format!("{reply:?}").contains("hidden"));
    other.send(Request::get("/")).await?;
    assert!(with.seen().requests[0].contains(&format!("authorization: Bearer {CANARY}\r\n")));
    assert!(!without.seen().requests[0].contains("authorization"));
    assert!(!format!("{client:?} {trusted:?}").contains(CANARY));
    Ok(())
}

/// REQ-RELAY-STREAM: whoever hands answers on gets every one as it is.
#[tokio::test]
async fn a_forwarded_answer_keeps_its_status_and_body() -> anyhow::Result<()> {
    let body = r#"{"error":{"message":"Bearer abcdefghijkl is not redacted here"}}"#;
    let server = Server::always(vec![
        Step::Hear,
        reply("429 Too Many Requests", "retry-after: 3\r\n", body),
    ])
    .await?;
    let endpoint = server.endpoint(patient())?;
    let mut answer = endpoint.forward(Request::get("/x")).await?;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers["retry-after"], "3");
    let mut whole = Vec::new();
    while let Some(piece) = answer.body.chunk().await? {
        whole.extend_from_slice(&piece);
    }
    assert_eq!(whole, body.as_bytes());
    Ok(())
}

/// REQ-RELAY-START.
#[tokio::test]
async fn a_header_of_an_endpoint_goes_with_every_request() -> anyhow::Result<()> {
    let ok = || reply("200 OK", "", "{}");
    let server = Server::always(vec![Step::Hear, ok(), Step::Hear, ok(), Step::AwaitClose]).await?;
    let name = HeaderName::from_static("x-where");
    let endpoint = server.endpoint(patient())?;
    let endpoint = endpoint.with_header(name.clone(), HeaderValue::from_static("here"));
    endpoint.send(Request::get("/a")).await?;
    let elsewhere = Request::post("/b").header(name, HeaderValue::from_static("there"));
    endpoint.send(elsewhere).await?;
    for request in server.seen().requests {
        assert!(request.contains("x-where: here\r\n"), "{request}");
    }
    Ok(())
}

#[tokio::test]
async fn redirects_are_not_followed() -> anyhow::Result<()> {
    let elsewhere = Server::always(vec![Step::Hear]).await?;
    let to = format!("location: http://{}/\r\n", elsewhere.addr);
    let server = Server::always(vec![Step::Hear, reply("307 Temporary Redirect", &to, "")]).await?;
    let error = server.endpoint(patient())?.send(Request::get("/")).await.err();
    assert_eq!(
        error.as_ref().and_then(HttpError::status),
        Some(StatusCode::TEMPORARY_REDIRECT),
        "{error:?}"
    );
    assert_eq!(elsewhere.seen().connections, 0);
    Ok(())
}

/// Runs one of the tests above in a process whose environment names a proxy that does not exist.
#[test]
fn a_proxy_from_the_environment_is_ignored() -> anyhow::Result<()> {
    let run = Command::new(std::env::current_exe()?)
        .args(["--exact", "client::json_round_trips_share_one_connection"])
        .envs(["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"].map(|name| (name, "http://127.0.0.1:1")))
        .output()?;
    let output = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && output.contains("1 passed"), "{output}");
    Ok(())
}

#[tokio::test]
async fn a_stream_hands_over_head_and_pieces() -> anyhow::Result<()> {
    let script = vec![
        Step::Hear,
        stream_head(),
        say("5\r\nhello\r\n"),
        Step::Gate,
        say("1\r\n!\r\n0\r\n\r\n"),
    ];
    let server = Server::always(script).await?;
    let id = (
        HeaderName::from_static("last-event-id"),
        HeaderValue::from_static("1.4"),
    );
    let request = Request::post("/completion")
        .json_bytes(Bytes::from_static(b"{}"))
        .header(id.0, id.1);
    let mut response = server.endpoint(patient())?.stream(request).await?;
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.headers["content-type"], "text/event-stream");
    assert_eq!(response.body.chunk().await?.as_deref(), Some(b"hello".as_slice()));
    server.open_gate();
    assert_eq!(response.body.chunk().await?.as_deref(), Some(b"!".as_slice()));
    assert_eq!(response.body.chunk().await?, None);
    assert_eq!(response.body.chunk().await?, None);
    assert!(server.seen().requests[0].contains("last-event-id: 1.4\r\n"));
    Ok(())
}

#[tokio::test]
async fn dropping_a_stream_closes_its_connection() -> anyhow::Result<()> {
    let mut server = Server::always(vec![
        Step::Hear,
        stream_head(),
        say("1\r\nx\r\n"),
        Step::AwaitClose,
    ])
    .await?;
    let mut response = server.endpoint(patient())?.stream(Request::get("/")).await?;
    assert!(response.body.chunk().await?.is_some());
    assert_eq!(server.seen().closed_by_peer, 0);
    drop(response);
    server.wait_for(|seen| seen.closed_by_peer == 1).await?;
    Ok(())
}

#[tokio::test]
async fn idle_connections_are_closed_before_the_server_would() -> anyhow::Result<()> {
    let script = vec![Step::Hear, reply("200 OK", "", "{}"), Step::AwaitClose];
    let mut server = Server::always(script).await?;
    let endpoint = server.endpoint(ClientOptions {
        pool_idle_timeout: SHORT,
        ..patient()
    })?;
    endpoint.send(Request::get("/")).await?;
    server.wait_for(|seen| seen.closed_by_peer == 1).await?;
    endpoint.send(Request::get("/")).await?;
    assert_eq!(server.seen().connections, 2);
    Ok(())
}

#[tokio::test]
async fn prior_knowledge_speaks_http2_at_once() -> anyhow::Result<()> {
    let mut server = Server::always(vec![Step::Hear, Step::AwaitClose]).await?;
    let endpoint = server.endpoint(ClientOptions {
        http2_prior_knowledge: true,
        ..patient()
    })?;
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(async move { endpoint.send(Request::get("/")).await });
    let seen = server.wait_for(|seen| !seen.requests.is_empty()).await?;
    assert!(seen.requests[0].starts_with("PRI * HTTP/2.0\r\n"), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_path_cannot_leave_its_endpoint() -> anyhow::Result<()> {
    let base = Url::parse("http://127.0.0.1:1/relay/r1/")?;
    let endpoint = Client::new(patient())?.endpoint(base, None)?;
    for path in [
        "",
        "health",
        "//evil.example/../../..",
        "/../r2/health",
        "/%2e%2e/r2",
        "/a#b",
        "http://evil.example/",
    ] {
        let error = endpoint.send(Request::get(path)).await.err();
        assert!(matches!(error, Some(HttpError::Path { .. })), "{path}: {error:?}");
    }
    // Refused by the dead port, which is to say: sent to the right place.
    let error = endpoint.send(Request::get("/health?key=hidden")).await.err();
    let Some(HttpError::Connect { target, .. }) = error else {
        anyhow::bail!("{error:?}")
    };
    assert_eq!(target.to_string(), "GET http://127.0.0.1:1/relay/r1/health");
    Ok(())
}

#[test]
fn addresses_and_limits_are_checked() -> anyhow::Result<()> {
    let client = Client::new(patient())?;
    for base in [
        "ftp://h/",
        "unix:/run/x",
        "http://user:pw@h/",
        "http://h/?q=1",
        "http://h/#f",
    ] {
        let error = client.endpoint(Url::parse(base)?, None).err();
        assert!(
            matches!(error, Some(BuildError::Address { .. })),
            "{base}: {error:?}"
        );
        assert!(!format!("{error:?}").contains("pw"));
    }
    let broken = client.endpoint(Url::parse("http://h/")?, Some(&token("two\nlines")));
    assert!(matches!(broken, Err(BuildError::Bearer)));
    let zero = Client::new(ClientOptions {
        idle_timeout: std::time::Duration::ZERO,
        ..patient()
    });
    assert!(matches!(
        zero,
        Err(BuildError::Option {
            field: "idle_timeout",
            ..
        })
    ));
    let crossed = Client::new(ClientOptions {
        first_byte_timeout: SHORT,
        ..patient()
    });
    assert!(matches!(
        crossed,
        Err(BuildError::Option {
            field: "first_byte_timeout",
            ..
        })
    ));
    Ok(())
}

/// Would panic without an installed crypto provider.
#[tokio::test]
async fn https_to_a_plain_server_is_a_failed_connection() -> anyhow::Result<()> {
    let server = Server::always(vec![say("HTTP/1.1 400 Bad Request\r\n\r\n")]).await?;
    let base = Url::parse(&format!("https://{}", server.addr))?;
    let endpoint = Client::new(patient())?.endpoint(base, None)?;
    let error = endpoint.send(Request::get("/")).await.err();
    assert!(matches!(error, Some(HttpError::Connect { .. })), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_reply_of_another_shape_is_a_decode_error() -> anyhow::Result<()> {
    let server = Server::always(vec![Step::Hear, reply("200 OK", "", r#"{"n":"seven"}"#)]).await?;
    let error = endpoint(server.addr, patient())?
        .get_json::<Doc>("/doc")
        .await
        .err();
    assert!(matches!(error, Some(HttpError::Decode { .. })), "{error:?}");
    Ok(())
}
