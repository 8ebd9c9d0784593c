//! The engine's own words about a failure, in whatever shape they came.

use adapter_api::AdapterErrorKind as Kind;
use http_util::redact::redact;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Most bytes of an engine's message that are handed on: its longest own texts have about 200, the rest is the client's
/// input quoted back.
const MAX_MESSAGE_BYTES: usize = 512;

/// `{"error": …}`.
#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    error: &'a RawValue,
}

/// Servers of this dialect write the code as number, text or null, and the error as object or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    Object {
        #[serde(default)]
        message: String,
        code: Option<Value>,
        n_prompt_tokens: Option<u64>,
        n_ctx: Option<u64>,
    },
    Text(String),
}

/// What the engine said.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) message: String,
    /// The HTTP status that the error object names.
    pub(super) code: Option<u16>,
    /// Tokens of the prompt, and tokens that the context holds.
    overflow: Option<(u64, u64)>,
}

impl Report {
    /// From the body of an error reply; a body without an error object speaks for itself.
    pub(super) fn of_reply(body: &str) -> Self {
        match serde_json::from_str::<Reply<'_>>(body) {
            Ok(reply) => Self::of_error(reply.error.get()),
            Err(_) => Self::plain(body),
        }
    }

    /// From the value of `error`.
    pub(super) fn of_error(error: &str) -> Self {
        match serde_json::from_str(error) {
            Ok(Wire::Object {
                message,
                code,
                n_prompt_tokens,
                n_ctx,
            }) => Self {
                code: code.and_then(|c| c.as_u64()?.try_into().ok()),
                overflow: n_prompt_tokens.zip(n_ctx),
                ..Self::plain(&message)
            },
            Ok(Wire::Text(message)) => Self::plain(&message),
            Err(_) => Self::plain(error),
        }
    }

    fn plain(message: &str) -> Self {
        // Redacted before it is cut: half a credential is not recognised.
        let mut message = redact(message.trim()).into_owned();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        Self {
            message,
            ..Self::default()
        }
    }

    /// One sentence for the client.
    pub(super) fn describe(&self, kind: Kind, status: u16) -> String {
        let said = if self.message.is_empty() {
            "no reason given"
        } else {
            &self.message
        };
        match (kind, self.overflow) {
            (Kind::Rejected, Some((prompt, ctx))) => {
                format!("the prompt has {prompt} tokens, a slot's context of the engine holds {ctx}")
            }
            (Kind::Rejected, None) => format!("llama.cpp refuses the request: {said}"),
            (Kind::NotReady, _) => format!("llama.cpp is not ready: {said}"),
            (Kind::Exhausted, _) => format!("llama.cpp has no room: {said}"),
            (Kind::Reset, _) => format!("llama.cpp failed: {said}"),
            (Kind::Unavailable | Kind::Protocol | Kind::Timeout, _) => {
                format!("llama.cpp answers {status}: {said}{}", configuration_hint(status))
            }
        }
    }
}

fn configuration_hint(status: u16) -> &'static str {
    match status {
        401 | 403 => " (configuration: the key bound to this endpoint is not the engine's)",
        501 => " (configuration: the engine was not started for this workload)",
        404 | 405 => " (configuration: is this endpoint a llama.cpp server?)",
        _ => "",
    }
}
