//! The actor of one replica: feeds its [`Machine`] with goals, news and deadlines, performs what it decides,
//! publishes the outcome. Owns the replica's state; nothing in here waits for the engine.

use std::sync::Arc;

use api_types::pool::{ReplicaState, UnreadyCause};
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::custody::Legacy;
use super::machine::{Action, Event, Goal, Machine, Moment, Status, Wish};
use super::monitor::{self, Launch, News, Origin};
use super::{Message, Process, ReplicaOptions, ReplicaView, Shared};
use crate::engine::ending::Ending;
use crate::engine::output::Output;
use crate::facts::Inputs;
use crate::metrics::ReplicaMetrics;
use crate::story::ReplicaStory;

/// News that may wait for the actor; a monitor sends a handful per generation.
const NEWS: usize = 16;

/// The output of so many starts is kept.
const KEPT_STARTS: u64 = 2;

pub(super) struct Actor {
    options: ReplicaOptions,
    shared: Shared,
    metrics: ReplicaMetrics,
    story: ReplicaStory,
    inbox: mpsc::Receiver<Message>,
    machine: Machine,
    engine: Option<Engine>,
    /// Whether it had an engine in this run of the daemon.
    has_run: bool,
    view: watch::Sender<ReplicaView>,
    leaving: Leaving,
}

/// The running generation.
struct Engine {
    news: mpsc::Receiver<News>,
    stop: CancellationToken,
    /// Absent when an earlier run of the daemon has started it.
    started: Option<Instant>,
    process: Option<Process>,
}

/// Whether the actor shall end.
enum Leaving {
    No,
    /// When the engine has ended; the one who asked is told then, if there is one.
    Yes(Option<oneshot::Sender<()>>),
}

impl Actor {
    pub(super) fn new(
        options: ReplicaOptions,
        shared: Shared,
        inbox: mpsc::Receiver<Message>,
    ) -> (Self, watch::Receiver<ReplicaView>) {
        let mut machine = match &options.legacy {
            Legacy::Running(record, _) => {
                let started = (record.inputs.clone(), options.legacy_model.clone());
                Machine::taken_over(options.life, record.generation, started, Instant::now())
            }
            other => Machine::new(options.life, other.generation()),
        };
        let (view, seen) = watch::channel(ReplicaView {
            status: machine.status(Instant::now()),
            process: None,
            started: None,
            gpu_memory: None,
            loaded: None,
            current: None,
            previous: None,
        });
        let actor = Self {
            metrics: shared.metrics.replica(&options.pool, &options.id),
            story: ReplicaStory::of(&options),
            options,
            shared,
            inbox,
            machine,
            engine: None,
            has_run: false,
            view,
            leaving: Leaving::No,
        };
        (actor, seen)
    }

    pub(super) async fn run(mut self) {
        self.take_over();
        while !self.has_left() {
            let event = self.next().await;
            self.take(event);
            self.publish();
        }
        if let Leaving::Yes(Some(asked)) = self.leaving {
            // Whoever asked may have stopped waiting.
            let _told_or_gone = asked.send(());
        }
    }

    fn take_over(&mut self) {
        if let Legacy::Running(record, key) = self.options.legacy.clone() {
            self.story
                .taken_over(self.machine.model().map(|model| &model.choice.model_id));
            self.attend(record.generation, key, Origin::Inherited(record), None);
            self.publish();
        }
    }

    fn has_left(&self) -> bool {
        if self.shared.leave.is_cancelled() {
            return true;
        }
        let stopped = self.view.borrow().status.state == ReplicaState::Stopped;
        matches!(self.leaving, Leaving::Yes(_)) && stopped
    }

    async fn next(&mut self) -> Option<Event> {
        let stays = matches!(self.leaving, Leaving::No);
        let wake = self.machine.wake_at();
        tokio::select! {
            // Wishes first: a stop must not wait behind a chatty engine.
            biased;
            () = self.shared.leave.cancelled() => None,
            message = self.inbox.recv(), if stays => Some(self.heard(message)),
            news = next_news(&mut self.engine) => self.learned(news),
            () = wait_until(wake) => Some(Event::Timer),
        }
    }

    fn heard(&mut self, message: Option<Message>) -> Event {
        let asked = match message {
            Some(Message::Aim(goal)) => return Event::Goal(goal),
            Some(Message::ShutDown(asked)) => Some(asked),
            None => None,
        };
        self.leaving = Leaving::Yes(asked);
        Event::Goal(Goal {
            wish: Wish::Stop,
            drain: true,
            inputs: Inputs::default(),
            model: None,
            tries: 0,
        })
    }

    fn learned(&mut self, news: Option<News>) -> Option<Event> {
        match news {
            Some(News::Started(process)) => {
                if let Some(engine) = &mut self.engine {
                    engine.process = Some(process);
                }
                None
            }
            Some(News::Looked(look)) => Some(Event::Looked(look)),
            Some(News::Holds(bytes)) => {
                self.holds(bytes);
                None
            }
            Some(News::Progress) => Some(Event::Progress),
            Some(News::Unhealthy(why)) => Some(Event::Unhealthy(why)),
            Some(News::Gone) => Some(Event::Gone),
            Some(News::Ended(ending)) => Some(self.ended(ending)),
            None => Some(self.ended(Ending {
                cause: UnreadyCause::EngineExited,
                how: "its monitor failed".to_owned(),
                last_error: None,
            })),
        }
    }

