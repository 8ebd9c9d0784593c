//! Records to write.

use api_types::task::{Timings, Usage};
use api_types::{CorrelationId, ErrorBody, ErrorCode, Priority, TaskEvent, TaskId, TaskReceipt, TaskState};
use task_journal::{AdmissionRecord, Boot, EndRecord, Fingerprint, LifeRecord, Op, PromptLength};
use uuid::Uuid;

pub(crate) fn id(n: u32) -> TaskId {
    TaskId::new(Uuid::from_u128(u128::from(n)))
}

pub(crate) fn admit(n: u32, seq: u64, filler: usize) -> Op {
    let request = format!(r#"{{"model_ref":"tiny","prompt":"{}"}}"#, "x".repeat(filler));
    let admission = AdmissionRecord {
        seq,
        priority: Priority::Interactive,
        request: serde_json::from_str(&request).unwrap(),
        fingerprint: Fingerprint([n as u8; 32]),
        prompt: PromptLength::AtMost(9),
        total: PromptLength::Exactly(7),
        correlation: CorrelationId::parse("c").unwrap(),
        identity: "localhost".to_owned(),
        receipt: TaskReceipt {
            task_id: id(n),
            queue_position: 0,
            predicted_start_ms: None,
            predicted_end_ms: None,
            backoff_ms: 0,
            pool_id: None,
            stream_url: String::new(),
            budgets: api_types::BudgetsRemaining::default(),
        },
    };
    Op::Admit(id(n), Box::new(admission), Box::new(life(TaskState::Queued, 0)))
}

pub(crate) fn life(state: TaskState, attempts: u32) -> LifeRecord {
    let end = state.is_terminal().then(|| EndRecord {
        event: TaskEvent::Error(Box::new(ErrorBody::new(ErrorCode::Internal, "x"))),
        cut: false,
        usage: Usage::default(),
        timings: Timings::default(),
    });
    LifeRecord {
        state,
        epoch: 0,
        attempts,
        kept: Vec::new(),
        run: None,
        elapsed_ms: 0,
        at: Boot::current().now(),
        end,
    }
}

pub(crate) fn edge(n: u32, state: TaskState, attempts: u32) -> Op {
    Op::Edge(id(n), Box::new(life(state, attempts)))
}
