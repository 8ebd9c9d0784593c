//! Admission: from a validated request to a receipt or a refusal.

use std::sync::Arc;
use std::time::Duration;

use api_types::task::Usage;
use api_types::{
    ErrorBody, ErrorCode, PoolId, Priority, StartedEvent, TaskEvent, TaskId, TaskReceipt, TaskRequest,
    TaskState,
};
use narration_core::Narration;
use orchestrator_core::dispatch::Job;
use orchestrator_core::eta::{Demand, Size};
use orchestrator_core::policy::{JobSpec, Outcome, PlacementDecision, Requirements};
use orchestrator_core::queue::{Admission as Pushed, RefusedBecause};
use sha2::{Digest, Sha256};
use task_journal::NotCommitted;
use tokio::time::Instant;
use uuid::Uuid;

use super::decisions::{log_decision, unsure};
use super::durable::not_committed;
use super::estimate::Estimate;
use super::handle::{Admission, Admitted, PromptTokens, Tokenizer};
use super::sessions::{HoldRefused, prefer};
use super::tasks::Task;
use super::{Dispatcher, refuse};
use crate::continuation::Continuation;
use crate::metrics::PoolLabels;
use crate::receipt;
use crate::story::ACTOR;
use crate::task_log::TaskLog;
use crate::trace;

impl Dispatcher {
    /// Admits a task, or says why not (ORCH-3101 … ORCH-3107).
    pub(super) fn admit(&mut self, admission: Admission) -> Admitted {
        let now = Instant::now();
        let id = admission
            .request
            .task_id
            .unwrap_or_else(|| TaskId::new(Uuid::now_v7()));
        let fingerprint = fingerprint(&admission.request);
        if let Some(known) = self.tasks.get(&id) {
            if known.withdrawn {
                // Its last attempt is being taken back, and its slot is not free yet.
                return self.refused(&admission, not_committed(NotCommitted::Behind));
            }
            return known.repeated(id, &fingerprint);
        }
        if self.parts.draining.is_cancelled() {
            return self.refused(&admission, self.shutting_down());
        }
        match self.consider(&admission, now) {
            Considered::Feasible(spec, decision) => {
                let demand = self.demand(&admission);
                let candidate = Candidate {
                    id,
                    admission,
                    fingerprint,
                    spec,
                    demand,
                    now,
                };
                self.enqueue(candidate, decision.outcome.pool_id())
            }
            Considered::Count(count) => count,
            Considered::Refused(body) => self.refused(&admission, *body),
        }
    }

    /// Asks the policy. An input is counted first where a count could change the answer and an engine can count now.
    fn consider(&mut self, admission: &Admission, now: Instant) -> Considered {
        let last_pool = self.last_pool(&admission.request, &admission.identity, now);
        let spec = prefer(job_spec(&admission.request, admission.prompt_tokens), last_pool);
        let snapshot = self.planner.snapshot(&self.fleet, now);
        let snapshot = Arc::clone(snapshot);
        let decision = self.cache.decide(&spec, &snapshot, self.now_ms(now));
        if unsure(&decision.outcome, admission.prompt_tokens)
            && let Some(tokenizer) = self.tokenizer_of(&admission.request)
        {
            return Considered::Count(Admitted::Count(tokenizer));
        }
        let Outcome::Refused(refused) = &decision.outcome else {
            return Considered::Feasible(spec, decision);
        };
        log_decision(&decision, None, &admission.correlation);
        self.parts
            .metrics
            .placement("refused", decision.log.pinned, false, 0);
        let body = self.infeasible(&admission.request, admission.prompt_tokens, refused, now);
        Considered::Refused(Box::new(body))
    }

    /// A ready replica of the model whose tokenizer can count.
    pub(super) fn tokenizer_of(&self, request: &TaskRequest) -> Option<Tokenizer> {
        let serves = |report: &api_types::pool::PoolReport| {
            let model = report.model_id.as_str() == request.model_ref.as_str()
                || report.model_ref == request.model_ref;
            model && report.supported_workloads.contains(&request.workload)
        };
        let serving = || self.fleet.pools().filter(|(_, pool)| serves(&pool.report));
        let (pool_id, pool) = serving().find(|(_, pool)| pool.is_ready())?;
        Some(Tokenizer {
            pool_id: pool_id.clone(),
            replica_id: pool.a_ready_replica()?,
            ctx_max: serving().map(|(_, pool)| pool.report.ctx_max).max()?,
        })
    }

