//! The options of a task, and the request they make.

use api_types::{
    Determinism, FieldError, KvHint, Limits, Message, ModelRef, Priority, Role, Sampling, SessionId, TaskId,
    TaskRequest, Workload,
};
use clap::Args;

use super::duration::milliseconds;
use super::placement::PlacementArgs;

/// One task. What is left out takes the orchestrator's or the engine's default.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// The model: a served name, a catalog id, or a reference such as hf:org/repo/file.gguf
    pub model: ModelRef,
    /// The text to continue; - reads it from stdin
    pub prompt: String,

    /// Ask as a chat: the model's own template goes around the prompt
    #[arg(long)]
    pub chat: bool,
    /// A system message for the chat
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub system: Option<String>,
    /// interactive (somebody waits) or batch
    #[arg(long, value_name = "CLASS", default_value_t)]
    pub priority: Priority,
    /// The task must have ended this long after admission: 500ms, 30s, 2m, 1h
    #[arg(long, value_name = "DURATION", value_parser = milliseconds)]
    pub deadline: Option<u64>,
    /// The conversation whose KV cache may be reused
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// Compute the whole prompt, whatever is cached
    #[arg(long)]
    pub cold: bool,
    /// The task's id, a UUID; the same id with the same request is the same task
    #[arg(long, value_name = "UUID")]
    pub task_id: Option<TaskId>,

    /// Most tokens to generate
    #[arg(long, value_name = "N", help_heading = "Generation")]
    pub max_tokens: Option<u32>,
    /// Context the task needs, prompt and output together, in tokens
    #[arg(long, value_name = "N", help_heading = "Generation")]
    pub ctx: Option<u32>,
    /// Sampling seed, 0 to 4294967294
    #[arg(long, value_name = "N", help_heading = "Generation")]
    pub seed: Option<u32>,
    /// Only a pool that promises byte-exact repeats
    #[arg(long, help_heading = "Generation")]
    pub strict: bool,
    /// 0 (greedy) to 2
    #[arg(long, value_name = "X", help_heading = "Generation")]
    pub temperature: Option<f64>,
    /// Nucleus sampling, above 0 up to 1
    #[arg(long, value_name = "X", help_heading = "Generation")]
    pub top_p: Option<f64>,
    /// Sample from the K most likely tokens; 0 = off
    #[arg(long, value_name = "K", help_heading = "Generation")]
    pub top_k: Option<u32>,
    /// Least probability relative to the most likely token, 0 to 1
    #[arg(long, value_name = "X", help_heading = "Generation")]
    pub min_p: Option<f64>,
    /// A text that ends the output; may be repeated
    #[arg(long, value_name = "TEXT", help_heading = "Generation")]
    pub stop: Vec<String>,

    /// Where it may run
    #[command(flatten)]
    pub placement: PlacementArgs,
}

impl TaskArgs {
    /// The request, checked as far as that needs no model. `prompt` is what [`prompt`](Self::prompt) stands for.
    ///
    /// # Errors
    /// The first field that breaks its rule.
    pub fn request(&self, task_id: TaskId, prompt: String) -> Result<TaskRequest, FieldError> {
        let (workload, prompt, messages) = self.input(prompt);
        let request = TaskRequest {
            model_ref: self.model.clone(),
            workload,
            prompt,
            messages,
            inputs: None,
            query: None,
            task_id: Some(task_id),
            session_id: self.session.clone(),
            engine: self.placement.engine,
            ctx: self.ctx,
            max_tokens: self.max_tokens,
            priority: self.priority,
            deadline_ms: self.deadline,
            expected_tokens: None,
            seed: self.seed,
            determinism: if self.strict {
                Determinism::Strict
            } else {
                Determinism::BestEffort
            },
            sampler_profile_version: None,
            sampling: self.sampling(),
            kv_hint: if self.cold { KvHint::Cold } else { KvHint::Reuse },
            output_mode: None,
            placement: self.placement.overrides(),
        };
        request.validate(&Limits::CONTRACT)?;
        Ok(request)
    }

