//! The routes and what stands before them: cross-origin headers, the API key, the loading state.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::engine::Engine;
use super::super::http::{Body, Connection, KeepAlive, Request, Response};
use super::super::report::End;
use super::super::script::Health;
use super::super::server::{self, After};
use super::completion;
use super::errors::middleware_response;
use super::job::Route;
use super::{info, metrics, pooled};

/// Serves one request.
pub(in crate::scripted_engine) async fn serve(
    engine: &Engine,
    connection: &mut Connection,
    request: &Request,
    keep: KeepAlive,
) -> After {
    let refused = before_handlers(engine, request);
    if refused.is_none() && (is_probe(request) || request.path() == "/slots") {
        while engine.script().stalled {
            tokio::time::sleep(STALL_POLL).await;
        }
    }
    if refused.is_none() && is_probe(request) {
        engine.recorder.probed();
        let text = r#"{"content":"x","tokens_predicted":1,"tokens_evaluated":1,"stop":true}"#;
        return server::send(connection, request, keep, Response::json(200, text.to_owned())).await;
    }
    if refused.is_none() && request.method == "POST" {
        if let Some(route) = completion_route(request.path()) {
            return completion::serve(engine, connection, request, keep, route).await;
        }
        if let Some(route) = pooled::Route::of(engine, request.path()) {
            return pooled::serve(engine, connection, request, keep, route).await;
        }
    }
    let entry = engine.recorder.begin(request);
    let mut response = refused.unwrap_or_else(|| answer(engine, request));
    request
        .header("origin")
        .unwrap_or_default()
        .clone_into(&mut response.origin);
    entry.end(End::Answered(response.status));
    server::send(connection, request, keep, response).await
}

/// How often a stalled engine looks whether it still is.
const STALL_POLL: Duration = Duration::from_millis(20);

/// A supervisor's question whether the engine computes: one token, not streamed, or the smallest input; clients stream, and
/// ask for more. It is answered whatever the script does to clients, and not listed among their requests.
fn is_probe(request: &Request) -> bool {
    let body = || serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
    match request.path() {
        "/completion" => body()["n_predict"] == 1 && body()["stream"] == false,
        "/v1/embeddings" => body() == json!({"input": "1"}),
        "/v1/rerank" => body() == json!({"query": "1", "documents": ["1"]}),
        _ => false,
    }
}

fn completion_route(path: &str) -> Option<Route> {
    match path {
        "/completion" | "/completions" => Some(Route::Native),
        "/v1/chat/completions" | "/chat/completions" => Some(Route::Chat),
        _ => None,
    }
}

/// What the middleware answers itself, in the real server's order.
fn before_handlers(engine: &Engine, request: &Request) -> Option<Response> {
    if request.method == "OPTIONS" {
        return Some(preflight());
    }
    let public = matches!(request.path(), "/health" | "/v1/health");
    if !public && !has_key(engine, request) {
        return Some(middleware_response(
            401,
            "authentication_error",
            "Invalid API Key",
        ));
    }
    let loading = engine.is_loading();
    loading.then(|| middleware_response(503, "unavailable_error", "Loading model"))
}

fn preflight() -> Response {
    let allow = "Access-Control-Allow-Credentials: true\r\n\
        Access-Control-Allow-Methods: GET, POST, DELETE, OPTIONS\r\nAccess-Control-Allow-Headers: *\r\n";
    Response {
        status: 200,
        body: Body::Empty,
        extra_lines: allow.to_owned(),
        origin: String::new(),
    }
}

fn has_key(engine: &Engine, request: &Request) -> bool {
    let keys = &engine.launch.api_keys;
    let bearer = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    let given = bearer.or_else(|| request.header("x-api-key"));
    keys.is_empty() || given.is_some_and(|given| keys.iter().any(|key| key == given))
}

fn answer(engine: &Engine, request: &Request) -> Response {
    let launch = &engine.launch;
    let method = if request.method == "HEAD" {
        "GET"
    } else {
        request.method.as_str()
    };
    let answer = match (method, request.path()) {
        ("GET", "/health" | "/v1/health") => Ok(health(engine)),
        ("GET", "/props") => info::props(engine),
        ("POST", "/props") if launch.props => Ok(Response::json(200, r#"{"success":true}"#.to_owned())),
        ("POST", "/props") => Ok(info::disabled("changing properties", "--props")),
        ("GET", "/models" | "/v1/models") => info::models(engine),
        ("GET", "/slots") if launch.slots => info::slots(engine, request),
        ("GET", "/slots") => Ok(info::disabled("slots endpoint", "--slots")),
        ("GET", "/metrics") if launch.metrics => Ok(metrics_response(engine)),
        ("GET", "/metrics") => Ok(info::disabled("metrics endpoint", "--metrics")),
        ("POST", "/tokenize") => info::tokenize(request),
        ("POST", "/detokenize") => info::detokenize(request),
        ("POST", "/apply-template") => info::apply_template(request),
        ("POST", path) if pooled::is_embeddings(path) => Ok(info::disabled("embeddings", "--embeddings")),
        ("POST", path) if pooled::is_rerank(path) => Ok(info::disabled("reranking", "--reranking")),
        _ => Ok(middleware_response(404, "not_found_error", "File Not Found")),
    };
    answer.unwrap_or_else(|refusal| refusal.response())
}

fn health(engine: &Engine) -> Response {
    match engine.script().health {
        Health::Ok => Response::json(200, r#"{"status":"ok"}"#.to_owned()),
        Health::Unavailable => middleware_response(503, "unavailable_error", "Loading model"),
        Health::Error => middleware_response(500, "server_error", "Internal Server Error"),
    }
}

fn metrics_response(engine: &Engine) -> Response {
    let body = Body::Metrics(metrics::render(engine));
    Response {
        status: 200,
        body,
        extra_lines: String::new(),
        origin: String::new(),
    }
}
