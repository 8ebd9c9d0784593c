//! The last words of an engine that broke, from the pool-managerd that watches it.

use std::time::Duration;

use api_types::link::{EngineLog, EngineLogQuery};
use llama_orch_client::NodeClient;

use crate::receipt::RunFacts;

/// Lines quoted in an error.
const LINES: u32 = 4;

/// Longest quotation, bytes: an error is read by people.
const MAX_QUOTE: usize = 600;

/// How long the node may take to see the process end and its output drained. Beyond it the client
/// gets its error without the engine's words.
const PATIENCE: Duration = Duration::from_millis(1000);

/// Asks nodes for the last lines of their engines.
pub struct EngineLogs {
    nodes: NodeClient,
}

impl EngineLogs {
    /// Asks with the installation's token.
    #[must_use]
    pub const fn new(nodes: NodeClient) -> Self {
        Self { nodes }
    }

    /// How the process ended and what it said last; `None` when the node cannot tell in time.
    pub async fn last_words(&self, facts: &RunFacts) -> Option<String> {
        let query = EngineLogQuery {
            replica_id: facts.replica_id.clone(),
            generation: Some(facts.generation),
            tail: Some(LINES),
            follow: None,
            wait_exit_ms: Some(PATIENCE.as_millis() as u64),
        };
        match self
            .nodes
            .engine_log(&facts.node_address, &facts.pool_id, &query)
            .await
        {
            Ok(log) => quote(&log),
            Err(error) => {
                tracing::debug!(%error, pool_id = %facts.pool_id, "the engine's last lines are not available");
                None
            }
        }
    }
}

fn quote(log: &EngineLog) -> Option<String> {
    let said = log.lines.join(" | ");
    let start = said.len().saturating_sub(MAX_QUOTE);
    let start = (start..=said.len()).find(|&at| said.is_char_boundary(at))?;
    let said = &said[start..];
    match (&log.exit, said) {
        (None, "") => None,
        (Some(exit), "") => Some(format!("the engine ended with {exit}")),
        (None, said) => Some(format!("the engine's last lines: {said}")),
        (Some(exit), said) => Some(format!("the engine ended with {exit}, its last lines: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(exit: Option<&str>, lines: &[&str]) -> EngineLog {
        EngineLog {
            pool_id: "p".parse().unwrap(),
            replica_id: "r0".parse().unwrap(),
            generation: 1,
            exit: exit.map(Into::into),
            lines: lines.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn quotes_are_bounded_at_a_character() {
        let long = "é".repeat(1000);
        let quoted = quote(&log(None, &[&long])).unwrap();
        assert!(quoted.len() <= MAX_QUOTE + 40, "{}", quoted.len());
    }

    #[test]
    fn nothing_known_is_nothing_said() {
        assert_eq!(quote(&log(None, &[])), None);
        assert_eq!(
            quote(&log(Some("signal 9"), &[])).unwrap(),
            "the engine ended with signal 9"
        );
    }
}
