//! Errors in the dialect's shapes. The middleware and the handlers of the real server write the same
//! keys in different orders, and both orders are kept. Pure encoding.

use serde::Serialize;

use super::super::http::Response;
use super::super::script::EngineError;

/// A completion that cannot start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Plain(EngineError),
    /// The prompt does not fit into the slot.
    ContextExceeded {
        prompt_tokens: u32,
        n_ctx: u32,
    },
}

impl Refusal {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Plain(EngineError::new(400, "invalid_request_error", message))
    }

    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Plain(error) => error.code,
            Self::ContextExceeded { .. } => 400,
        }
    }

    pub(super) fn response(&self) -> Response {
        match self {
            Self::Plain(error) => error_response(error),
            Self::ContextExceeded { prompt_tokens, n_ctx } => {
                Response::json(400, context_exceeded(*prompt_tokens, *n_ctx))
            }
        }
    }
}

#[derive(Serialize)]
struct Envelope<T> {
    error: T,
}

/// The order of keys that handlers write.
#[derive(Serialize)]
struct HandlerError<'a> {
    code: u16,
    message: &'a str,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_prompt_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_ctx: Option<u32>,
}

/// The order of keys that the middleware writes.
#[derive(Serialize)]
struct MiddlewareError<'a> {
    message: &'a str,
    r#type: &'a str,
    code: u16,
}

/// A handler's error as a response.
pub(in crate::scripted_engine) fn error_response(error: &EngineError) -> Response {
    Response::json(error.code, error_body(error))
}

/// A handler's error as JSON, which is also the payload of an in-stream error frame.
pub(super) fn error_body(error: &EngineError) -> String {
    let EngineError { code, message, kind } = error;
    encode(&HandlerError {
        code: *code,
        message,
        r#type: kind,
        n_prompt_tokens: None,
        n_ctx: None,
    })
}

/// An error that the middleware answers with, before any handler.
pub(super) fn middleware_response(status: u16, kind: &str, message: &str) -> Response {
    let body = encode(&MiddlewareError {
        message,
        r#type: kind,
        code: status,
    });
    Response::json(status, body)
}

fn context_exceeded(prompt_tokens: u32, n_ctx: u32) -> String {
    let message = format!(
        "request ({prompt_tokens} tokens) exceeds the available context size ({n_ctx} tokens), try increasing it"
    );
    encode(&HandlerError {
        code: 400,
        message: &message,
        r#type: "exceed_context_size_error",
        n_prompt_tokens: Some(prompt_tokens),
        n_ctx: Some(n_ctx),
    })
}

fn encode(error: &impl Serialize) -> String {
    // Numbers and strings always have a JSON form; an empty body would show in every test.
    serde_json::to_string(&Envelope { error }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::super::http::Body;
    use super::*;

    fn text(response: Response) -> String {
        let Body::Json(text) = response.body else {
            panic!("not JSON: {response:?}")
        };
        text
    }

    #[test]
    fn bodies_are_the_recorded_ones() {
        assert_eq!(
            text(middleware_response(503, "unavailable_error", "Loading model")),
            r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#
        );
        assert_eq!(
            text(
                Refusal::ContextExceeded {
                    prompt_tokens: 2402,
                    n_ctx: 512
                }
                .response()
            ),
            r#"{"error":{"code":400,"message":"request (2402 tokens) exceeds the available context size (512 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":2402,"n_ctx":512}}"#
        );
        assert_eq!(
            error_body(&EngineError::default()),
            r#"{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}"#
        );
    }
}
