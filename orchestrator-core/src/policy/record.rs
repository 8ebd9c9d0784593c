//! A decision together with what it was made on: what is shown, stored and replayed (ORCH-3962,
//! REQ-DECISION-REPLAY).

use std::borrow::Cow;

use api_types::TaskId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::decision::{DecisionLog, Outcome, PlacementDecision, PlacementInput};
use super::explain::explain;
use super::refusal::Infeasible;
use super::score::Score;
use super::{JobSpec, POLICY_VERSION, PoolView, Snapshot, decide};

/// When in a task's life a decision was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing was enqueued: the answer to a question.
    Preview,
    /// The task waits; this is the latest evaluation, made for this answer.
    Waiting,
    /// The task left the queue without a slot; this is the evaluation at that moment.
    Left,
    /// The task got its slot by this decision.
    Placed,
}

/// A decision, how it was reached, and on what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionRecord {
    /// The task; absent in a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// When in the task's life it was made.
    pub stage: Stage,
    /// One plain sentence.
    pub human: String,
    /// Where the task goes.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How that was reached.
    pub decision: DecisionLog,
    /// `sha256:…` of `input` as compact JSON with its fields in the order shown; absent with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_digest: Option<String>,
    /// What the decision was made on; absent once it had to make room for later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<PlacementInput<'static>>,
}

impl DecisionRecord {
    /// The record of a decision whose input is at hand.
    #[must_use]
    pub fn new(stage: Stage, job: JobSpec, snapshot: Snapshot, decision: PlacementDecision) -> Self {
        let input = PlacementInput {
            job: Cow::Owned(job),
            snapshot: Cow::Owned(snapshot),
        };
        Self {
            task_id: None,
            stage,
            human: explain(&input, &decision),
            outcome: decision.outcome,
            decision: decision.log,
            input_digest: Some(input.digest()),
            input: Some(input),
        }
    }

    /// The record of a decision whose input is not kept any more.
    #[must_use]
    pub fn without_input(stage: Stage, human: String, decision: PlacementDecision) -> Self {
        Self {
            task_id: None,
            stage,
            human,
            outcome: decision.outcome,
            decision: decision.log,
            input_digest: None,
            input: None,
        }
    }

    /// Names the task.
    #[must_use]
    pub fn of(mut self, task: TaskId) -> Self {
        self.task_id = Some(task);
        self
    }

    /// Decides again on the stored input and compares.
    #[must_use]
    pub fn replay(&self) -> Replay {
        let made_by = self.decision.policy_version;
        let Some(input) = &self.input else {
            return Replay::NoInput;
        };
        if made_by != POLICY_VERSION {
            return Replay::OtherRules {
                made_by,
                own: POLICY_VERSION,
            };
        }
        if self.input_digest.as_deref() != Some(input.digest().as_str()) {
            return Replay::OtherInput;
        }
        let again = decide(input);
        if again.outcome == self.outcome && again.log == self.decision {
            Replay::Agrees
        } else {
            Replay::Differs(Box::new(again))
        }
    }
}

/// What came of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// The same decision, to the last field.
    Agrees,
    /// The same input gives another decision.
    Differs(Box<PlacementDecision>),
    /// The decision was made under other rules than those at hand.
    OtherRules {
        /// The rules it was made by.
        made_by: u16,
        /// The rules at hand.
        own: u16,
    },
    /// The input is not the one the digest was made of.
    OtherInput,
    /// The input is not kept any more.
    NoInput,
}

impl PlacementInput<'_> {
    /// `sha256:…` of the input as compact JSON: equal inputs have equal digests, wherever they are
    /// computed.
    #[must_use]
    pub fn digest(&self) -> String {
        // Strings, whole numbers and lists of them can always be written as JSON.
        let text = serde_json::to_vec(self).unwrap_or_default();
        format!("sha256:{}", hex::encode(Sha256::digest(text)))
    }
}

/// What a decision had to say about one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passed every filter; 0 is the chosen one.
    Candidate {
        /// Its place among the candidates.
        rank: usize,
    },
    /// It failed a filter.
    LeftOut(Infeasible),
}

/// Every pool of the input with its verdict: the candidates in order of their score, then the
/// others by id.
#[must_use]
pub fn verdicts<'i>(input: &'i PlacementInput<'_>) -> Vec<(&'i PoolView, Verdict)> {
    let (job, pools) = (input.job.as_ref(), input.snapshot.pools.as_slice());
    let (mut candidates, mut others) = (Vec::new(), Vec::new());
    for pool in pools {
        match Infeasible::of(job, pool) {
            None => candidates.push((Score::new(job, pool), pool)),
            Some(infeasible) => others.push((pool, Verdict::LeftOut(infeasible))),
        }
    }
    candidates.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    others.sort_unstable_by(|a, b| a.0.pool_id.cmp(&b.0.pool_id));
    let ranked = candidates.into_iter().enumerate();
    ranked
        .map(|(rank, (_, pool))| (pool, Verdict::Candidate { rank }))
        .chain(others)
        .collect()
}
