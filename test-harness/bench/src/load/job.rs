//! One generation to ask for, in either dialect. Pure.

use serde_json::{Map, Value, json};

/// What is asked for. The same job gives the same text from the engine, whoever relays it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) prompt: String,
    pub(crate) seed: u32,
    /// Exactly so many tokens come: the engine is told not to stop earlier.
    pub(crate) tokens: u32,
}

/// The name that the engine's model has in the orchestrator.
pub(crate) const MODEL: &str = "bench-model";

impl Job {
    /// Job number `number`, different from all others.
    pub(crate) fn numbered(number: usize, tokens: u32) -> Self {
        Self {
            prompt: format!("Stream {number}: tell what the machine does."),
            seed: 7,
            tokens,
        }
    }

    /// The body of `POST /v1/tasks`.
    pub(crate) fn task(&self) -> Vec<u8> {
        json!({"model_ref": MODEL, "prompt": self.prompt, "seed": self.seed, "max_tokens": self.tokens})
            .to_string()
            .into_bytes()
    }

    /// The body of the engine's `POST /completion`, like `template` in everything else.
    pub(crate) fn completion(&self, template: &Map<String, Value>) -> Vec<u8> {
        let mut body = template.clone();
        body.insert("prompt".to_owned(), self.prompt.as_str().into());
        body.insert("seed".to_owned(), self.seed.into());
        body.insert("n_predict".to_owned(), self.tokens.into());
        Value::Object(body).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bodies_ask_for_the_same() {
        let job = Job::numbered(3, 12);
        let task: Value = serde_json::from_slice(&job.task()).unwrap();
        let template = json!({"prompt": "old", "n_predict": 1, "seed": 0, "cache_prompt": true});
        let template = template.as_object().unwrap();
        let completion: Value = serde_json::from_slice(&job.completion(template)).unwrap();
        assert_eq!(task["prompt"], completion["prompt"]);
        assert_eq!(
            (&task["seed"], &task["max_tokens"]),
            (&completion["seed"], &completion["n_predict"])
        );
        assert_eq!(completion["cache_prompt"], true);
    }
}
