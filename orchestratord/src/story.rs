//! The sentences of a task's story that more than one place tells: in its stream and in the log.

use api_types::{EndEvent, FinishReason, NarrationEvent, TaskResult};

/// Who tells it.
pub const ACTOR: &str = "orchestratord";

/// An engine broke under a task.
pub const FAILURE: &str = "The engine fails the task.";

/// One line of the story as a frame of the stream.
#[must_use]
pub fn event(action: &'static str, human: String) -> NarrationEvent {
    NarrationEvent {
        human,
        actor: ACTOR.into(),
        action: action.into(),
    }
}

/// How a task that got its `end` ended.
#[must_use]
pub fn end_sentence(end: &EndEvent) -> String {
    match end.result.as_deref() {
        Some(TaskResult::Embedding { embeddings, .. }) => {
            return format!("Embeds {} inputs of {} tokens.", embeddings.len(), end.tokens_in);
        }
        Some(TaskResult::Rerank { scores }) => {
            return format!("Scores {} inputs of {} tokens.", scores.len(), end.tokens_in);
        }
        None => {}
    }
    let why = match end.finish_reason {
        FinishReason::Stop => "at its own end",
        FinishReason::Length => "at its token limit",
        FinishReason::Deadline => "at its deadline",
        FinishReason::Canceled => "by a cancel",
    };
    format!("Ends {why} after {} tokens.", end.tokens_out)
}
