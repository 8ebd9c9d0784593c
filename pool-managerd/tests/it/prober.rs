//! The look at an engine, against strangers that answer in its place.

use anyhow::Result;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use pool_managerd::engine::command::EngineMode;
use pool_managerd::engine::listener::PortOwner;
use pool_managerd::engine::probe::{Clients, Expected, Look, Prober};
use secrecy::SecretString;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// A server in this process that answers everything an engine would.
async fn impostor() -> Result<u16> {
    impostor_with(Router::new()).await
}

async fn impostor_with(routes: Router) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let props =
        json!({"total_slots": 1, "model_alias": "tiny", "default_generation_settings": {"n_ctx": 512}});
    let router = routes
        .route("/health", get(|| async { "{\"status\":\"ok\"}" }))
        .route("/props", get(|| async move { axum::Json(props) }));
    TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
    Ok(port)
}

fn prober(port: u16, group: u32, alias: &str) -> Result<Prober> {
    prober_of(port, group, alias, EngineMode::Generate)
}

fn prober_of(port: u16, group: u32, alias: &str, mode: EngineMode) -> Result<Prober> {
    let key = SecretString::from("any-key");
    let expected = Expected {
        alias: alias.to_owned(),
        mode,
    };
    Ok(Prober::new(
        &Clients::new()?,
        port,
        PortOwner::Group(group),
        expected,
        &key,
    )?)
}

/// ORCH-3526: an engine that was not started for the pool's workload is not ready.
/// REQ-FAULT-ENGINE-LIES.
#[tokio::test]
async fn an_engine_must_serve_what_its_pool_promises() -> Result<()> {
    let without = "{\"error\":{\"message\":\"Pooling type 'none' is not OAI compatible.\"}}";
    let without = post(move || async move { (StatusCode::BAD_REQUEST, without) });
    let no_pooling = impostor_with(Router::new().route("/v1/embeddings", without)).await?;
    let answer = |status: u16| {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        post(move || async move { (status, "{\"error\":{\"message\":\"why\"}}") })
    };
    let serves = impostor_with(Router::new().route("/v1/embeddings", answer(400))).await?;
    let other = impostor_with(Router::new().route("/v1/embeddings", answer(501))).await?;
    let look = |port, mode| async move {
        Ok::<_, anyhow::Error>(prober_of(port, own_group(), "tiny", mode)?.look().await)
    };
    assert!(matches!(look(serves, EngineMode::Embed).await?, Look::Serving(_)));
    for (port, mode, says) in [
        (other, EngineMode::Embed, "/v1/embeddings answers 501"),
        (serves, EngineMode::Rerank, "/v1/rerank answers 404"),
        (no_pooling, EngineMode::Embed, "\"--pooling\""),
    ] {
        let found = look(port, mode).await?;
        assert!(
            matches!(&found, Look::Wrong(what) if what.contains(says)),
            "{found:?}"
        );
    }
    Ok(())
}

fn own_group() -> u32 {
    rustix::process::getpgrp().as_raw_nonzero().get().unsigned_abs()
}

/// REQ-FAULT-ENGINE-PORT.
#[tokio::test]
async fn a_stranger_that_answers_like_the_engine_is_not_believed() -> Result<()> {
    let port = impostor().await?;
    assert_eq!(prober(port, 1, "tiny")?.look().await, Look::Foreign);
    Ok(())
}

#[tokio::test]
async fn our_own_listener_is_believed_if_it_serves_our_model() -> Result<()> {
    let port = impostor().await?;
    assert!(matches!(
        prober(port, own_group(), "tiny")?.look().await,
        Look::Serving(_)
    ));
    let other = prober(port, own_group(), "other")?.look().await;
    assert!(
        matches!(&other, Look::Wrong(what) if what.contains("tiny")),
        "{other:?}"
    );
    Ok(())
}

#[tokio::test]
async fn nobody_is_silence() -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    assert_eq!(prober(port, own_group(), "tiny")?.look().await, Look::Silent);
    Ok(())
}