    fn enqueue(&mut self, candidate: Candidate, pool_id: Option<&PoolId>) -> Admitted {
        let request = &candidate.admission.request;
        let (at, size) = (self.moment(candidate.now), candidate.size(self.origin));
        if request.deadline_ms.is_some() {
            let likely = self.estimate_newcomer(&candidate.spec, &size, at);
            if let Some(body) = refuse::deadline(request, &likely) {
                return self.refused(&candidate.admission, body);
            }
        }
        if let Err(refused) = self.reserve(&candidate) {
            return *refused;
        }
        let line = match self.line_for(&candidate.spec, request.priority, candidate.now) {
            Ok(line) => line,
            Err(reason) => return self.refuse_full(&candidate, reason),
        };
        if let Some((_, Some(victim))) = &line {
            self.evict(*victim);
        }
        let job = Job::new(candidate.spec.clone());
        let position = match self.queue.push(candidate.id, request.priority, at.ms, job) {
            Pushed::Admitted { position } => position,
            Pushed::AdmittedByEvicting { position, evicted } => {
                self.evict(evicted.ticket.id);
                position
            }
            Pushed::Refused { reason, .. } => return self.refuse_full(&candidate, reason),
        };
        if let (Some((pool, _)), Some((ticket, _))) = (&line, self.queue.get(&candidate.id)) {
            self.lines.join(ticket, pool);
        }
        let estimate = self.estimate_joined(candidate.id, pool_id, (&candidate.spec, &size), at);
        let receipt = self.receipt(&candidate, position, pool_id, estimate);
        let id = candidate.id;
        let task = self.new_task(candidate, receipt.clone());
        self.tell_admitted(id, &task);
        self.tasks.insert(id, task);
        self.dirty = true;
        Admitted::Receipt(receipt)
    }

    /// Reserves what the session's budgets need (REQ-BUDGET-RESERVE), or gives the answer that says why not.
    fn reserve(&mut self, candidate: &Candidate) -> Result<(), Box<Admitted>> {
        let Candidate {
            id, admission, now, ..
        } = candidate;
        let (request, identity) = (&admission.request, &admission.identity);
        match self.hold(*id, request, identity, admission.total_tokens, *now) {
            Ok(()) => Ok(()),
            Err(HoldRefused::Uncounted(tokenizer)) => Err(Box::new(Admitted::Count(tokenizer))),
            Err(HoldRefused::Body(body)) => Err(Box::new(self.refused(admission, *body))),
        }
    }

    fn refuse_full(&mut self, candidate: &Candidate, reason: RefusedBecause) -> Admitted {
        self.settle(&candidate.id, candidate.now);
        self.parts.metrics.backpressure("any", self.policy_name());
        let retry_after = self.retry_after(candidate.now);
        let body = refuse::full(self.options.queue.full_policy, &reason, retry_after);
        self.refused(&candidate.admission, body)
    }

    fn receipt(
        &self,
        candidate: &Candidate,
        position: usize,
        pool_id: Option<&PoolId>,
        estimate: Estimate,
    ) -> TaskReceipt {
        let full = self.queue.len() >= self.options.queue.capacity;
        let backoff = full.then(|| self.retry_after(candidate.now)).flatten();
        TaskReceipt {
            task_id: candidate.id,
            queue_position: u32::try_from(position).unwrap_or(u32::MAX),
            predicted_start_ms: estimate.start_ms,
            predicted_end_ms: estimate.end_ms,
            backoff_ms: backoff.unwrap_or(0),
            pool_id: pool_id.cloned(),
            stream_url: format!("/v1/tasks/{}/stream", candidate.id),
            budgets: self.budgets_for(
                &candidate.admission.request,
                &candidate.admission.identity,
                candidate.now,
            ),
        }
    }

    pub(super) fn new_task(&self, candidate: Candidate, receipt: TaskReceipt) -> Task {
        let Candidate {
            id,
            admission,
            fingerprint,
            spec,
            demand,
            now,
        } = candidate;
        let request = admission.request;
        let admitted = receipt::Admitted {
            at: now,
            seed: request.seed.unwrap_or_else(|| id.derived_seed()),
            sampler_profile_version: request.sampler_profile_version.clone(),
        };
        let admitted = Arc::new(admitted);
        let log = TaskLog::new(self.options.log);
        if let Some(mut trace) = admission.trace {
            trace.admitted(trace::Facts {
                task_id: id,
                correlation: admission.correlation.clone(),
                identity: admission.identity.clone(),
                receipt: receipt.clone(),
                admitted: Arc::clone(&admitted),
            });
            log.trace_with(Some(trace));
        }
        Task {
            admitted,
            fingerprint,
            spec,
            demand,
            correlation: admission.correlation,
            identity: admission.identity,
            log,
            state: TaskState::Queued,
            deadline: request.deadline_ms.map(|ms| now + Duration::from_millis(ms)),
            receipt,
            lease: None,
            attempts: 0,
            ticket: None,
            decision: None,
            shown: None,
            finish_reason: None,
            error: None,
            usage: Usage::default(),
            prompt_tokens: admission.prompt_tokens,
            total_tokens: admission.total_tokens,
            recorded: false,
            withdrawn: false,
            continuation: Continuation::Begin,
            last_run: None,
            ended_timings: None,
            request,
        }
    }

