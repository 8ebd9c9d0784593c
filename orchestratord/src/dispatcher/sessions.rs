//! Sessions as the dispatcher keeps them: the table, what live tasks hold of it, and what the API
//! shows. All arithmetic is [`orchestrator_core::session`]'s.
//!
//! A session belongs to the identity that made it (REQ-SESSION-OWNER): the same id of another identity is
//! another session, so that nobody sees, spends or ends what is not theirs. Sessions live in memory.

use std::collections::HashMap;

use api_types::{
    BudgetsRemaining, Cost, EndEvent, ErrorBody, ErrorCode, KvHint, PoolId, SessionId, SessionStatus,
    TaskEvent, TaskId, TaskRequest,
};
use orchestrator_core::policy::JobSpec;
use orchestrator_core::session::budget::{Ask, Budget, Grant, Overdrawn, Used};
use orchestrator_core::session::{Hold, Home, Limits, Refusal, Session, Sessions, Turn};
use tokio::time::Instant;

use super::Dispatcher;
use super::handle::{PromptTokens, Tokenizer};
use super::tasks::Task;
use crate::receipt::RunFacts;

/// Whose session it is, and its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey {
    /// Who made it, as logged.
    pub identity: String,
    /// Its id.
    pub id: SessionId,
}

/// Sessions and what live tasks hold of them.
#[derive(Debug)]
pub(super) struct SessionBook {
    table: Sessions<SessionKey>,
    holds: HashMap<TaskId, Hold<SessionKey>>,
}

impl SessionBook {
    /// No sessions.
    #[must_use]
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            table: Sessions::new(limits),
            holds: HashMap::new(),
        }
    }

    fn grant(&self, id: &TaskId) -> Option<&Grant> {
        self.holds.get(id).map(Hold::grant)
    }

    /// Output tokens that a task's session lets it make, where that is less than it could.
    #[must_use]
    pub(super) fn output_limit(&self, id: &TaskId) -> Option<u32> {
        let tokens = self.grant(id)?.tokens_out?;
        Some(u32::try_from(tokens).unwrap_or(u32::MAX))
    }

    /// When a run that gets its slot at `leased_at` must have ended for its session's sake.
    #[must_use]
    pub(super) fn run_until(&self, id: &TaskId, leased_at: Instant) -> Option<Instant> {
        let ms = self.grant(id)?.time_ms?;
        Some(leased_at + std::time::Duration::from_millis(ms))
    }
}

/// A refused reservation.
pub(super) enum HoldRefused {
    /// It may be too much only because the prompt was not counted: this engine can.
    Uncounted(Tokenizer),
    /// The answer to the client.
    Body(Box<ErrorBody>),
}

impl Dispatcher {
    /// The pool of the session's last turn, for the policy (soft affinity).
    pub(super) fn last_pool(&self, request: &TaskRequest, identity: &str, now: Instant) -> Option<PoolId> {
        let key = key_of(request, identity)?;
        let home = self.sessions.table.home(&key, self.now_ms(now))?;
        Some(home.pool_id.clone())
    }

    /// Reserves of the session what a task may cost, before it is queued. Tasks without a session, and those
    /// that no budget limits, always pass, as long as the session has turns left.
    pub(super) fn hold(
        &mut self,
        id: TaskId,
        request: &TaskRequest,
        identity: &str,
        prompt: PromptTokens,
        now: Instant,
    ) -> Result<(), HoldRefused> {
        let Some(key) = key_of(request, identity) else {
            return Ok(());
        };
        let ask = self.ask(request, prompt);
        let now_ms = self.now_ms(now);
        match self.sessions.table.admit(&key, &ask, now_ms) {
            Ok(hold) => {
                self.sessions.holds.insert(id, hold);
                Ok(())
            }
            Err(Refusal::Turns { limit }) => Err(HoldRefused::Body(Box::new(no_turns(&key.id, limit)))),
            Err(Refusal::Budget(overdrawn)) => {
                let counts = overdrawn.budget != Budget::Time && !matches!(prompt, PromptTokens::Exactly(_));
                if counts && let Some(tokenizer) = self.tokenizer_of(request) {
                    return Err(HoldRefused::Uncounted(tokenizer));
                }
                let runs = self.sessions.holds.values().any(|hold| *hold.key() == key);
                let later = runs && overdrawn.may_pass_later();
                let retry_after = later.then(|| self.retry_after(now)).flatten();
                let body = overdraft(&key.id, &overdrawn)
                    .with_budgets(self.remaining(&key, now))
                    .with_retry_after(retry_after);
                Err(HoldRefused::Body(Box::new(ErrorBody {
                    retriable: later,
                    ..body
                })))
            }
        }
    }

