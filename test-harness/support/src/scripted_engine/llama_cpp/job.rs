//! From a completion request to a plan: what is asked, whether it can be done, and what will come
//! out. Deterministic, except for the random seed that the caller asked for.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::super::script::{EngineError, Fault, Script};
use super::chat::Chat;
use super::errors::Refusal;
use super::generation::Plan;
use super::settings::{Fields, Settings};
use super::{template, vocabulary};

/// The seed that means "another one each time".
const RANDOM_SEED: u32 = u32::MAX;
/// Lengths chosen by hash: enough to look like a stream, few enough to wait for.
const SHORTEST: u64 = 12;
const LONGEST: u64 = 28;

/// The route that a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/completion`.
    Native,
    /// `/v1/chat/completions`.
    Chat,
}

/// A completion request, understood.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The prompt as text.
    pub(super) prompt: String,
    pub(super) prompt_tokens: u32,
    pub(super) settings: Settings,
    pub(super) slot: Option<usize>,
    pub(super) return_tokens: bool,
    pub(super) return_progress: bool,
    /// Seconds; negative is never.
    pub(super) ping_interval_s: Option<i64>,
    /// Keys wanted in the final frame; empty is all.
    pub(super) response_fields: Vec<String>,
    /// What a chat's answer is made with; absent on the native route.
    pub(super) chat: Option<Chat>,
}

impl Job {
    /// Reads a request's body; `n_ctx` is the slot's context in tokens.
    pub(super) fn parse(route: Route, body: &[u8], n_ctx: u32) -> Result<Self, Refusal> {
        let body = object(body)?;
        let fields = Fields(&body);
        let (prompt, prompt_tokens) = match route {
            Route::Native => prompt(&body)?,
            Route::Chat => tokenized(template::render(&body)?),
        };
        let settings = Settings::parse(&body)?;
        if prompt_tokens >= n_ctx {
            return Err(Refusal::ContextExceeded { prompt_tokens, n_ctx });
        }
        Ok(Self {
            prompt,
            prompt_tokens,
            settings,
            slot: usize::try_from(fields.integer("id_slot", -1)?).ok(),
            return_tokens: fields.boolean("return_tokens", false)?,
            return_progress: route == Route::Native && fields.boolean("return_progress", false)?,
            ping_interval_s: Some(fields.integer("sse_ping_interval", i64::MIN)?).filter(|s| *s != i64::MIN),
            response_fields: fields.texts("response_fields")?,
            chat: (route == Route::Chat).then(|| Chat::of(&body)),
        })
    }

    /// The prompt as the final frame echoes it.
    pub(super) fn echo(&self) -> String {
        if self.prompt.is_empty() {
            "<s>".to_owned()
        } else {
            format!("<s> {}", self.prompt)
        }
    }

    /// What will be said.
    pub(super) fn plan(&self, script: &Script, n_ctx: u32, fault: Option<Fault>) -> Plan {
        let key = self.key();
        let by_hash = SHORTEST + key % (LONGEST - SHORTEST + 1);
        let length = script
            .tokens
            .unwrap_or_else(|| u32::try_from(by_hash).unwrap_or(0));
        let endless = script.infinite;
        Plan {
            key,
            eos_after: (!endless && !self.settings.ignore_eos).then_some(length.max(1)),
            // Zero still predicts one token; −1 is no limit.
            limit: u32::try_from(self.settings.n_predict)
                .ok()
                .filter(|_| !endless)
                .map(|limit| limit.max(1)),
            room: (!endless).then(|| n_ctx - self.prompt_tokens),
            stop_strings: self.settings.stop.clone().unwrap_or_default(),
            text: script.text,
            empty_every: script.empty_every,
            fault,
        }
    }

    /// A hash of seed, prompt and settings; of nothing at all for the random seed. Whether the
    /// answer is streamed changes nothing in it.
    fn key(&self) -> u64 {
        if self.settings.seed == RANDOM_SEED {
            return uuid::Uuid::new_v4().as_u64_pair().1;
        }
        let settings = self.settings.for_choice();
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(&settings).unwrap_or_default());
        hash.update(self.prompt.as_bytes());
        hash.finalize()
            .iter()
            .take(8)
            .fold(0, |key, byte| key << 8 | u64::from(*byte))
    }
}

/// The body as an object, or the real server's error for anything else.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => {
            let kind = if other.is_array() { "array" } else { "value" };
            Err(Refusal::invalid(format!(
                "[json.exception.type_error.304] cannot use at() with {kind}"
            )))
        }
        Err(error) => Err(Refusal::Plain(EngineError::new(
            500,
            "server_error",
            parse_message(body, &error),
        ))),
    }
}

fn parse_message(body: &[u8], error: &serde_json::Error) -> String {
    let (line, column, what) = if body.is_empty() {
        let hint = "check that your input string or stream contains the expected JSON";
        (1, 1, format!("attempting to parse an empty input; {hint}"))
    } else {
        (
            error.line(),
            error.column(),
            format!("syntax error while parsing value - {error}"),
        )
    };
    format!("[json.exception.parse_error.101] parse error at line {line}, column {column}: {what}")
}