    /// The `started` frame, the narration and the counter of an admission.
    fn tell_admitted(&self, id: TaskId, task: &Task) {
        let receipt = &task.receipt;
        let started = TaskEvent::Started(StartedEvent {
            task_id: id,
            queue_position: receipt.queue_position,
            predicted_start_ms: receipt.predicted_start_ms,
            predicted_end_ms: receipt.predicted_end_ms,
            pool_id: receipt.pool_id.clone(),
            model_ref: task.request.model_ref.clone(),
            seed: Some(task.admitted.seed),
            correlation_id: task.correlation.clone(),
        });
        // A fresh log takes its first frame.
        let _room = task.log.start(&started);
        let labels = PoolLabels::unplaced(task.request.engine, receipt.pool_id.as_ref());
        self.parts.metrics.task_enqueued(&labels, task.priority());
        let line = Narration::new(ACTOR, "admission", &id, admitted_sentence(task))
            .queue_position(u64::from(receipt.queue_position))
            .predicted_start_ms(receipt.predicted_start_ms)
            .pool_id(receipt.pool_id.as_ref());
        self.narrate(id, task, line);
    }

    pub(super) fn demand(&self, admission: &Admission) -> Demand {
        let request = &admission.request;
        Demand {
            class: request.priority,
            tokens_in: match admission.total_tokens {
                PromptTokens::AtMost(bytes) => self.planner.likely_tokens(bytes),
                PromptTokens::Exactly(tokens) => tokens,
                PromptTokens::Unbounded => 0,
            },
            expected_out: if request.workload.generates() {
                request.expected_tokens
            } else {
                Some(0)
            },
            max_out: request.max_tokens,
        }
    }

    pub(super) fn refused(&self, admission: &Admission, body: ErrorBody) -> Admitted {
        let reason = refuse::reason_label(&body);
        let engine = admission
            .request
            .engine
            .map_or("any", api_types::EngineKind::as_str);
        self.parts.metrics.task_rejected(engine, reason);
        Narration::new(
            ACTOR,
            "rejection",
            &admission.request.model_ref,
            "Refuses a task at admission.",
        )
        .correlation_id(&admission.correlation)
        .identity(&admission.identity)
        .decision(&reason)
        .emit();
        Admitted::Refused(Box::new(body))
    }
}

/// A feasible task on its way into the queue.
pub(super) struct Candidate {
    pub id: TaskId,
    pub admission: Admission,
    pub fingerprint: [u8; 32],
    pub spec: JobSpec,
    pub demand: Demand,
    pub now: Instant,
}

impl Candidate {
    fn size(&self, origin: Instant) -> Size {
        let deadline = self.admission.request.deadline_ms;
        let now_ms = self.now.saturating_duration_since(origin).as_millis() as u64;
        Size {
            demand: self.demand,
            deadline_at_ms: deadline.map(|ms| now_ms.saturating_add(ms)),
        }
    }
}

enum Considered {
    Feasible(JobSpec, Arc<PlacementDecision>),
    Count(Admitted),
    Refused(Box<ErrorBody>),
}

impl Task {
    /// The answer to a repeated `POST` with the same id (ORCH-3105).
    fn repeated(&self, id: TaskId, fingerprint: &[u8; 32]) -> Admitted {
        if self.fingerprint == *fingerprint {
            return Admitted::Receipt(self.receipt.clone());
        }
        let message = format!("task_id: {id} already names a task with another body");
        Admitted::Refused(Box::new(ErrorBody::new(ErrorCode::Conflict, message)))
    }
}

fn admitted_sentence(task: &Task) -> String {
    let class = match task.priority() {
        Priority::Interactive => "an interactive",
        Priority::Batch => "a batch",
    };
    let ahead = match task.receipt.queue_position {
        0 => "it is next".to_owned(),
        1 => "1 task is ahead".to_owned(),
        n => format!("{n} tasks are ahead"),
    };
    match task.receipt.predicted_start_ms {
        Some(0) => format!("Admits {class} task; {ahead}, a slot is free."),
        Some(ms) => format!(
            "Admits {class} task; {ahead}, start in about {:.1} s.",
            ms as f64 / 1000.0
        ),
        None => format!("Admits {class} task; {ahead}, its start is not known yet."),
    }
}

/// Digest of the request as parsed, so that spelling and field order do not matter.
fn fingerprint(request: &TaskRequest) -> [u8; 32] {
    // A request that was parsed from JSON can be written as JSON.
    let canonical = serde_json::to_vec(request).unwrap_or_default();
    Sha256::digest(canonical).into()
}

/// What the policy needs to know of a request.
pub(super) fn job_spec(request: &TaskRequest, prompt: PromptTokens) -> JobSpec {
    let prompt_tokens = match prompt {
        PromptTokens::AtMost(tokens) | PromptTokens::Exactly(tokens) => tokens,
        PromptTokens::Unbounded => 0,
    };
    let output = least_output(request);
    JobSpec {
        needs: Requirements {
            model_ref: request.model_ref.clone(),
            engine: request.engine,
            workload: request.workload,
            determinism: request.determinism,
            placement: request.placement.clone().unwrap_or_default(),
        },
        ctx_tokens: prompt_tokens.saturating_add(output).max(request.ctx.unwrap_or(0)),
        last_pool: None,
    }
}

/// Tokens that a context must have room for beside the input. One at least, whatever the workload: llama.cpp takes no
/// input that fills a context, even where it generates nothing.
pub(super) fn least_output(request: &TaskRequest) -> u32 {
    request.max_tokens.unwrap_or(1)
}
