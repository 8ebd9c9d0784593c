//! The dispatcher: one actor that owns the queue, the task table, the fleet and the leases, and
//! runs the pure core on every event. It is not on the token path.
//!
//! [`Options`] → [`Dispatcher`] (the actor) → [`Handle`] (typed calls). Commands come through one
//! bounded channel; what cannot wait (dropped readers, ended runs) through [`Signals`].

mod admit;
mod assign;
mod decisions;
mod demand;
mod durable;
mod end;
mod estimate;
mod fleet;
mod handle;
mod lines;
mod loading;
mod nodes;
mod operations;
mod outlooks;
mod plan;
mod refuse;
mod restore;
mod sessions;
mod tasks;
mod traces;
mod views;
mod waits;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use adapter_host::AdapterHost;
use api_types::TaskId;
use orchestrator_core::dispatch::{Job, Turns};
use orchestrator_core::policy::DecisionCache;
use orchestrator_core::queue::{Lines, Queue, QueueConfig};
use orchestrator_core::session;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use decisions::undecided;
pub use durable::{Durable, Policy};
pub use fleet::ReportRefused;
pub use handle::{
    Admission, Admitted, Explained, Gone, Handle, ListFilter, Preview, PromptTokens, Tokenizer,
};
pub use operations::{Ask, NotOperated};
pub use sessions::SessionKey;

use crate::artifacts::Artifacts;
use crate::device_gauges::DeviceGauges;
use crate::engine_log::EngineLogs;
use crate::metrics::Metrics;
use crate::model_gauges::ModelGauges;
use crate::pause::Pause;
use crate::queue_gauges::QueueGauges;
use crate::runner::RunLimits;
use crate::signals::{Signal, Signals};
use crate::task_log::LogOptions;
use decisions::Decisions;
use fleet::Fleet;
use handle::{COMMANDS, Command};
use lines::Stranded;
use operations::Operations;
use plan::Planner;
use sessions::SessionBook;
use tasks::{Retention, TaskTable};

/// How often stale nodes, retention and waiting clients' numbers are looked after. Deadlines have
/// a timer of their own.
const TICK: Duration = Duration::from_millis(500);

/// How long a decision may be remembered, ms. A snapshot is rarely as old; its version is what counts.
const CACHED_MS: u64 = 1000;

/// Commands handled before free slots are given out: one round of placement serves them all.
const BATCH: usize = 64;

/// Settings of the dispatcher, from configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bounds of the queue.
    pub queue: QueueConfig,
    /// Most tasks in the line of one pool.
    pub pool_capacity: usize,
    /// How long a waiting task that no pool can serve any more waits for one to come back.
    pub stranded_max_wait: Duration,
    /// How long a task waits at most for a model that is not loaded, before what is loaded in its place has to go.
    pub swap_after: Duration,
    /// How long running tasks may go on when their model has to go.
    pub swap_drain: Duration,
    /// Bounds and format of task logs.
    pub log: LogOptions,
    /// Limits of runs.
    pub run: RunLimits,
    /// How long ended tasks stay readable.
    pub resume_window: Duration,
    /// Most ended tasks kept.
    pub retained_tasks: usize,
    /// Whether a task without readers is cancelled.
    pub cancel_on_disconnect: bool,
    /// How long a reader may stay away before that.
    pub disconnect_grace: Duration,
    /// How often a running task's narration is repeated in its stream; never unless configured.
    pub narrate_every: Option<Duration>,
    /// Most pool states kept for replaying decisions, all tasks together.
    pub kept_decision_pools: usize,
    /// Turns, budgets and life of sessions.
    pub sessions: session::Limits,
    /// How often a node is to report.
    pub heartbeat_interval: Duration,
    /// When a silent node's pools take no new work.
    pub stale_after: Duration,
    /// How long running tasks may go on at shutdown.
    pub shutdown_grace: Duration,
}

/// What the dispatcher works with.
pub struct Parts {
    /// Adapters by replica.
    pub host: Arc<AdapterHost>,
    /// Last words of engines.
    pub logs: Arc<EngineLogs>,
    /// The installation's token, for the relays of nodes.
    pub token: Option<SecretString>,
    /// Metric families.
    pub metrics: Metrics,
    /// What the pools' GPUs do.
    pub devices: DeviceGauges,
    /// What the models' engines hold.
    pub models: ModelGauges,
    /// How many tasks wait for each pool.
    pub queues: QueueGauges,
    /// When turned-away clients are to come back.
    pub pause: Pause,
    /// Where traces are kept; absent where nothing is.
    pub artifacts: Option<Arc<Artifacts>>,
    /// Where runs are spawned.
    pub tracker: TaskTracker,
    /// Raised when the daemon is to stop.
    pub draining: CancellationToken,
}

/// The actor.
pub struct Dispatcher {
    options: Options,
    parts: Parts,
    commands: mpsc::Receiver<Command>,
    signals: Signals,
    /// Zero of the monotonic milliseconds the core counts in.
    origin: Instant,
    queue: Queue<Job>,
    lines: Lines,
    stranded: Stranded,
    cache: DecisionCache,
    turns: Turns,
    tasks: TaskTable,
    fleet: Fleet,
    operations: Operations,
    planner: Planner,
    decisions: Decisions,
    sessions: SessionBook,
    durable: Durable,
    /// Tasks without readers, by when they are cancelled.
    abandoned: BTreeSet<(Instant, TaskId)>,
    /// When this process began.
    started_at: Instant,
    /// When running tasks' narration was last repeated.
    narrated_at: Instant,
    /// The fleet whose pools have series for their lines.
    queues_shown_for: Option<u64>,
    /// Something changed that may let a waiting task start.
    dirty: bool,
}

