//! The options of `embed` and `rerank`: work whose answer comes whole, and the request they make.

use api_types::{
    Determinism, FieldError, KvHint, Limits, ModelRef, Priority, Sampling, TaskId, TaskRequest, Workload,
};
use clap::Args;

use super::duration::milliseconds;
use super::placement::PlacementArgs;

/// Texts to embed.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// The model: a served name, a catalog id, or a reference such as hf:org/repo/file.gguf
    pub model: ModelRef,
    /// The texts to embed; a single - reads them from stdin, one a line
    #[arg(required = true, value_name = "TEXT")]
    pub texts: Vec<String>,
    /// What holds for both commands
    #[command(flatten)]
    pub common: WholeArgs,
}

/// Texts to rank.
#[derive(Debug, Args)]
pub struct RerankArgs {
    /// The model: a served name, a catalog id, or a reference such as hf:org/repo/file.gguf
    pub model: ModelRef,
    /// What the documents are ranked against
    #[arg(long, value_name = "TEXT")]
    pub query: String,
    /// The documents; a single - reads them from stdin, one a line
    #[arg(required = true, value_name = "DOC")]
    pub documents: Vec<String>,
    /// What holds for both commands
    #[command(flatten)]
    pub common: WholeArgs,
}

/// What can be said about either.
#[derive(Debug, Args)]
pub struct WholeArgs {
    /// interactive (somebody waits) or batch
    #[arg(long, value_name = "CLASS", default_value_t)]
    pub priority: Priority,
    /// The task must have ended this long after admission: 500ms, 30s, 2m, 1h
    #[arg(long, value_name = "DURATION", value_parser = milliseconds)]
    pub deadline: Option<u64>,
    /// Only a pool that promises byte-exact repeats
    #[arg(long)]
    pub strict: bool,
    /// The task's id, a UUID; the same id with the same request is the same task
    #[arg(long, value_name = "UUID")]
    pub task_id: Option<TaskId>,
    /// Where it may run
    #[command(flatten)]
    pub placement: PlacementArgs,
}

impl EmbedArgs {
    /// The request, checked as far as that needs no model. `inputs` is what the texts stand for.
    ///
    /// # Errors
    /// The first field that breaks its rule.
    pub fn request(&self, task_id: TaskId, inputs: Vec<String>) -> Result<TaskRequest, FieldError> {
        let request = self.common.request(&self.model, task_id);
        checked(TaskRequest {
            workload: Workload::Embedding,
            inputs: Some(inputs),
            ..request
        })
    }
}

impl RerankArgs {
    /// The request, checked as far as that needs no model. `inputs` is what the documents stand for.
    ///
    /// # Errors
    /// The first field that breaks its rule.
    pub fn request(&self, task_id: TaskId, inputs: Vec<String>) -> Result<TaskRequest, FieldError> {
        let request = self.common.request(&self.model, task_id);
        checked(TaskRequest {
            workload: Workload::Rerank,
            inputs: Some(inputs),
            query: Some(self.query.clone()),
            ..request
        })
    }
}

fn checked(request: TaskRequest) -> Result<TaskRequest, FieldError> {
    request.validate(&Limits::CONTRACT)?;
    Ok(request)
}

impl WholeArgs {
    /// A request without its workload.
    fn request(&self, model: &ModelRef, task_id: TaskId) -> TaskRequest {
        TaskRequest {
            model_ref: model.clone(),
            workload: Workload::default(),
            prompt: None,
            messages: None,
            inputs: None,
            query: None,
            task_id: Some(task_id),
            session_id: None,
            engine: self.placement.engine,
            ctx: None,
            max_tokens: None,
            priority: self.priority,
            deadline_ms: self.deadline,
            expected_tokens: None,
            seed: None,
            determinism: if self.strict {
                Determinism::Strict
            } else {
                Determinism::BestEffort
            },
            sampler_profile_version: None,
            sampling: Sampling::default(),
            kv_hint: KvHint::default(),
            output_mode: None,
            placement: self.placement.overrides(),
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

    /// What a command line sends, without what is always sent.
    fn sent(line: &[&str]) -> Result<Value, String> {
        let cli = Cli::try_parse_from(["llama-orch"].iter().chain(line)).map_err(|e| e.to_string())?;
        let id = TaskId::new(Uuid::nil());
        let request = match cli.command {
            Command::Embed(args) => args.request(id, args.texts.clone()),
            Command::Rerank(args) => args.request(id, args.documents.clone()),
            _ => return Err("neither".into()),
        };
        let request = request.map_err(|e| e.to_string())?;
        let mut value = serde_json::to_value(request).map_err(|e| e.to_string())?;
        for always in [
            "model_ref",
            "task_id",
            "priority",
            "determinism",
            "kv_hint",
            "sampling",
        ] {
            assert!(
                value.as_object_mut().unwrap().remove(always).is_some(),
                "{always}"
            );
        }
        Ok(value)
    }

    /// ORCH-3527.
    #[test]
    fn each_command_sends_its_own_fields() {
        let embed = sent(&["embed", "tiny", "a", "b", "--pin", "gpu1"]).unwrap();
        assert_eq!(embed["placement"]["pin_pool_id"], "gpu1");
        assert_eq!(
            (&embed["workload"], &embed["inputs"]),
            (&json!("embedding"), &json!(["a", "b"]))
        );
        let rerank = sent(&["rerank", "tiny", "--query", "q", "a", "b", "--deadline", "2s"]).unwrap();
        let expected = json!({"workload": "rerank", "query": "q", "inputs": ["a", "b"], "deadline_ms": 2000});
        assert_eq!(rerank, expected);
    }

    #[test]
    fn what_is_missing_or_empty_is_named() {
        for (line, expected) in [
            (&["embed", "tiny"][..], "<TEXT>"),
            (&["rerank", "tiny", "a"], "--query"),
            (&["rerank", "tiny", "--query", "q"], "<DOC>"),
            (&["embed", "tiny", "a", ""], "inputs: item 1 is empty"),
            (
                &["rerank", "tiny", "--query", "", "a"],
                "query: must not be empty",
            ),
            (&["embed", "tiny", "a", "--max-tokens", "3"], "--max-tokens"),
        ] {
            let error = sent(line).unwrap_err();
            assert!(error.contains(expected), "{line:?}: {error}");
        }
    }
}
