//! The relay to an engine on this host (REQ-RELAY-STREAM, REQ-RELAY-LIST, REQ-RELAY-START): what an adapter asks of its engine, from an orchestrator
//! on another host. Engines listen on loopback and their keys stay here.
//!
//! No general proxy: the routes are listed, the engine is the one start that the caller means, nothing of the caller's
//! request but its JSON goes on, and nothing of the engine's headers comes back but what a reader needs. A body is
//! passed on piece by piece as it comes; the engine is read when the caller reads, and its connection closes when the
//! caller's does.

mod passage;

use api_types::link::{ENGINE_START_HEADER, EngineStart};
use api_types::{EngineKind, ErrorBody, ErrorCode, PoolId, ReplicaId};
use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use http_front::{ApiError, ApiJson, ApiPath, BodyLimit};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ApiState;
use super::routes::{known, not_found};
use passage::{Asked, Whose};
pub use passage::{Passage, PassageOptions};

/// The relay's route; everything below needs the token wherever one is configured.
pub const ROUTE: &str = "/v1/relay/{pool_id}/{replica_id}/{*path}";

/// What is allowed: which method on which path of the engine.
type Allowed = (Method, &'static str);

/// All that the adapter for llama.cpp's server asks.
const LLAMA_CPP: &[Allowed] = &[
    (Method::GET, "/health"),
    (Method::GET, "/props"),
    (Method::POST, "/tokenize"),
    (Method::POST, "/apply-template"),
    (Method::POST, "/completion"),
    (Method::POST, "/v1/chat/completions"),
    (Method::POST, "/v1/embeddings"),
    (Method::POST, "/v1/rerank"),
];

/// The routes that pass, by engine. Pools of the other engines cannot be configured.
const fn routes(engine: EngineKind) -> &'static [Allowed] {
    match engine {
        EngineKind::Llamacpp => LLAMA_CPP,
        EngineKind::Vllm | EngineKind::Tgi | EngineKind::Triton | EngineKind::Openai => &[],
    }
}

/// Whose engine the path names.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    pool_id: PoolId,
    replica_id: ReplicaId,
}

/// Passes a request on to an engine of this node.
#[utoipa::path(
    method(get, post),
    path = "/v1/relay/{pool_id}/{replica_id}/{*path}",
    params(
        ("pool_id" = PoolId, Path, description = "The pool."),
        ("replica_id" = ReplicaId, Path, description = "The replica."),
        ("path" = String, Path, description = "A route of the engine that its adapter uses."),
        ("x-engine-start" = String, Header, description = "Which start of the engine is meant: INSTANCE.GENERATION of the node's report.")
    ),
    responses(
        (status = 200, description = "What the engine answers, as it comes; other statuses of the engine too"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, description = "Not a route that passes, or the relay is off", body = ErrorBody),
        (status = 404, description = "No such pool or replica", body = ErrorBody),
        (status = 409, description = "The engine is at another start", body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 502, description = "The engine broke off before it answered", body = ErrorBody),
        (status = 503, description = "The engine is not ready", body = ErrorBody),
        (status = 504, description = "The engine did not answer in time", body = ErrorBody)
    )
)]
pub(super) async fn relay(
    State(state): State<ApiState>,
    ApiPath(place): ApiPath<Place>,
    request: Request,
) -> Result<Response, ApiError> {
    let Place { pool_id, replica_id } = place;
    let passage = state.relay.as_ref().ok_or_else(off)?;
    let meant = meant(request.headers())?;
    let pool = known(&state, &pool_id)?;
    let replica = pool
        .replica(&replica_id)
        .ok_or_else(|| not_found(format!("pool {pool_id} has no replica {replica_id}")))?;
    let whose = Whose {
        pool: &pool_id,
        replica: &replica_id,
        engine: pool.spec.engine,
    };
    let path = allowed(pool.spec.engine, request.method(), request.uri())?;
    let asked = Asked {
        method: request.method().clone(),
        path,
        // Read before the engine is looked at: a body may take its time.
        body: body(request, passage.body_limit()).await?,
    };
    let view = replica.view();
    passage.pass(whose, &view, meant, asked).await
}

fn off() -> ApiError {
    let body = ErrorBody::new(
        ErrorCode::Forbidden,
        "the relay is off: this node's orchestrator reaches its engines directly",
    );
    body.with_hint("set pool_managerd.relay to \"always\"").into()
}

