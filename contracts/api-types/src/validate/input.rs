//! Which input belongs to which workload, and how much of it there may be (ORCH-3520).

use super::{Checked, FieldError, Limits, ensure};
use crate::task::{Message, Role, Sampling, TaskRequest, Workload};

impl TaskRequest {
    pub(super) fn check_input(&self, limits: &Limits) -> Checked {
        self.check_fields()?;
        self.check_prompt(limits)?;
        self.check_messages(limits)?;
        self.check_inputs(limits)
    }

    /// Exactly the fields that the workload reads.
    fn check_fields(&self) -> Checked {
        let wants = match self.workload {
            Workload::Completion => "prompt",
            Workload::Chat => "messages",
            Workload::Embedding | Workload::Rerank => "inputs",
        };
        for (field, given) in [
            ("prompt", self.prompt.is_some()),
            ("messages", self.messages.is_some()),
            ("inputs", self.inputs.is_some()),
        ] {
            ensure(given == (field == wants), field, || self.misplaced(given, wants))?;
        }
        let reranks = self.workload == Workload::Rerank;
        ensure(self.query.is_some() == reranks, "query", || {
            self.misplaced(self.query.is_some(), "inputs")
        })
    }

    fn misplaced(&self, given: bool, wants: &str) -> String {
        if given {
            format!(
                "does not belong to workload {}, which takes {wants}",
                self.workload
            )
        } else {
            format!("is required for workload {}", self.workload)
        }
    }

    fn check_prompt(&self, limits: &Limits) -> Checked {
        let Some(prompt) = &self.prompt else { return Ok(()) };
        ensure(!prompt.is_empty(), "prompt", || "must not be empty".into())?;
        bytes("prompt", prompt.len(), limits)
    }

    fn check_messages(&self, limits: &Limits) -> Checked {
        let Some(messages) = &self.messages else {
            return Ok(());
        };
        count("messages", messages.len(), limits.messages)?;
        // An assistant may have said nothing, and a tool may give nothing.
        let silent = |message: &Message| {
            matches!(message.role, Role::System | Role::User) && message.content.is_empty()
        };
        if let Some(index) = messages.iter().position(silent) {
            return Err(empty_item("messages", index));
        }
        bytes("messages", self.input_bytes(), limits)
    }

    fn check_inputs(&self, limits: &Limits) -> Checked {
        let Some(inputs) = &self.inputs else { return Ok(()) };
        count("inputs", inputs.len(), limits.inputs)?;
        if let Some(index) = inputs.iter().position(String::is_empty) {
            return Err(empty_item("inputs", index));
        }
        ensure(self.query.as_deref() != Some(""), "query", || {
            "must not be empty".into()
        })?;
        bytes("inputs", self.input_bytes(), limits)
    }

    /// What steers a generation has no meaning without one, and is not dropped silently.
    pub(super) fn check_generation(&self) -> Checked {
        if self.workload.generates() {
            return Ok(());
        }
        for (field, given) in [
            ("max_tokens", self.max_tokens.is_some()),
            ("expected_tokens", self.expected_tokens.is_some()),
            ("seed", self.seed.is_some()),
            ("sampler_profile_version", self.sampler_profile_version.is_some()),
            ("sampling", self.sampling != Sampling::default()),
        ] {
            ensure(!given, field, || {
                format!(
                    "does not belong to workload {}, which generates no tokens",
                    self.workload
                )
            })?;
        }
        Ok(())
    }
}

fn count(field: &'static str, given: usize, most: usize) -> Checked {
    ensure((1..=most).contains(&given), field, || {
        format!("has {given} items, 1 to {most} are allowed")
    })
}

fn bytes(field: &'static str, given: usize, limits: &Limits) -> Checked {
    let most = limits.prompt_bytes;
    ensure(given <= most, field, || {
        format!("has {given} bytes, at most {most} are allowed")
    })
}

