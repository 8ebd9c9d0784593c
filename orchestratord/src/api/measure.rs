//! How many tokens a request's input has: bounded by its bytes, or counted by an engine's own tokenizer (ORCH-3522).
//!
//! Reads the request, asks engines short questions through `adapter-host`, keeps nothing.

use std::cmp::Reverse;
use std::time::Duration;

use adapter_api::{AdapterError, AdapterErrorKind};
use adapter_host::{AdapterHost, Target};
use api_types::{ErrorCode, TaskRequest, Workload};
use http_front::ApiError;
use tokio::time::timeout;

use crate::dispatcher::{PromptTokens, Tokenizer};

/// Tokens a tokenizer may add to a text: begin and end markers, and the leading space that some
/// vocabularies put before the first word.
const MARKER_TOKENS: u32 = 4;

/// Most tokens around a query and a document that are scored together, beside those of the two texts alone: the separator
/// and the end, where the model has them.
const PAIR_TOKENS: u32 = 2;

/// How long an engine may take to count a request's input.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// The tokens of a request's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InputTokens {
    /// What must fit into a context at once: the prompt, the conversation, or the longest input.
    pub(super) longest: PromptTokens,
    /// Everything that is to be read.
    pub(super) total: PromptTokens,
}

impl InputTokens {
    /// What holds when the engine cannot count: the bytes.
    pub(super) const fn last_word(self) -> Self {
        Self {
            longest: match self.longest {
                PromptTokens::Unbounded => self.total,
                bounded => bounded,
            },
            ..self
        }
    }
}

/// What is known without asking anybody.
pub(super) fn bounds(request: &TaskRequest) -> InputTokens {
    let parts = Parts::of(request);
    let longest = match request.workload {
        Workload::Chat => PromptTokens::Unbounded,
        Workload::Completion | Workload::Embedding | Workload::Rerank => {
            PromptTokens::AtMost(parts.longest())
        }
    };
    InputTokens {
        longest,
        total: PromptTokens::AtMost(parts.total()),
    }
}

/// The texts of a request.
struct Parts<'a> {
    texts: Vec<&'a str>,
    query: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(request: &'a TaskRequest) -> Self {
        let prompt = request.prompt.as_deref().into_iter();
        let messages = request.messages.iter().flatten();
        let contents = messages.map(|message| message.content.as_str());
        let inputs = request.inputs.iter().flatten().map(String::as_str);
        Self {
            texts: prompt.chain(contents).chain(inputs).collect(),
            query: request.query.as_deref(),
        }
    }

    fn longest(&self) -> u32 {
        let longest = self.texts.iter().map(|text| at_most(text)).max();
        longest.unwrap_or(0).saturating_add(self.query_tokens())
    }

    fn total(&self) -> u32 {
        let each = |text: &&str| at_most(text).saturating_add(self.query_tokens());
        self.texts.iter().map(each).fold(0, u32::saturating_add)
    }

    fn query_tokens(&self) -> u32 {
        self.query
            .map_or(0, |query| at_most(query).saturating_add(PAIR_TOKENS))
    }
}

/// Every token of a text covers at least one of its bytes.
fn at_most(text: &str) -> u32 {
    u32::try_from(text.len())
        .unwrap_or(u32::MAX)
        .saturating_add(MARKER_TOKENS)
}

/// Counts with an engine's tokenizer; `None` where it has none.
///
/// # Errors
/// The refusal, ready for the client: the engine does not answer in time, or its template refuses the messages.
pub(super) async fn count(
    host: &AdapterHost,
    tokenizer: &Tokenizer,
    request: &TaskRequest,
) -> Result<Option<InputTokens>, ApiError> {
    let counting = Counting {
        host,
        target: Target::new(tokenizer.pool_id.clone(), tokenizer.replica_id.clone()),
        ctx: tokenizer.ctx_max,
    };
    match timeout(COUNT_TIMEOUT, counting.count(request)).await {
        Ok(Ok(tokens)) => Ok(tokens),
        Ok(Err(error)) if error.kind == AdapterErrorKind::Rejected => Err(ApiError::new(
            ErrorCode::InvalidParams,
            format!("messages: {error}"),
        )),
        Ok(Err(error)) => Err(unavailable(&error.to_string())),
        Err(_) => Err(unavailable(&format!(
            "no answer within {} ms",
            COUNT_TIMEOUT.as_millis()
        ))),
    }
}

