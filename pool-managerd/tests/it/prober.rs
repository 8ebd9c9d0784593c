//! The look at an engine, against strangers that answer in its place.

use anyhow::Result;
use axum::Router;
use axum::routing::get;
use pool_managerd::engine::probe::{Look, Prober, client};
use secrecy::SecretString;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// A server in this process that answers everything an engine would.
async fn impostor() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let props =
        json!({"total_slots": 1, "model_alias": "tiny", "default_generation_settings": {"n_ctx": 512}});
    let router = Router::new()
        .route("/health", get(|| async { "{\"status\":\"ok\"}" }))
        .route("/props", get(|| async move { axum::Json(props) }));
    TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
    Ok(port)
}

fn prober(port: u16, group: u32, alias: &str) -> Result<Prober> {
    let key = SecretString::from("any-key");
    Ok(Prober::new(&client()?, port, group, alias.to_owned(), &key)?)
}

fn own_group() -> u32 {
    rustix::process::getpgrp().as_raw_nonzero().get().unsigned_abs()
}

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