fn empty_item(field: &'static str, index: usize) -> FieldError {
    FieldError {
        field,
        rule: format!("item {index} is empty"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A request of the workload with these fields beside the model, and whether it passes.
    fn check(workload: &str, fields: Value) -> Result<(), String> {
        let mut request = json!({"model_ref": "m", "workload": workload});
        let extra = fields.as_object().cloned().unwrap_or_default();
        request.as_object_mut().unwrap().extend(extra);
        let request: TaskRequest = serde_json::from_value(request).map_err(|e| e.to_string())?;
        request.validate(&Limits::CONTRACT).map_err(|e| e.to_string())
    }

    /// Every workload against every set of input fields: only its own set passes, and the first wrong field is named.
    #[test]
    fn each_workload_takes_its_own_fields_and_no_others() {
        let all = json!({"prompt": "p", "messages": [{"role": "user", "content": "c"}], "inputs": ["i"], "query": "q"});
        for (workload, own) in [
            ("completion", &["prompt"][..]),
            ("chat", &["messages"]),
            ("embedding", &["inputs"]),
            ("rerank", &["inputs", "query"]),
        ] {
            for set in 0..16_u8 {
                let given: Vec<&str> = ["prompt", "messages", "inputs", "query"]
                    .into_iter()
                    .enumerate()
                    .filter(|(bit, _)| set & (1 << bit) != 0)
                    .map(|(_, name)| name)
                    .collect();
                let fields: serde_json::Map<String, Value> = given
                    .iter()
                    .map(|&name| (name.to_owned(), all[name].clone()))
                    .collect();
                let wrong = ["prompt", "messages", "inputs", "query"]
                    .into_iter()
                    .find(|name| given.contains(name) != own.contains(name));
                match (check(workload, fields.into()), wrong) {
                    (Ok(()), None) => {}
                    (Err(error), Some(field)) => {
                        assert!(
                            error.starts_with(&format!("{field}: ")),
                            "{workload} {given:?}: {error}"
                        );
                        assert!(error.contains(workload), "{workload} {given:?}: {error}");
                    }
                    (found, expected) => panic!("{workload} {given:?}: {found:?}, expected {expected:?}"),
                }
            }
        }
    }

    #[test]
    fn counts_and_sizes_are_named_with_their_limits() {
        let message = |content: &str| json!({"role": "user", "content": content});
        let half = "x".repeat(600_000);
        for (workload, fields, expected) in [
            (
                "chat",
                json!({"messages": []}),
                "messages: has 0 items, 1 to 1024 are allowed",
            ),
            (
                "chat",
                json!({"messages": vec![message("a"); 1025]}),
                "messages: has 1025 items, 1 to 1024 are allowed",
            ),
            (
                "chat",
                json!({"messages": [message("a"), message("")]}),
                "messages: item 1 is empty",
            ),
            (
                "chat",
                json!({"messages": [message(&half), message(&half)]}),
                "messages: has 1200000 bytes, at most 1048576 are allowed",
            ),
            (
                "embedding",
                json!({"inputs": []}),
                "inputs: has 0 items, 1 to 2048 are allowed",
            ),
            (
                "embedding",
                json!({"inputs": vec!["a"; 2049]}),
                "inputs: has 2049 items, 1 to 2048 are allowed",
            ),
            (
                "embedding",
                json!({"inputs": ["a", ""]}),
                "inputs: item 1 is empty",
            ),
            (
                "rerank",
                json!({"inputs": ["a"], "query": ""}),
                "query: must not be empty",
            ),
            (
                "rerank",
                json!({"inputs": [half], "query": "q".repeat(500_000)}),
                "inputs: has 1100000 bytes, at most 1048576 are allowed",
            ),
        ] {
            assert_eq!(check(workload, fields).unwrap_err(), expected, "{workload}");
        }
    }

    #[test]
    fn an_unknown_role_is_refused_and_the_four_are_not() {
        let chat = |role: &str| check("chat", json!({"messages": [{"role": role, "content": "hi"}]}));
        for role in Role::ALL {
            assert_eq!(chat(role.as_str()), Ok(()));
        }
        let error = chat("wizard").unwrap_err();
        assert!(error.contains("wizard") && error.contains("assistant"), "{error}");
    }

    #[test]
    fn an_assistant_or_a_tool_may_be_silent() {
        for role in ["assistant", "tool"] {
            let messages = json!([{"role": "user", "content": "hi"}, {"role": role, "content": ""}]);
            assert_eq!(check("chat", json!({"messages": messages})), Ok(()));
        }
    }

    #[test]
    fn what_steers_a_generation_is_refused_where_there_is_none() {
        for (field, value) in [
            ("max_tokens", json!(5)),
            ("expected_tokens", json!(5)),
            ("seed", json!(5)),
            ("sampler_profile_version", json!("v1")),
            ("sampling", json!({"temperature": 0})),
        ] {
            for (workload, mut fields) in [
                ("embedding", json!({"inputs": ["a"]})),
                ("rerank", json!({"inputs": ["a"], "query": "q"})),
            ] {
                fields[field] = value.clone();
                let error = check(workload, fields).unwrap_err();
                assert!(
                    error.starts_with(&format!("{field}: does not belong to")),
                    "{error}"
                );
            }
            let mut chat = json!({"messages": [{"role": "user", "content": "hi"}]});
            chat[field] = value.clone();
            assert_eq!(check("chat", chat), Ok(()), "{field}");
        }
    }
}
