//! Each failure: which error it becomes, what hint it carries, and that no token is in it.

use std::error::Error;

use anyhow::Context;
use api_types::{ErrorBody, ErrorCode, TaskId};
use llama_orch_client::{ClientConfig, ClientError, OrchestratorClient};
use uuid::Uuid;

use crate::server::{Server, TOKEN, client_of};

/// Everything an error can print.
fn printed(error: &ClientError) -> String {
    let chain = std::iter::successors(Some(error as &dyn Error), |&e| e.source());
    let texts: Vec<String> = chain.map(ToString::to_string).collect();
    format!(
        "{} | {} | {error:?}",
        texts.join(": "),
        error.hint().unwrap_or_default()
    )
}

/// What `GET /v1/pools` makes of an answer.
async fn answered(token: Option<&str>, head: &str, body: &str) -> anyhow::Result<ClientError> {
    let server = Server::start().await?;
    let client = client_of(server.base.clone(), token)?;
    let serve = async { server.accept().await?.answer(head, body).await };
    let (pools, served) = tokio::join!(client.pools(), serve);
    served?;
    pools.err().context("the call succeeded")
}

fn body(error: ErrorBody) -> String {
    serde_json::to_string(&error).unwrap_or_default()
}

#[tokio::test]
async fn an_error_body_is_kept_whole() -> anyhow::Result<()> {
    let refused =
        ErrorBody::new(ErrorCode::AdmissionReject, "the queue is full").with_retry_after(Some(1500));
    let error = answered(
        None,
        "429 Too Many Requests\nRetry-After: 2",
        &body(refused.clone()),
    )
    .await?;
    let api = error.api().unwrap();
    assert_eq!(api.body, refused);
    assert_eq!(api.status.as_u16(), 429);
    assert_eq!(api.retry_after().map(|d| d.as_millis()), Some(1500));
    assert_eq!(api.retry_after_header.map(|d| d.as_secs()), Some(2));
    assert_eq!(error.to_string(), "ADMISSION_REJECT (429): the queue is full");
    Ok(())
}

#[tokio::test]
async fn a_missing_token_is_asked_for() -> anyhow::Result<()> {
    let refused = body(ErrorBody::new(ErrorCode::MissingToken, "no token"));
    let error = answered(None, "401 Unauthorized", &refused).await?;
    assert!(error.hint().unwrap().contains("AUTH_TOKEN"), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_token_is_named_by_its_fingerprint_only() -> anyhow::Result<()> {
    let refused = body(ErrorBody::new(ErrorCode::BadToken, "unknown token"));
    let error = answered(Some(TOKEN), "401 Unauthorized", &refused).await?;
    let text = printed(&error);
    // First six hex digits of the token's SHA-256.
    assert!(error.hint().unwrap().contains("token:87cbeb"), "{text}");
    assert!(!text.contains(TOKEN), "{text}");
    Ok(())
}

#[tokio::test]
async fn the_daemons_own_hint_is_passed_on() -> anyhow::Result<()> {
    let refused = ErrorBody::new(ErrorCode::Forbidden, "overrides are off").with_hint("ask the operator");
    let error = answered(None, "403 Forbidden", &body(refused)).await?;
    assert_eq!(error.hint().as_deref(), Some("ask the operator"));
    let refused = ErrorBody::new(ErrorCode::Forbidden, "Host is not allowed");
    let error = answered(None, "403 Forbidden", &body(refused)).await?;
    assert!(error.hint().unwrap().contains("host name"), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn answers_of_somebody_else_are_told_apart() -> anyhow::Result<()> {
    for (head, text, expected) in [
        (
            "502 Bad Gateway",
            "<html>nginx</html>",
            "status 502 Bad Gateway without an error body",
        ),
        ("200 OK", "<html>hello</html>", "unexpected reply body"),
        (
            "302 Found\nLocation: /login",
            "",
            "status 302 Found without an error body",
        ),
    ] {
        let error = answered(Some(TOKEN), head, text).await?;
        assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
        assert!(printed(&error).contains(expected), "{}", printed(&error));
        assert!(error.hint().unwrap().contains("really belong to orchestratord"));
        assert!(!printed(&error).contains(TOKEN));
    }
    Ok(())
}

#[tokio::test]
async fn nobody_listening_is_unreachable_with_the_address() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let base = server.base.clone();
    drop(server);
    let error = client_of(base.clone(), Some(TOKEN))?.pools().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("orchestratord at {base} cannot be reached")
    );
    assert!(printed(&error).contains("refused"), "{}", printed(&error));
    assert_eq!(
        error.hint().unwrap(),
        format!("is orchestratord running, and is {base} its address?")
    );
    Ok(())
}

#[tokio::test]
async fn a_connection_cut_before_the_answer_is_disconnected() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let serve = async { server.accept().await?.hang_up().await };
    let (pools, served) = tokio::join!(client.pools(), serve);
    served?;
    let error = pools.unwrap_err();
    assert!(matches!(error, ClientError::Disconnected { .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn addresses_that_cannot_work_are_refused_without_their_secrets() -> anyhow::Result<()> {
    for base in [
        "http://user:hunter2@127.0.0.1:1",
        "http://127.0.0.1:1/?q=1",
        "ftp://127.0.0.1",
        "user:hunter2@",
    ] {
        let config = ClientConfig::new(base, None);
        let error = OrchestratorClient::new(config).unwrap_err();
        assert!(
            matches!(error, ClientError::Setup(_) | ClientError::Address(_)),
            "{error:?}"
        );
        assert!(!printed(&error).contains("hunter2"), "{}", printed(&error));
    }
    Ok(())
}

#[tokio::test]
async fn nothing_of_the_client_prints_the_token() -> anyhow::Result<()> {
    let config = ClientConfig::new("http://127.0.0.1:1", Some(TOKEN.into()));
    let client = OrchestratorClient::new(config.clone())?;
    let stream = client.stream(TaskId::new(Uuid::nil()), None);
    drop(stream);
    assert!(!format!("{config:?} {client:?}").contains(TOKEN));
    Ok(())
}