    fn holds(&self, bytes: Option<u64>) {
        self.view.send_modify(|view| view.gpu_memory = bytes);
        self.shared.changes.announce();
    }

    fn ended(&mut self, ending: Ending) -> Event {
        self.engine = None;
        self.view.send_modify(|view| view.gpu_memory = None);
        Event::Ended(ending)
    }

    fn take(&mut self, event: Option<Event>) {
        let Some(event) = event else { return };
        let ended = matches!(event, Event::Ended(_));
        let at = Moment {
            now: Instant::now(),
            entropy: entropy(),
        };
        let action = self.machine.on(at, event);
        if ended && let Some(cause) = self.machine.status(at.now).last_cause {
            self.metrics.ended(cause);
        }
        match action {
            Some(Action::Start(generation)) => self.start(generation),
            Some(Action::Terminate) => self.terminate(),
            None => {}
        }
    }

    fn start(&mut self, generation: u64) {
        if std::mem::replace(&mut self.has_run, true) {
            self.metrics.restarted();
        }
        if let Some(forgotten) = generation.checked_sub(KEPT_STARTS) {
            self.options.custody.log_files(forgotten).remove();
        }
        let inputs = self.machine.inputs().clone();
        let weights = self.machine.model().and_then(|model| model.file.weights());
        let weights = weights.unwrap_or(0);
        self.attend(
            generation,
            new_key(),
            Origin::New(inputs, weights),
            Some(Instant::now()),
        );
    }

    fn attend(&mut self, generation: u64, key: SecretString, origin: Origin, started: Option<Instant>) {
        self.has_run = true;
        let files = self.options.custody.log_files(generation);
        let output = Arc::new(Output::new(
            generation,
            key,
            files,
            self.options.custody.log_lines,
        ));
        let (send, news) = mpsc::channel(NEWS);
        let model = self.machine.model();
        let choice = model.map(|model| &model.choice);
        let stop = CancellationToken::new();
        let launch = Launch {
            spec: self.options.engine.clone(),
            source: self.options.source.clone(),
            // A file that vanished since the goal was set makes this start fail, with its name.
            model: model.and_then(|model| model.file.path()).unwrap_or_default(),
            alias: choice.map_or_else(String::new, |choice| choice.model_id.to_string()),
            fingerprint: choice.map_or_else(String::new, |choice| self.options.fingerprint(choice)),
            origin,
            custody: Arc::clone(&self.options.custody),
            health_interval: self.options.health_interval,
            watchdog: self.options.watchdog,
            clients: self.shared.clients.clone(),
            gpus: self.shared.gpus.clone(),
            output: Arc::clone(&output),
            stop: stop.clone(),
            kill: self.shared.kill.clone(),
            leave: self.shared.leave.clone(),
        };
        self.shared.tasks.spawn(monitor::run(launch, send));
        self.engine = Some(Engine {
            news,
            stop,
            started,
            process: None,
        });
        self.view.send_modify(|view| {
            view.previous = view.current.replace(output);
            view.started = started;
            view.loaded = None;
        });
    }

    fn terminate(&self) {
        if let Some(engine) = &self.engine {
            engine.stop.cancel();
        }
    }

    fn publish(&mut self) {
        let status = self.machine.status(Instant::now());
        let process = self.engine.as_ref().and_then(|engine| engine.process);
        let before = self.view.borrow().status.clone();
        let changed = self.view.send_if_modified(|view| {
            let differs = view.status != status || view.process != process;
            view.status.clone_from(&status);
            view.process = process;
            differs
        });
        if changed {
            self.account(&before, &status);
            self.shared.changes.announce();
        }
    }

    fn account(&self, before: &Status, after: &Status) {
        let started = self.engine.as_ref().and_then(|engine| engine.started);
        let took = started.map(|started| started.elapsed());
        let loaded =
            matches!(before.state, ReplicaState::Starting | ReplicaState::Loading) && after.facts.is_some();
        if let Some(took) = took
            && loaded
        {
            self.metrics.loaded(took);
            self.view.send_modify(|view| view.loaded = Some(took));
        }
        let model = self.machine.model().map(|model| &model.choice.model_id);
        self.story.tell(model, before, after, took);
    }
}

async fn next_news(engine: &mut Option<Engine>) -> Option<News> {
    match engine {
        Some(engine) => engine.news.recv().await,
        None => std::future::pending().await,
    }
}

async fn wait_until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// 244 bits from the operating system's generator: a version 4 UUID has 122.
fn new_key() -> SecretString {
    let [first, second] = [Uuid::new_v4(), Uuid::new_v4()];
    SecretString::from(format!("{}{}", first.simple(), second.simple()))
}

/// Bits for jitter, where a UUID has random ones.
fn entropy() -> u64 {
    let (_, low) = Uuid::new_v4().as_u64_pair();
    low
}