    fn ask(&self, request: &TaskRequest, prompt: PromptTokens) -> Ask {
        let tokens_in = match prompt {
            PromptTokens::AtMost(tokens) | PromptTokens::Exactly(tokens) => u64::from(tokens),
            // More than any budget has: counted first.
            PromptTokens::Unbounded => u64::MAX,
        };
        let contexts = self.fleet.pools().map(|(_, pool)| pool.report.ctx_max);
        let wall = self.options.run.wall.as_millis() as u64;
        Ask {
            tokens_in,
            tokens_out: if request.workload.generates() {
                request.max_tokens.map(u64::from)
            } else {
                Some(0)
            },
            tokens_out_bound: u64::from(contexts.max().unwrap_or(0)),
            time_ms_bound: request.deadline_ms.map_or(wall, |deadline| deadline.min(wall)),
        }
    }

    /// A task that held something of a session is over: it is charged what its receipt says.
    pub(super) fn settle(&mut self, id: &TaskId, now: Instant) {
        let Some(hold) = self.sessions.holds.remove(id) else {
            return;
        };
        let at_ms = self.now_ms(now);
        let turn = self.tasks.get(id).map(|task| turn_of(task, at_ms, now));
        self.sessions.table.settle(&hold, turn.unwrap_or_default(), at_ms);
    }

    /// What the task's session may still ask for.
    pub(super) fn budgets_of(&self, task: &Task, now: Instant) -> BudgetsRemaining {
        key_of(&task.request, &task.identity)
            .map_or_else(BudgetsRemaining::default, |key| self.remaining(&key, now))
    }

    /// The same for a request that was not admitted yet.
    pub(super) fn budgets_for(
        &self,
        request: &TaskRequest,
        identity: &str,
        now: Instant,
    ) -> BudgetsRemaining {
        key_of(request, identity).map_or_else(BudgetsRemaining::default, |key| self.remaining(&key, now))
    }

    fn remaining(&self, key: &SessionKey, now: Instant) -> BudgetsRemaining {
        let limits = &self.sessions.table.limits().budgets;
        let session = self.sessions.table.get(key, self.now_ms(now));
        session.map_or_else(
            || orchestrator_core::session::budget::Ledger::default().remaining(limits),
            |session| session.ledger().remaining(limits),
        )
    }

    /// Whether the engine process that is to run a task has run its session's last turn, so that it may have the
    /// common prefix. Another pool, another process or another start of it has not.
    pub(super) fn is_warm(&self, task: &Task, facts: &RunFacts, now: Instant) -> bool {
        let Some(key) = key_of(&task.request, &task.identity) else {
            return false;
        };
        let home = self.sessions.table.home(&key, self.now_ms(now));
        task.request.kv_hint == KvHint::Reuse
            && home.is_some_and(|home| {
                (&home.pool_id, &home.replica_id, home.generation)
                    == (&facts.pool_id, &facts.replica_id, facts.generation)
            })
    }

    /// `GET /v1/sessions/{id}`.
    pub(super) fn session(&self, key: &SessionKey) -> Option<SessionStatus> {
        let now_ms = self.now_ms(Instant::now());
        let limits = self.sessions.table.limits();
        let session = self.sessions.table.get(key, now_ms)?;
        let kept = self
            .sessions
            .table
            .home(key, now_ms)
            .filter(|home| self.still_there(home));
        Some(shown(session, kept, limits, now_ms))
    }

    /// `DELETE /v1/sessions/{id}`: `false` when there is none.
    pub(super) fn end_session(&mut self, key: &SessionKey) -> bool {
        let now_ms = self.now_ms(Instant::now());
        self.sessions.table.end(key, now_ms)
    }

    pub(super) fn sweep_sessions(&mut self, now: Instant) {
        let now_ms = self.now_ms(now);
        self.sessions.table.sweep(now_ms);
    }

    /// Whether the engine process that ran a turn still takes work.
    fn still_there(&self, home: &Home) -> bool {
        let pool = self.fleet.pool(&home.pool_id).filter(|pool| pool.is_ready());
        pool.is_some_and(|pool| {
            let replicas = pool.report.replicas.iter();
            let mut same = replicas.filter(|replica| {
                replica.replica_id == home.replica_id && replica.generation == home.generation
            });
            same.next().is_some()
        })
    }
}

fn key_of(request: &TaskRequest, identity: &str) -> Option<SessionKey> {
    Some(SessionKey {
        identity: identity.to_owned(),
        id: request.session_id.clone()?,
    })
}

