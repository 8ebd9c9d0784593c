//! The simulator's world: pools with true speeds, running tasks that end on time, and the story.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a malformed script fails its test"
)]

use std::collections::BTreeMap;
use std::fmt::Write;

use api_types::{PoolId, Priority, TaskId, TaskState};
use orchestrator_core::dispatch::{Assignment, Job, Turns, assign};
use orchestrator_core::eta::{
    Board, Demand, Measured, Observation, PoolSlots, Running, Size, first_end_ms, retry_after_ms,
};
use orchestrator_core::policy::{
    JobSpec, Outcome, PlacementInput, PoolView, Readiness, Snapshot, decide, explain,
};
use orchestrator_core::queue::{Admission, FullPolicy, Queue, QueueConfig};
use orchestrator_core::task::{Event, step};

use super::super::fixtures::{job, pin, pool, task};

/// True speeds, tokens per second.
#[derive(Clone, Copy)]
struct Speeds {
    prefill: u64,
    decode: u64,
}

struct Task {
    name: String,
    state: TaskState,
    demand: Demand,
    submitted_at: u64,
    predicted_start: Option<u64>,
    /// Set while it runs.
    lease: Option<Lease>,
}

struct Lease {
    pool_id: PoolId,
    started_at: u64,
    run: Observation,
}

impl Lease {
    fn ends_at(&self) -> u64 {
        self.started_at + self.run.first_token_ms + self.run.decode_ms
    }

    /// How far it is, as a daemon sees it in its log.
    fn progress(&self, demand: Demand, now: u64) -> Running {
        let elapsed_ms = now - self.started_at;
        let decoding_ms = elapsed_ms.checked_sub(self.run.first_token_ms);
        let steps = u64::from(self.run.tokens_out - 1);
        let done = decoding_ms.map(|ms| ms.saturating_mul(steps) / self.run.decode_ms.max(1));
        let decode_ms = done.map_or(0, |done| done * self.run.decode_ms / steps.max(1));
        Running {
            demand,
            elapsed_ms,
            generated: done.map_or(0, |done| u32::try_from(done + 1).unwrap()),
            decode_ms,
            idle_ms: decoding_ms.map_or(0, |ms| ms - decode_ms),
        }
    }
}

pub(super) struct Sim {
    pub(super) story: String,
    now: u64,
    queue: Queue<Job>,
    snapshot: Snapshot,
    turns: Turns,
    times: Measured,
    speeds: BTreeMap<PoolId, Speeds>,
    tasks: BTreeMap<TaskId, Task>,
}

impl Sim {
    pub(super) fn new() -> Self {
        Self {
            story: String::new(),
            now: 0,
            queue: Queue::new(QueueConfig {
                capacity: 0,
                full_policy: FullPolicy::Reject,
                batch_max_wait_ms: 0,
            }),
            snapshot: Snapshot::default(),
            turns: Turns::default(),
            times: Measured::default(),
            speeds: BTreeMap::new(),
            tasks: BTreeMap::new(),
        }
    }

