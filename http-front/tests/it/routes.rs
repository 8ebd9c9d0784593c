//! Routes that show what the front does.

use std::convert::Infallible;

use api_types::{ErrorBody, ErrorCode, PolicyLabel};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::stream;
use http_front::{ApiError, ApiJson, ApiPath, ApiQuery, BodyLimit, RequestContext};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The route that needs the token wherever one is configured.
pub(crate) const WORKER_ROUTE: &str = "/v1/workers/register";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Echo {
    name: String,
    #[serde(default)]
    inner: Option<Inner>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    count: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: u8,
}

/// `end` ends the open stream.
pub(crate) fn router(end: CancellationToken) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/v1/me", get(me))
        .route("/v1/echo", post(echo))
        .route("/v1/large", post(echo).layer(Extension(BodyLimit(4 << 20))))
        .route(
            "/v1/items/{id}",
            get(|ApiPath(id): ApiPath<u8>| async move { id.to_string() }),
        )
        .route(
            "/v1/items",
            get(|ApiQuery(page): ApiQuery<Page>| async move { page.limit.to_string() }),
        )
        .route(WORKER_ROUTE, post(me))
        .route("/v1/panic", get(panic))
        .route(
            "/v1/bug",
            get(|| async { Err::<(), _>(ApiError::internal("secret detail")) }),
        )
        .route("/v1/busy", get(busy))
        .route("/v1/stream", get(open_stream))
        .with_state(end)
}

async fn me(context: RequestContext) -> Json<Value> {
    Json(json!({
        "identity": context.identity.map(|identity| identity.to_string()),
        "correlation_id": context.correlation_id,
        "peer": context.peer,
    }))
}

async fn echo(ApiJson(echo): ApiJson<Echo>) -> Json<Echo> {
    Json(echo)
}

#[expect(clippy::panic, reason = "this is what the test is about")]
async fn panic() {
    panic!("secret panic text");
}

async fn busy() -> ApiError {
    ErrorBody::new(ErrorCode::AdmissionReject, "full")
        .with_policy(PolicyLabel::Reject)
        .with_retry_after(Some(1_500))
        .into()
}

/// Says `open`, waits for the end, says `end`.
async fn open_stream(State(end): State<CancellationToken>) -> Response {
    let body = stream::unfold(0, move |step| {
        let end = end.clone();
        async move {
            match step {
                0 => Some((Ok::<_, Infallible>(Bytes::from_static(b"open\n")), 1)),
                1 => {
                    end.cancelled().await;
                    Some((Ok(Bytes::from_static(b"end\n")), 2))
                }
                _ => None,
            }
        }
    });
    Response::new(Body::from_stream(body))
}
