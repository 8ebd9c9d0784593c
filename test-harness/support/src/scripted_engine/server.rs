//! Accepts connections and serves the requests on each, one after the other, until one side ends it.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::engine::Engine;
use super::http::{Connection, Fragments, KeepAlive, Request, Response};
use super::llama_cpp;
use super::log::Level;
use super::script::EngineError;

/// The real server closes a connection after so many requests.
const MAX_REQUESTS: usize = 100;

/// What becomes of a connection after a request.
pub(super) enum After {
    /// It serves the next request.
    Next,
    /// It ends.
    Close,
    /// It is reset.
    Reset,
}

/// Serves until the future is dropped, which closes every connection.
pub(super) async fn serve(engine: Arc<Engine>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve_connection(Arc::clone(&engine), stream))),
                Err(error) => accept_failed(&engine, &error).await,
            },
            // A connection's task that has ended is taken out of the set.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Rest after a failed accept: long enough that descriptors may come back, short enough not to be felt.
const ACCEPT_REST: std::time::Duration = std::time::Duration::from_millis(100);

/// Out of file descriptors, most likely.
async fn accept_failed(engine: &Engine, error: &io::Error) {
    engine.log.server(Level::Error, "accept", error);
    tokio::time::sleep(ACCEPT_REST).await;
}

async fn serve_connection(engine: Arc<Engine>, stream: TcpStream) {
    let Ok(mut connection) = Connection::new(stream) else {
        return;
    };
    for served in 1..=MAX_REQUESTS {
        let Some(request) = connection.next_request().await else {
            return;
        };
        let reusable = served < MAX_REQUESTS && request.wants_keep_alive();
        let keep = if reusable { KeepAlive::Yes } else { KeepAlive::No };
        match serve_request(&engine, &mut connection, &request, keep).await {
            After::Next if keep == KeepAlive::Yes => {}
            After::Next | After::Close => return,
            After::Reset => return connection.reset(),
        }
    }
}

async fn serve_request(
    engine: &Engine,
    connection: &mut Connection,
    request: &Request,
    keep: KeepAlive,
) -> After {
    if request.path().starts_with("/__") {
        return send(connection, request, keep, control(engine, request)).await;
    }
    let script = engine.script();
    connection.fragments = Fragments {
        bytes: script.fragment_bytes,
        delay: std::time::Duration::from_micros(script.fragment_delay_us),
    };
    llama_cpp::serve(engine, connection, request, keep).await
}

/// Sends a whole response.
pub(super) async fn send(
    connection: &mut Connection,
    request: &Request,
    keep: KeepAlive,
    response: Response,
) -> After {
    let mut out = BytesMut::new();
    response.encode(&mut out, keep, request.method == "HEAD");
    match connection.write(&out).await {
        Ok(()) => After::Next,
        Err(_) => After::Close,
    }
}

/// The test's own door: script and report. Always open, whatever the script says.
fn control(engine: &Engine, request: &Request) -> Response {
    match (request.method.as_str(), request.path()) {
        ("POST", "/__script") => change_script(engine, request),
        ("GET", "/__script") => json(&*engine.script()),
        ("GET", "/__report") => json(&engine.recorder.report()),
        _ => llama_cpp::error_response(&EngineError::new(
            404,
            "not_found_error",
            "no such control of the scripted engine",
        )),
    }
}

fn change_script(engine: &Engine, request: &Request) -> Response {
    let patch = serde_json::from_slice::<Value>(&request.body);
    match patch.and_then(|patch| engine.script().merged(&patch)) {
        Ok(script) => {
            let response = json(&script);
            engine.set_script(script);
            response
        }
        Err(error) => {
            llama_cpp::error_response(&EngineError::new(400, "invalid_request_error", error.to_string()))
        }
    }
}

fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => Response::json(200, text),
        Err(error) => llama_cpp::error_response(&EngineError::new(500, "server_error", error.to_string())),
    }
}