fn unavailable(detail: &str) -> ApiError {
    ApiError::new(
        ErrorCode::PoolUnready,
        format!("the engine could not count the input's tokens: {detail}"),
    )
}

struct Counting<'a> {
    host: &'a AdapterHost,
    target: Target,
    /// Tokens of the largest context.
    ctx: u32,
}

impl Counting<'_> {
    async fn count(&self, request: &TaskRequest) -> Result<Option<InputTokens>, AdapterError> {
        let parts = Parts::of(request);
        let tokens = match (&request.messages, parts.query) {
            (Some(messages), _) => self.host.count_chat_tokens(&self.target, messages).await?,
            (None, Some(query)) => self.longest_pair(query, &parts.texts).await?,
            (None, None) => self.longest(&parts.texts, 0).await?,
        };
        // All that was counted is the longest of the texts; it is everything where there is one.
        let alone = request.messages.is_some() || parts.texts.len() == 1;
        Ok(tokens.map(|tokens| InputTokens {
            longest: PromptTokens::Exactly(tokens),
            total: if alone {
                PromptTokens::Exactly(tokens)
            } else {
                PromptTokens::AtMost(parts.total())
            },
        }))
    }

    async fn longest_pair(&self, query: &str, documents: &[&str]) -> Result<Option<u32>, AdapterError> {
        match self.host.count_tokens(&self.target, query).await? {
            Some(query) => self.longest(documents, query.saturating_add(PAIR_TOKENS)).await,
            None => Ok(None),
        }
    }

    /// Tokens of the longest text, with `beside` tokens that stand beside each. Texts are counted from the longest in
    /// bytes on, until one is too long or the next ones cannot be.
    async fn longest(&self, texts: &[&str], beside: u32) -> Result<Option<u32>, AdapterError> {
        let mut texts = texts.to_vec();
        texts.sort_unstable_by_key(|text| Reverse(text.len()));
        let mut longest = 0;
        for text in texts {
            let bound = at_most(text).saturating_add(beside);
            let settled = longest > self.ctx || bound <= longest || bound <= self.ctx;
            if longest > 0 && settled {
                break;
            }
            let Some(tokens) = self.host.count_tokens(&self.target, text).await? else {
                return Ok(None);
            };
            longest = longest.max(tokens.saturating_add(beside));
        }
        Ok(Some(longest))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use PromptTokens::{AtMost, Unbounded};

    fn bounds_of(request: serde_json::Value) -> InputTokens {
        bounds(&serde_json::from_value(request).unwrap())
    }

    #[test]
    fn bytes_bound_everything_but_a_chat() {
        let found = bounds_of(json!({"model_ref": "m", "prompt": "12345"}));
        assert_eq!((found.longest, found.total), (AtMost(9), AtMost(9)));
        let chat = json!([{"role": "user", "content": "123"}, {"role": "user", "content": "1"}]);
        let found = bounds_of(json!({"model_ref": "m", "workload": "chat", "messages": chat}));
        assert_eq!((found.longest, found.total), (Unbounded, AtMost(12)));
        assert_eq!(found.last_word().longest, AtMost(12));
        let found = bounds_of(json!({"model_ref": "m", "workload": "embedding", "inputs": ["1", "12345"]}));
        assert_eq!((found.longest, found.total), (AtMost(9), AtMost(14)));
    }

    #[test]
    fn a_query_stands_beside_every_input() {
        let request =
            json!({"model_ref": "m", "workload": "rerank", "query": "12", "inputs": ["1", "12345"]});
        let found = bounds_of(request);
        assert_eq!(
            (found.longest, found.total),
            (AtMost(9 + 8), AtMost(5 + 8 + 9 + 8))
        );
    }
}