/// Which start of the engine the caller knows.
fn meant(headers: &HeaderMap) -> Result<EngineStart, ApiError> {
    let refuse = |why: &str| ApiError::new(ErrorCode::InvalidParams, format!("{ENGINE_START_HEADER}: {why}"));
    let mut given = headers.get_all(ENGINE_START_HEADER).into_iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return Err(refuse("must be there once"));
    };
    let text = value.to_str().unwrap_or_default();
    text.parse()
        .map_err(|error: api_types::link::NoEngineStart| refuse(&error.to_string()))
}

/// The engine's route, from the list. Compared as written: nothing is decoded, resolved or joined, so that no other
/// spelling of a path is one.
fn allowed(engine: EngineKind, method: &Method, uri: &Uri) -> Result<&'static str, ApiError> {
    let path = below(uri.path());
    let route = routes(engine)
        .iter()
        .find(|(takes, route)| takes == method && path == Some(*route));
    match (route, uri.query()) {
        (Some((_, route)), None) => Ok(*route),
        _ => Err(ApiError::new(
            ErrorCode::Forbidden,
            format!(
                "the relay does not pass this on to a {engine} engine: {method} {}{}",
                path.unwrap_or_default(),
                if uri.query().is_some() {
                    " with a query"
                } else {
                    ""
                }
            ),
        )),
    }
}

/// What follows `/v1/relay/POOL/REPLICA`, as written.
fn below(path: &str) -> Option<&str> {
    let slashes = path.match_indices('/');
    let (at, _) = slashes.map(|(at, _)| (at, ())).nth(4)?;
    path.get(at..)
}

/// The JSON of a request, as it came; nothing for a request without a body.
async fn body(mut request: Request, limit: usize) -> Result<Bytes, ApiError> {
    if request.method() != Method::POST {
        return Ok(Bytes::new());
    }
    request.extensions_mut().insert(BodyLimit(limit));
    let ApiJson(json) = ApiJson::<Box<RawValue>>::from_request(request, &()).await?;
    Ok(String::from(Box::<str>::from(json)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: &str, target: &str) -> Result<&'static str, u16> {
        let uri: Uri = target.parse().unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        allowed(EngineKind::Llamacpp, &method, &uri).map_err(|error| error.status().as_u16())
    }

    /// REQ-RELAY-LIST.
    #[test]
    fn only_listed_routes_pass_and_only_as_they_are_written() {
        assert_eq!(judged("POST", "/v1/relay/p/r0/completion"), Ok("/completion"));
        assert_eq!(judged("GET", "/v1/relay/p/r0/health"), Ok("/health"));
        assert_eq!(
            judged("POST", "/v1/relay/p/r0/v1/chat/completions"),
            Ok("/v1/chat/completions")
        );
        for (method, path) in [
            ("GET", "/completion"),
            ("DELETE", "/completion"),
            ("POST", "/slots/0?action=erase"),
            ("GET", "/slots"),
            ("GET", "/metrics"),
            ("POST", "/props"),
            ("POST", "/lora-adapters"),
            ("POST", "/completion?n=1"),
            ("POST", "/completion/"),
            ("POST", "//completion"),
            ("POST", "/%63ompletion"),
            ("POST", "/x/../completion"),
            ("POST", "/completion%00"),
            ("POST", "/http://10.0.0.1/completion"),
            ("GET", "/../../health"),
            ("GET", "/"),
            ("GET", ""),
        ] {
            assert_eq!(
                judged(method, &format!("/v1/relay/p/r0{path}")),
                Err(403),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn an_absolute_target_changes_nothing() {
        let target = "http://10.0.0.1:1/v1/relay/p/r0/completion";
        assert_eq!(judged("POST", target), Ok("/completion"));
    }

    #[test]
    fn the_start_that_is_meant_is_told_exactly_once() {
        let start = "01900000-0000-7000-8000-000000000001.4";
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ENGINE_START_HEADER, value.parse().unwrap());
            }
            meant(&headers)
                .map(|start| start.generation)
                .map_err(|error| error.body().message.clone())
        };
        assert_eq!(of(&[start]), Ok(4));
        for wrong in [&[][..], &[start, start], &["4"], &["x.4"], &[""]] {
            let message = of(wrong).unwrap_err();
            assert!(message.contains("x-engine-start"), "{wrong:?}: {message}");
        }
    }
}
