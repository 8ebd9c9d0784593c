//! The bodies of what is asked of the server: allow-lists. Nothing of a client's request reaches the engine but what is
//! named here, and none of its headers do (`X-Conversation-Id` would let a generation survive its connection).

mod chat;
mod pooled;
mod sampling;

use adapter_api::Job;
use api_types::KvHint;
use serde::Serialize;

pub(crate) use chat::{ApplyTemplate, Chat};
pub(crate) use pooled::{Embeddings, Rerank};
use sampling::SamplingFields;

/// Largest `n_predict` that the server accepts; above it answers 400.
const MAX_N_PREDICT: u32 = i32::MAX.cast_unsigned();

/// What the final frame shall hold. Without the list it echoes the whole prompt and every setting; servers that do not
/// know the list ignore it. Token frames are not affected.
const FINAL_FRAME_FIELDS: &[&str] = &[
    "content",
    "stop",
    "stop_type",
    "truncated",
    "tokens_predicted",
    "tokens_evaluated",
    "timings",
];

/// `POST /completion`. Field names and ranges are the server's.
#[derive(Debug, Serialize)]
pub(crate) struct Completion<'a> {
    prompt: &'a str,
    /// Always explicit: the server's own default is "until the context is full".
    n_predict: u32,
    stream: bool,
    response_fields: &'static [&'static str],
    #[serde(flatten)]
    generation: Generation<'a>,
}

impl<'a> Completion<'a> {
    pub(crate) fn new(job: &'a Job, prompt: &'a str) -> Self {
        Self {
            prompt,
            n_predict: job.max_tokens.min(MAX_N_PREDICT),
            stream: true,
            response_fields: FINAL_FRAME_FIELDS,
            generation: Generation::of(job),
        }
    }
}

/// What completions and chats share.
#[derive(Debug, Serialize)]
struct Generation<'a> {
    /// The server takes 32 bits and reduces anything longer silently.
    seed: u32,
    cache_prompt: bool,
    #[serde(flatten)]
    sampling: SamplingFields<'a>,
}

impl<'a> Generation<'a> {
    fn of(job: &'a Job) -> Self {
        Self {
            seed: job.seed,
            // A cached prefix is computed in other batch shapes, which changes low-order bits.
            cache_prompt: job.kv_hint == KvHint::Reuse && !job.strict,
            sampling: SamplingFields::from(&job.sampling),
        }
    }
}

#[cfg(test)]
mod tests {
    use adapter_api::JobInput;
    use api_types::{Sampling, TaskId};
    use serde_json::{Value, json};

    use super::*;

    fn job(kv_hint: KvHint, strict: bool) -> Job {
        Job {
            task_id: TaskId::new(uuid::Uuid::nil()),
            input: JobInput::Prompt("hi".into()),
            max_tokens: 7,
            seed: u32::MAX - 1,
            sampling: Sampling::default(),
            kv_hint,
            strict,
        }
    }

    fn sent(job: &Job) -> Value {
        serde_json::to_value(Completion::new(job, "hi")).unwrap()
    }

    #[test]
    fn absent_sampling_leaves_the_engines_defaults() {
        let mut body = sent(&job(KvHint::Reuse, false));
        assert_eq!(
            body["response_fields"].take(),
            json!([
                "content",
                "stop",
                "stop_type",
                "truncated",
                "tokens_predicted",
                "tokens_evaluated",
                "timings"
            ])
        );
        assert_eq!(
            body,
            json!({"prompt": "hi", "n_predict": 7, "seed": 4_294_967_294_u32, "cache_prompt": true, "stream": true,
                "response_fields": null})
        );
    }

    #[test]
    fn every_sampling_field_is_forwarded_under_the_engines_name() {
        let mut job = job(KvHint::Reuse, false);
        job.sampling = Sampling {
            temperature: Some(0.0),
            top_p: Some(0.9),
            top_k: Some(0),
            min_p: Some(0.05),
            repeat_penalty: Some(1.1),
            presence_penalty: Some(-1.0),
            frequency_penalty: Some(0.5),
            stop: vec!["\n\n".into()],
        };
        let expected = json!({"temperature": 0.0, "top_p": 0.9, "top_k": 0, "min_p": 0.05, "repeat_penalty": 1.1,
            "presence_penalty": -1.0, "frequency_penalty": 0.5, "stop": ["\n\n"]});
        let body = sent(&job);
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&body[field], value, "{field}");
        }
    }

    #[test]
    fn the_cache_is_used_only_when_wanted_and_harmless() {
        for (kv_hint, strict, cache) in [
            (KvHint::Reuse, false, true),
            (KvHint::Reuse, true, false),
            (KvHint::Cold, false, false),
            (KvHint::Cold, true, false),
        ] {
            assert_eq!(
                sent(&job(kv_hint, strict))["cache_prompt"],
                cache,
                "{kv_hint} {strict}"
            );
        }
    }

    #[test]
    fn n_predict_stays_in_the_servers_range() {
        let mut job = job(KvHint::Cold, false);
        job.max_tokens = u32::MAX;
        assert_eq!(sent(&job)["n_predict"], 2_147_483_647_u32);
    }
}