/// The prompt's text and number of tokens: a text, tokens, or a mixture.
fn prompt(body: &Map<String, Value>) -> Result<(String, u32), Refusal> {
    let missing = || Refusal::invalid("[json.exception.out_of_range.403] key 'prompt' not found");
    match body.get("prompt").ok_or_else(missing)? {
        Value::String(text) => Ok(tokenized(text.clone())),
        Value::Array(items) if items.is_empty() => Err(Refusal::invalid("\"prompt\" must not be empty")),
        Value::Array(items) if items.len() > 1 && items.iter().all(Value::is_string) => {
            Err(several_prompts())
        }
        Value::Array(items) => {
            let tokens = items
                .iter()
                .map(tokens_of)
                .collect::<Result<Vec<_>, _>>()?
                .concat();
            let text = vocabulary::detokenize(&tokens).ok_or_else(invalid_tokens)?;
            Ok((text, count(tokens.len())))
        }
        _ => Err(Refusal::invalid(
            "\"prompt\" must be a string, an array of tokens or a mixture",
        )),
    }
}

/// A text with its tokens, the beginning's included.
pub(super) fn tokenized(text: String) -> (String, u32) {
    let tokens = 1 + vocabulary::tokenize(&text).count();
    (text, count(tokens))
}

fn tokens_of(item: &Value) -> Result<Vec<u32>, Refusal> {
    match item {
        Value::String(text) => Ok(vocabulary::tokenize(text).collect()),
        other => {
            let id = other.as_u64().and_then(|id| u32::try_from(id).ok());
            id.filter(|id| *id < vocabulary::size())
                .map(|id| vec![id])
                .ok_or_else(invalid_tokens)
        }
    }
}

fn invalid_tokens() -> Refusal {
    Refusal::invalid("Prompt contains invalid tokens")
}

/// The real server can do this; a script cannot say yet what it would look like.
fn several_prompts() -> Refusal {
    let message = "the scripted engine takes one prompt per request";
    Refusal::Plain(EngineError::new(501, "not_supported_error", message))
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &str) -> Result<Job, Refusal> {
        Job::parse(Route::Native, body.as_bytes(), 512)
    }

    fn message(body: &str) -> (u16, String) {
        let refusal = parse(body).unwrap_err();
        (refusal.status(), format!("{refusal:?}"))
    }

    #[test]
    fn refusals_are_the_recorded_ones() {
        for (body, status, text) in [
            (
                "",
                500,
                "parse error at line 1, column 1: attempting to parse an empty input",
            ),
            (
                r#"{"prompt": "hi", "n_predict": }"#,
                500,
                "[json.exception.parse_error.101] parse error at line 1, column 31",
            ),
            (
                "[]",
                400,
                "[json.exception.type_error.304] cannot use at() with array",
            ),
            (
                r#"{"n_predict":4}"#,
                400,
                "[json.exception.out_of_range.403] key 'prompt' not found",
            ),
            (r#"{"prompt":[]}"#, 400, "must not be empty"),
            (r#"{"prompt":[1,99999]}"#, 400, "Prompt contains invalid tokens"),
        ] {
            let (got, message) = message(body);
            assert_eq!(got, status, "{body}");
            assert!(message.contains(text), "{body}: {message}");
        }
    }

    #[test]
    fn a_prompt_as_long_as_the_context_is_too_long() {
        let body = json!({"prompt": "x".repeat(511)}).to_string();
        assert_eq!(
            parse(&body).unwrap_err(),
            Refusal::ContextExceeded {
                prompt_tokens: 512,
                n_ctx: 512
            }
        );
        assert!(parse(&json!({"prompt": "x".repeat(510)}).to_string()).is_ok());
    }

    #[test]
    fn prompts_may_be_text_or_tokens() {
        assert_eq!(parse(r#"{"prompt":""}"#).unwrap().echo(), "<s>");
        assert_eq!(parse(r#"{"prompt":[107,108]}"#).unwrap().prompt, "hi");
        assert_eq!(parse(r#"{"prompt":[107,"i"]}"#).unwrap().prompt, "hi");
    }

    #[test]
    fn words_depend_on_seed_prompt_and_settings_but_not_on_streaming() {
        let key = |body: Value| parse(&body.to_string()).unwrap().key();
        let base = key(json!({"prompt": "a", "seed": 1}));
        assert_eq!(base, key(json!({"prompt": "a", "seed": 1, "stream": true})));
        assert_ne!(base, key(json!({"prompt": "a", "seed": 2})));
        assert_ne!(base, key(json!({"prompt": "b", "seed": 1})));
        assert_ne!(base, key(json!({"prompt": "a", "seed": 1, "temperature": 0.1})));
        assert_ne!(
            key(json!({"prompt": "a"})),
            key(json!({"prompt": "a"})),
            "no seed is a random one"
        );
    }
}