/// What the policy needs to know of a session's task.
pub(super) fn prefer(spec: JobSpec, last_pool: Option<PoolId>) -> JobSpec {
    JobSpec { last_pool, ..spec }
}

fn turn_of(task: &Task, at_ms: u64, now: Instant) -> Turn {
    let Some(facts) = task.facts() else {
        return Turn::default();
    };
    let receipt = match task.log.terminal() {
        Some(TaskEvent::End(end)) => Some(*end),
        _ => None,
    };
    let used = used(task, facts, receipt.as_ref(), now);
    let worked = task.log.progress().first_token_at.is_some();
    Turn {
        used,
        ran: true,
        home: worked.then(|| Home {
            pool_id: facts.pool_id.clone(),
            replica_id: facts.replica_id.clone(),
            generation: facts.generation,
            kv_tokens: used.tokens_in.saturating_add(used.tokens_out),
            at_ms,
        }),
    }
}

/// Tokens and times as the receipt tells them. An engine that was cut short does not tell what the prompt took: then
/// it is what admission knew of it, once there was a first token.
fn used(task: &Task, facts: &RunFacts, receipt: Option<&EndEvent>, now: Instant) -> Used {
    let progress = task.log.progress();
    let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as u64;
    let tokens_in = match receipt {
        Some(end) if end.tokens_in > 0 => end.tokens_in,
        _ if progress.first_token_at.is_some() => task.demand.tokens_in,
        _ => 0,
    };
    let tokens_out = receipt.map_or(progress.generated, |end| end.tokens_out);
    let until_first = ms(facts.leased_at, progress.first_token_at.unwrap_or(now));
    let decoding = progress
        .first_token_at
        .zip(progress.last_token_at)
        .map_or(0, |(first, last)| ms(first, last));
    Used {
        tokens_in: u64::from(tokens_in),
        tokens_out: u64::from(tokens_out),
        time_ms: until_first.saturating_add(decoding),
    }
}

fn shown(session: &Session, kept: Option<&Home>, limits: &Limits, now_ms: u64) -> SessionStatus {
    let spent = session.ledger().spent();
    let kv_tokens = kept.map_or(0, |home| home.kv_tokens);
    SessionStatus {
        ttl_ms_remaining: session.ttl_left_ms(limits, now_ms),
        turns: session.turns(),
        turns_max: limits.max_turns,
        tasks_live: session.live(),
        // No engine tells the size of a token in its cache.
        kv_bytes: (kv_tokens == 0).then_some(0),
        kv_tokens,
        kv_warmth: kv_tokens > 0,
        pool_id: session.home().map(|home| home.pool_id.clone()),
        tokens_spent: spent.tokens,
        time_spent_ms: spent.time_ms,
        cost_spent: limits.prices.map(|_| spent.cost),
        budgets: session.ledger().remaining(&limits.budgets),
    }
}

/// The session has had its turns. Not a matter of time: only another session, or the end of this one, helps.
fn no_turns(id: &SessionId, limit: u32) -> ErrorBody {
    let message = format!("session_id: session {id} has had its {limit} turns");
    ErrorBody::new(ErrorCode::Conflict, message)
        .with_reason("session_turns")
        .with_hint("begin another session, or end this one with DELETE /v1/sessions/{id}")
}

/// A budget of the session does not allow the task.
fn overdraft(id: &SessionId, overdrawn: &Overdrawn) -> ErrorBody {
    let Overdrawn {
        budget,
        needs,
        left,
        held,
        limit,
    } = *overdrawn;
    let (name, unit, show): (_, _, fn(u64) -> String) = match budget {
        Budget::Tokens => ("token", " tokens", |n| n.to_string()),
        Budget::Time => ("time", " ms", |n| n.to_string()),
        Budget::Cost => ("cost", "", |n| Cost::of_nanos(n).to_string()),
    };
    let [needs, left, held, limit] = [needs, left, held, limit].map(show);
    let message = format!(
        "session_id: the {name} budget of session {id} does not allow the task: it needs at least {needs}{unit}, {left} \
         of {limit} are left and live tasks hold {held}"
    );
    let hint = match budget {
        Budget::Tokens | Budget::Cost => {
            "a smaller max_tokens reserves less; another session has its own budget"
        }
        Budget::Time => "a deadline_ms reserves less; another session has its own budget",
    };
    ErrorBody::new(ErrorCode::AdmissionReject, message)
        .with_policy(budget.label())
        .with_hint(hint)
}