impl Dispatcher {
    /// The actor and its handle. Nothing happens until [`Self::run`].
    #[must_use]
    pub fn new(options: Options, parts: Parts, durable: Durable) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let signals = Signals::default();
        let handle = Handle {
            commands: sender,
            signals: signals.clone(),
        };
        let retention = Retention {
            window: options.resume_window,
            tasks: options.retained_tasks,
        };
        let dispatcher = Self {
            queue: Queue::new(options.queue),
            lines: Lines::new(options.pool_capacity),
            stranded: Stranded::default(),
            cache: DecisionCache::new(CACHED_MS),
            tasks: TaskTable::new(retention),
            decisions: Decisions::new(options.kept_decision_pools),
            sessions: SessionBook::new(options.sessions),
            durable,
            options,
            parts,
            commands,
            signals,
            origin: Instant::now(),
            turns: Turns::default(),
            fleet: Fleet::default(),
            operations: Operations::default(),
            planner: Planner::default(),
            abandoned: BTreeSet::new(),
            started_at: Instant::now(),
            narrated_at: Instant::now(),
            queues_shown_for: None,
            dirty: false,
        };
        (dispatcher, handle)
    }

    /// Runs until the daemon is told to stop and every task has its terminal frame.
    pub async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let draining = self.parts.draining.clone();
        loop {
            let timer = self.next_timer();
            tokio::select! {
                biased;
                // First, so that slots are given back before new work is looked at.
                signals = self.signals.receive() => self.on_signals(signals),
                () = sleep_until(timer) => self.on_timer(),
                _ = tick.tick() => self.on_tick(),
                () = draining.cancelled() => break,
                more = Self::receive(&mut self.commands) => match more {
                    Some(commands) => commands.into_iter().for_each(|command| self.on_command(command)),
                    None => break,
                },
            }
            self.give_out_slots();
        }
        self.drain().await;
    }

    /// Ends what waits, lets what runs finish within the grace, ends the rest. New work is refused
    /// meanwhile; everything else is still answered.
    async fn drain(mut self) {
        let deadline = Instant::now() + self.options.shutdown_grace;
        self.tell_pause_of_stop(Instant::now(), deadline);
        self.end_queued_for_shutdown();
        let mut tick = interval(TICK);
        while self.fleet_is_busy() {
            tokio::select! {
                biased;
                _ = tick.tick() => self.tell_pause_of_stop(Instant::now(), deadline),
                signals = self.signals.receive() => self.on_signals(signals),
                () = sleep_until(deadline) => {
                    self.end_running_for_shutdown();
                    break;
                }
                Some(commands) = Self::receive(&mut self.commands) => {
                    commands.into_iter().for_each(|command| self.on_command(command));
                }
            }
        }
    }

    async fn receive(commands: &mut mpsc::Receiver<Command>) -> Option<Vec<Command>> {
        let mut batch = Vec::new();
        (commands.recv_many(&mut batch, BATCH).await > 0).then_some(batch)
    }

    fn on_command(&mut self, command: Command) {
        // A caller that no longer waits for its answer is not an error.
        match command {
            Command::Admit(admission, reply) => self.admit_and_answer(*admission, reply),
            Command::Cancel(task, reply) => _ = reply.send(self.cancel(task)),
            Command::Open(task, reply) => _ = reply.send(self.tasks.get(&task).map(|t| t.log.clone())),
            Command::Status(task, reply) => _ = reply.send(self.status(task)),
            Command::Decision(task, reply) => _ = reply.send(self.decision(task)),
            Command::Explain(preview, reply) => _ = reply.send(self.explain(&preview)),
            Command::Session(key, reply) => _ = reply.send(self.session(&key)),
            Command::EndSession(key, reply) => _ = reply.send(self.end_session(&key)),
            Command::List(filter, reply) => _ = reply.send(self.list(&filter)),
            Command::Register(report, reply) => _ = reply.send(self.register(*report)),
            Command::Heartbeat(report, reply) => _ = reply.send(self.heartbeat(*report)),
            Command::Deregister(node, reply) => _ = reply.send(self.deregister(&node)),
            Command::Operate(pool, ask, reply) => self.operate(&pool, &ask, reply),
            Command::Nodes(reply) => _ = reply.send(self.fleet.node_statuses(Instant::now())),
            Command::Pools(reply) => _ = reply.send(self.pool_statuses()),
            Command::Capabilities(reply) => _ = reply.send(self.capabilities()),
            Command::Ping(reply) => _ = reply.send(()),
        }
    }

    fn on_signals(&mut self, signals: Vec<Signal>) {
        for signal in signals {
            match signal {
                Signal::ReaderGone(task) => self.reader_gone(task),
                Signal::RunEnded(task, report) => self.run_ended(task, *report),
                Signal::NotCommitted(task, reason) => self.withdraw(task, reason),
            }
        }
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        for task in self.tasks.take_expired(now) {
            self.expire_queued(task);
        }
        while let Some(&(at, task)) = self.abandoned.first()
            && at <= now
        {
            self.abandoned.pop_first();
            self.cancel_abandoned(task);
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        self.tasks.sweep(now);
        self.note_forgotten();
        self.refuse_overdue(now);
        self.sweep_nodes(now);
        self.give_up_overdue(now);
        self.sweep_sessions(now);
        self.meet_demand(now);
        self.unload_idle(now);
        self.look_after_waiting(now);
        self.tell_clients();
        self.tell_pause(now);
        self.repeat_narration(now);
        self.show_models(now);
    }

    /// The next deadline or grace; far away when there is none.
    fn next_timer(&self) -> Instant {
        let graces = self.abandoned.first().map(|&(at, _)| at);
        let next = self.tasks.next_deadline().into_iter().chain(graces).min();
        next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    fn now_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_millis() as u64
    }
}