    fn input(&self, prompt: String) -> (Workload, Option<String>, Option<Vec<Message>>) {
        if !self.chat {
            return (Workload::Completion, Some(prompt), None);
        }
        let system = self.system.clone().map(|text| Message::new(Role::System, text));
        let messages = system
            .into_iter()
            .chain([Message::new(Role::User, prompt)])
            .collect();
        (Workload::Chat, None, Some(messages))
    }

    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            stop: self.stop.clone(),
            ..Sampling::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;
    use serde_json::{Value, json};
    use uuid::Uuid;

    /// What `run` with these arguments sends, without what is always sent.
    fn sent(arguments: &[&str]) -> Result<Value, String> {
        let line = ["llama-orch", "run", "tiny", "hi"].iter().chain(arguments);
        let cli = Cli::try_parse_from(line).map_err(|e| e.to_string())?;
        let Command::Run(task) = cli.command else {
            return Err("not run".into());
        };
        let prompt = task.prompt.clone();
        let request = task
            .request(TaskId::new(Uuid::nil()), prompt)
            .map_err(|e| e.to_string())?;
        let mut value = serde_json::to_value(request).map_err(|e| e.to_string())?;
        for always in ["model_ref", "task_id", "priority", "determinism", "kv_hint"] {
            assert!(
                value.as_object_mut().unwrap().remove(always).is_some(),
                "{always}"
            );
        }
        Ok(value)
    }

    #[test]
    fn nothing_is_sent_that_was_not_said() {
        let expected = json!({"workload": "completion", "prompt": "hi", "sampling": {}});
        assert_eq!(sent(&[]).unwrap(), expected);
    }

    #[test]
    fn a_chat_has_messages_instead_of_a_prompt() {
        let value = sent(&["--chat", "--system", "be brief"]).unwrap();
        assert_eq!(value["workload"], "chat");
        let expected = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]);
        assert_eq!(value["messages"], expected);
        assert_eq!(value.get("prompt"), None);
    }

    #[test]
    fn placement_options_choose_the_mode() {
        let pinned = sent(&["--pin", "gpu1", "--no-fallback"]).unwrap();
        let expected = json!({"mode": "pin", "pin_pool_id": "gpu1", "allow_fallback": false});
        assert_eq!(pinned["placement"], expected);
        let preferred = sent(&["--prefer", "a,b", "--avoid", "c"]).unwrap();
        let expected = json!({"mode": "prefer", "prefer_pools": ["a", "b"], "avoid_pools": ["c"], "allow_fallback": true});
        assert_eq!(preferred["placement"], expected);
    }

    #[test]
    fn generation_options_are_sent() {
        let line = [
            "--max-tokens",
            "5",
            "--seed",
            "7",
            "--temperature",
            "0",
            "--stop",
            "a",
            "--stop",
            "b",
        ];
        let value = sent(&line).unwrap();
        assert_eq!(value["max_tokens"], 5);
        assert_eq!(value["seed"], 7);
        assert_eq!(value["sampling"], json!({"temperature": 0.0, "stop": ["a", "b"]}));
        assert_eq!(sent(&["--deadline", "2s"]).unwrap()["deadline_ms"], 2000);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        for (line, expected) in [
            (&["--pin", "a", "--prefer", "b"][..], "cannot be used with"),
            (&["--system", "x"], "--chat"),
            (&["--priority", "urgent"], "interactive, batch"),
            (&["--pin", "../x"], "PoolId has '.'"),
            (&["--deadline", "5"], "500ms, 30s, 2m or 1h"),
            (&["--temperature", "3"], "sampling.temperature: is 3"),
            (&["--max-tokens", "0"], "max_tokens: must be at least 1"),
            (&["--seed", "4294967295"], "seed: must be 0 to 4294967294"),
        ] {
            let error = sent(line).unwrap_err();
            assert!(error.contains(expected), "{line:?}: {error}");
        }
    }
}
