//! `POST /v1/chat/completions` and `POST /apply-template`.
//!
//! Chats go through the server's own chat route rather than through `/apply-template` and `/completion`: only that route
//! undoes the template on the way back, so that markers of turns, reasoning and tools do not end up in the answer.

use adapter_api::Job;
use api_types::Message;
use serde::Serialize;

use super::{Generation, MAX_N_PREDICT};

/// Field names and ranges are the server's.
#[derive(Debug, Serialize)]
pub(crate) struct Chat<'a> {
    messages: &'a [Message],
    /// Always explicit: the server's own default is "until the context is full".
    max_tokens: u32,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(flatten)]
    generation: Generation<'a>,
}

/// Without it the stream does not tell how many tokens it was.
#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> Chat<'a> {
    pub(crate) fn new(job: &'a Job, messages: &'a [Message]) -> Self {
        Self {
            messages,
            max_tokens: job.max_tokens.min(MAX_N_PREDICT),
            stream: true,
            stream_options: StreamOptions { include_usage: true },
            generation: Generation::of(job),
        }
    }
}

/// Asks for the prompt that a chat of these messages gets.
#[derive(Debug, Serialize)]
pub(crate) struct ApplyTemplate<'a> {
    messages: &'a [Message],
}

impl<'a> From<&'a [Message]> for ApplyTemplate<'a> {
    fn from(messages: &'a [Message]) -> Self {
        Self { messages }
    }
}

#[cfg(test)]
mod tests {
    use adapter_api::JobInput;
    use api_types::{KvHint, Role, Sampling, TaskId};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_chat_says_exactly_this() {
        let messages = [
            Message::new(Role::System, "be brief"),
            Message::new(Role::User, "hi"),
        ];
        let job = Job {
            task_id: TaskId::new(uuid::Uuid::nil()),
            input: JobInput::Chat(messages.to_vec().into()),
            max_tokens: u32::MAX,
            seed: 7,
            sampling: Sampling {
                temperature: Some(0.0),
                stop: vec!["x".into()],
                ..Sampling::default()
            },
            kv_hint: KvHint::Cold,
            strict: false,
        };
        assert_eq!(
            serde_json::to_value(Chat::new(&job, &messages)).unwrap(),
            json!({"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
                "max_tokens": 2_147_483_647, "seed": 7, "cache_prompt": false, "stream": true,
                "stream_options": {"include_usage": true}, "temperature": 0.0, "stop": ["x"]})
        );
    }
}
