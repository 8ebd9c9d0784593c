//! Tasks: the receipt of a submission, one task in full, many in a table.

use api_types::{TaskList, TaskReceipt, TaskState, TaskStatus};

use super::table::{Look, Tone, cell, draw, pairs, toned};
use super::text::{duration, queue, wire};

/// What follows the id of a submitted task.
pub(crate) fn receipt(receipt: &TaskReceipt) -> String {
    let parts = [
        Some(format!(
            "▸ {}",
            queue(receipt.queue_position, receipt.predicted_start_ms)
        )),
        receipt
            .predicted_end_ms
            .map(|ms| format!("ends in about {}", duration(ms))),
        receipt.pool_id.as_ref().map(|pool| format!("likely on {pool}")),
        Some(format!("follow it: llama-orch task stream {}", receipt.task_id)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

pub(crate) fn show(task: &TaskStatus) -> String {
    let state = match &task.finish_reason {
        Some(reason) => format!("{} ({})", task.state, wire(reason)),
        None => task.state.to_string(),
    };
    let ran_on = task.pool_id.as_ref().map(|pool| match &task.replica_id {
        Some(replica) => format!("{pool}/{replica}"),
        None => pool.to_string(),
    });
    let error = task.error.as_ref();
    pairs(&[
        ("task", Some(task.task_id.to_string())),
        ("state", Some(state)),
        ("model", Some(task.model_ref.as_str().to_owned())),
        ("priority", Some(task.priority.to_string())),
        ("session", task.session_id.as_ref().map(ToString::to_string)),
        (
            "queue",
            task.queue_position
                .map(|position| queue(position, task.predicted_start_ms)),
        ),
        (
            "ends",
            task.predicted_end_ms
                .map(|ms| format!("in about {}", duration(ms))),
        ),
        ("pool", ran_on),
        (
            "tokens",
            Some(format!(
                "{} in, {} out",
                task.usage.tokens_in, task.usage.tokens_out
            )),
        ),
        ("times", times(task)),
        ("seed", Some(task.seed.to_string())),
        (
            "error",
            error.map(|body| format!("{}: {}", wire(&body.code), body.message)),
        ),
        ("hint", error.and_then(|body| body.hint.clone())),
        ("correlation", Some(task.correlation_id.to_string())),
    ])
}

fn times(task: &TaskStatus) -> Option<String> {
    let timings = &task.timings;
    let parts = [
        ("queued", timings.queue_time_ms),
        ("first token", timings.first_token_ms),
        ("decode", timings.decode_time_ms),
    ];
    let known = parts
        .into_iter()
        .filter_map(|(name, ms)| Some(format!("{name} {}", duration(ms?))));
    let known: Vec<String> = known.collect();
    (!known.is_empty()).then(|| known.join(", "))
}

pub(crate) fn list(list: &TaskList, look: Look) -> String {
    let header = ["TASK", "STATE", "PRIORITY", "MODEL", "POOL", "QUEUE", "TOKENS"];
    let rows = list.tasks.iter().map(|task| {
        let queue = task
            .queue_position
            .map(|position| queue(position, task.predicted_start_ms));
        let pool = task.pool_id.as_ref().map(ToString::to_string);
        vec![
            cell(task.task_id.to_string()),
            toned(task.state.as_str(), tone(task.state), look),
            cell(task.priority.as_str()),
            cell(task.model_ref.as_str()),
            cell(pool.as_deref().unwrap_or("-")),
            cell(queue.as_deref().unwrap_or("-")),
            cell(format!("{}/{}", task.usage.tokens_in, task.usage.tokens_out)),
        ]
    });
    draw(look, &header, rows)
}

fn tone(state: TaskState) -> Tone {
    match state {
        TaskState::Running | TaskState::Completed => Tone::Good,
        TaskState::Queued | TaskState::Canceled => Tone::Doubtful,
        TaskState::Failed | TaskState::Expired | TaskState::Evicted | TaskState::Interrupted => Tone::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn a_receipt_tells_what_to_expect() {
        insta::assert_snapshot!("task_receipt", receipt(&samples::receipt()));
    }

    #[test]
    fn one_task_in_full() {
        let list = samples::tasks();
        insta::assert_snapshot!("task_show_queued", show(&list.tasks[0]));
        insta::assert_snapshot!("task_show_failed", show(&list.tasks[1]));
    }

    #[test]
    fn many_tasks_in_a_table() {
        insta::assert_snapshot!("task_list", list(&samples::tasks(), Look::Piped));
    }
}