    pub(super) fn obey(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["queue", capacity, policy, max_wait] => self.configure(capacity, policy, max_wait),
            ["pool", name, model, slots, prefill, decode] => {
                self.add_pool(name, model, slots.parse().unwrap());
                let speeds = Speeds {
                    prefill: prefill.parse().unwrap(),
                    decode: decode.parse().unwrap(),
                };
                self.speeds.insert(name.parse().unwrap(), speeds);
            }
            [at, ..] => {
                self.run_until(at.parse().unwrap());
                self.act(&words[1..]);
                self.round();
            }
            [] => panic!("empty line"),
        }
    }

    pub(super) fn run_to_the_end(&mut self) {
        self.run_until(u64::MAX);
    }

    fn configure(&mut self, capacity: &str, policy: &str, max_wait: &str) {
        self.queue = Queue::new(QueueConfig {
            capacity: capacity.parse().unwrap(),
            full_policy: serde_json::from_value(policy.into()).unwrap(),
            batch_max_wait_ms: max_wait.parse().unwrap(),
        });
    }

    fn add_pool(&mut self, name: &str, model: &str, slots: u32) {
        self.snapshot.pools.push(PoolView {
            model_id: model.parse().unwrap(),
            model_ref: format!("file:/models/{model}.gguf").parse().unwrap(),
            slots_total: slots,
            slots_free: slots,
            ..pool(name)
        });
    }

    fn act(&mut self, words: &[&str]) {
        match words {
            ["submit", name, class, model, tokens_in, tokens_out, pinned @ ..] => {
                let demand = Demand {
                    class: class.parse().unwrap(),
                    tokens_in: tokens_in.parse().unwrap(),
                    expected_out: Some(tokens_out.parse().unwrap()),
                    max_out: None,
                };
                let spec = spec(model, &demand, pinned.first().copied());
                self.submit(name, class.parse().unwrap(), spec, demand);
            }
            ["cancel", name] => self.cancel(name),
            ["drain", pool] => self.set(pool, Readiness::Draining),
            ["ready", pool] => self.set(pool, Readiness::Ready),
            other => panic!("what is {other:?}?"),
        }
    }

    fn tell(&mut self, text: &str) {
        writeln!(self.story, "{:>6} ms  {text}", self.now).unwrap();
    }

    fn set(&mut self, name: &str, readiness: Readiness) {
        self.tell(&format!("{name} is now {readiness:?}"));
        let mut pools = self.snapshot.pools.iter_mut();
        pools
            .find(|pool| pool.pool_id.as_str() == name)
            .unwrap()
            .readiness = readiness;
    }

    fn submit(&mut self, name: &str, priority: Priority, spec: JobSpec, demand: Demand) {
        self.refresh();
        let input = PlacementInput::new(&spec, &self.snapshot);
        let decision = decide(&input);
        let why = explain(&input, &decision);
        if let Outcome::Refused(refused) = &decision.outcome {
            let code = refused.refusal.code();
            self.tell(&format!("{name} ({priority}) is refused: {code:?}: {refused}"));
            return;
        }
        let id = task(u32::try_from(self.tasks.len()).unwrap());
        let position = match self.queue.push(id, priority, self.now, Job::new(spec)) {
            Admission::Admitted { position } => position,
            Admission::AdmittedByEvicting { position, evicted } => {
                self.end(evicted.ticket.id, Event::Evict, "to make room");
                position
            }
            Admission::Refused { reason, .. } => return self.tell_full(name, priority, &reason.to_string()),
        };
        let predicted_start = self.predict_start(&id, &demand);
        let predicted = in_ms(predicted_start);
        self.tell(&format!(
            "{name} ({priority}) waits at {position}, start {predicted}. {why}"
        ));
        let task = Task {
            name: name.to_owned(),
            state: TaskState::Queued,
            demand,
            submitted_at: self.now,
            predicted_start,
            lease: None,
        };
        self.tasks.insert(id, task);
    }

    fn tell_full(&mut self, name: &str, priority: Priority, reason: &str) {
        let pools = self.snapshot.pools.iter();
        let running = pools.flat_map(|pool| {
            let running = self.running_on(pool).into_iter();
            running.map(|running| (self.remaining(pool, &running), running.elapsed_ms))
        });
        let retry = first_end_ms(running).map(|wait| retry_after_ms(wait, 0.5));
        let retry = in_ms(retry);
        self.tell(&format!(
            "{name} ({priority}) is refused: {reason}; retry {retry}"
        ));
    }

    fn cancel(&mut self, name: &str) {
        let id = *self.tasks.iter().find(|(_, task)| task.name == name).unwrap().0;
        self.queue.remove(&id);
        self.end(id, Event::Cancel, "by its client");
    }

    /// Applies a terminal event and frees the slot, if there is one.
    fn end(&mut self, id: TaskId, event: Event, detail: &str) -> Option<Lease> {
        let task = self.tasks.get_mut(&id).unwrap();
        let name = task.name.clone();
        match step(task.state, event) {
            Ok(transition) => {
                task.state = transition.to;
                let lease = task.lease.take();
                if let Some(lease) = &lease {
                    let mut pools = self.snapshot.pools.iter_mut();
                    pools
                        .find(|pool| pool.pool_id == lease.pool_id)
                        .unwrap()
                        .slots_free += 1;
                }
                self.tell(&format!("{name} is {} {detail}", transition.to));
                lease
            }
            Err(rejected) => {
                self.tell(&format!("{name}: {rejected}"));
                None
            }
        }
    }

    fn run_until(&mut self, at: u64) {
        while let Some((ends_at, id)) = self.next_end().filter(|(ends_at, _)| *ends_at <= at) {
            self.now = ends_at;
            self.finish(id);
            self.round();
        }
        self.now = if at == u64::MAX { self.now } else { at };
    }

    fn next_end(&self) -> Option<(u64, TaskId)> {
        let running = self.tasks.iter();
        running
            .filter_map(|(id, task)| Some((task.lease.as_ref()?.ends_at(), *id)))
            .min()
    }

    fn finish(&mut self, id: TaskId) {
        let task = &self.tasks[&id];
        let demand = task.demand;
        let lease = task.lease.as_ref().unwrap();
        let detail = format!("on {} after {} ms", lease.pool_id, self.now - lease.started_at);
        if let Some(lease) = self.end(id, Event::Finish, &detail) {
            let model = self.snapshot.pool(&lease.pool_id).unwrap().model_id.clone();
            self.times.observe(&lease.pool_id, &model, &demand, &lease.run);
        }
    }

    fn round(&mut self) {
        self.refresh();
        let assigned = assign(&self.queue, &mut self.snapshot, &mut self.turns, self.now);
        for Assignment { ticket, pool_id, .. } in assigned {
            self.queue.remove(&ticket.id);
            self.start(ticket.id, pool_id);
        }
    }

    fn start(&mut self, id: TaskId, pool_id: PoolId) {
        let (now, speeds) = (self.now, self.speeds[&pool_id]);
        let task = self.tasks.get_mut(&id).unwrap();
        task.state = step(task.state, Event::Dispatch).unwrap().to;
        let tokens_out = task.demand.expected_out.unwrap();
        let run = Observation {
            tokens_in: task.demand.tokens_in,
            tokens_out,
            first_token_ms: u64::from(task.demand.tokens_in) * 1000 / speeds.prefill,
            decode_ms: u64::from(tokens_out - 1) * 1000 / speeds.decode,
        };
        let waited = now - task.submitted_at;
        let predicted = plain_ms(task.predicted_start);
        let text = format!(
            "{} starts on {pool_id}, waited {waited} ms, predicted {predicted}",
            task.name
        );
        task.lease = Some(Lease {
            pool_id,
            started_at: now,
            run,
        });
        self.tell(&text);
    }

    /// What a daemon would keep current from its leases and measurements.
    fn refresh(&mut self) {
        let views: Vec<(Option<u64>, Option<u64>)> = self
            .snapshot
            .pools
            .iter()
            .map(|pool| self.measured(pool))
            .collect();
        for (pool, (decode_mtps, predicted_free_ms)) in self.snapshot.pools.iter_mut().zip(views) {
            pool.decode_mtps = decode_mtps;
            pool.predicted_free_ms = predicted_free_ms;
        }
    }

    fn measured(&self, pool: &PoolView) -> (Option<u64>, Option<u64>) {
        let stats = self.times.stats(&pool.pool_id, &pool.model_id);
        let ends = self.running_on(pool).into_iter();
        let first_end = ends.filter_map(|running| self.remaining(pool, &running)).min();
        let free = if pool.slots_free > 0 { Some(0) } else { first_end };
        (stats.and_then(|stats| stats.decode_mtps()), free)
    }

    fn remaining(&self, pool: &PoolView, running: &Running) -> Option<u64> {
        self.times.remaining_ms(&pool.pool_id, &pool.model_id, running)
    }

    fn running_on(&self, pool: &PoolView) -> Vec<Running> {
        let leases = self
            .tasks
            .values()
            .filter_map(|task| Some((task, task.lease.as_ref()?)));
        leases
            .filter(|(_, lease)| lease.pool_id == pool.pool_id)
            .map(|(task, lease)| lease.progress(task.demand, self.now))
            .collect()
    }

    fn slots<'s>(&self, pool: &'s PoolView) -> PoolSlots<'s> {
        PoolSlots {
            pool_id: &pool.pool_id,
            model_id: &pool.model_id,
            free: pool.slots_free,
            running: self.running_on(pool),
            coming: Vec::new(),
        }
    }

    /// Through the slots, behind those who wait before it.
    fn predict_start(&self, id: &TaskId, own: &Demand) -> Option<u64> {
        let size = |demand| Size {
            demand,
            deadline_at_ms: None,
        };
        let known = |waiting: &TaskId| {
            let demand = if waiting == id {
                *own
            } else {
                self.tasks[waiting].demand
            };
            Some(size(demand))
        };
        let board = Board::new(
            &self.times,
            &self.snapshot,
            |pool| self.slots(pool),
            &self.queue,
            known,
            self.now,
        );
        board.outlook(id)?.start_ms(self.now)
    }
}

fn spec(model: &str, demand: &Demand, pinned: Option<&str>) -> JobSpec {
    let mut spec = job();
    spec.needs.model_ref = model.parse().unwrap();
    spec.ctx_tokens = demand.tokens_in + demand.expected_out.unwrap_or(0);
    spec.needs.placement = pinned.map(pin).unwrap_or_default();
    spec
}

fn plain_ms(ms: Option<u64>) -> String {
    ms.map_or_else(|| "unknown".into(), |ms| format!("{ms} ms"))
}

fn in_ms(ms: Option<u64>) -> String {
    ms.map_or_else(|| "unknown".into(), |ms| format!("in {ms} ms"))
}
