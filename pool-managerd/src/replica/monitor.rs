//! One generation of an engine from start to end: starts the process or takes it over, looks at its health, waits for
//! it, classifies its end. Owns the process; tells the actor and never waits for it beyond the channel.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api_types::pool::UnreadyCause;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::Process;
use super::watching::{Subject, Watch};
use crate::engine::command::{ApiKey, EngineSpec, LaunchParams, llama_server};
use crate::engine::container::{Client, NotStarted};
use crate::engine::ending::{self, EVIDENCE_LINES, Ending};
use crate::engine::listener::PortOwner;
use crate::engine::output::Output;
use crate::engine::probe::{Clients, Expected, LOOPBACK, Look, Prober};
use crate::engine::process::EngineProcess;
use crate::engine::shim::{Exit, Record};
use crate::facts::{Inputs, identity_at};
use crate::gpu::GpuWatch;
use crate::gpu::residency::Claim;
use crate::procfs::{ProcessIdentity, watched};
use crate::replica::custody::{Custody, StartOrder, Vessel};
use crate::source::EngineSource;
use crate::state_dir::write_key;
use crate::trouble::Unready;

/// Everything one start needs.
pub(super) struct Launch {
    pub spec: EngineSpec,
    pub source: EngineSource,
    pub model: PathBuf,
    /// The name clients use for the model.
    pub alias: String,
    /// Of everything that makes this engine another one.
    pub fingerprint: String,
    pub origin: Origin,
    pub custody: Arc<Custody>,
    pub health_interval: Duration,
    pub watchdog: Duration,
    pub clients: Clients,
    pub gpus: GpuWatch,
    pub output: Arc<Output>,
    /// End it, with grace.
    pub stop: CancellationToken,
    /// End it at once.
    pub kill: CancellationToken,
    /// Let it run and look away.
    pub leave: CancellationToken,
}

/// Where the process comes from.
pub(super) enum Origin {
    /// It is to be started, with these files; of the model so many bytes have to be on the GPUs at least.
    New(Inputs, u64),
    /// An earlier run of the daemon has started it.
    Inherited(Box<Record>),
}

/// What the monitor tells.
#[derive(Debug)]
pub(super) enum News {
    /// The process runs.
    Started(Process),
    /// It was looked at; only what differs from the look before.
    Looked(Look),
    /// What its processes hold on the GPUs, as far as the driver tells.
    Holds(Option<u64>),
    /// It is not ready yet, but gets on.
    Progress,
    /// It served and does no longer.
    Unhealthy(Unready),
    /// Its process is gone; how it ended follows.
    Gone,
    /// How it ended, or that it never came to be. Always the last.
    Ended(Ending),
}

/// Runs one generation to its end, or until the daemon leaves it.
pub(super) async fn run(launch: Launch, news: mpsc::Sender<News>) {
    let launch = Arc::new(launch);
    let begun = tokio::select! {
        biased;
        // A container may take long to start: the next run of the daemon takes it over, or ends it.
        () = launch.leave.cancelled() => return,
        begun = begin(&launch) => begun,
    };
    let ending = match begun {
        Ok(process) => match live(process, &launch, &news).await {
            Some(ending) => ending,
            None => return,
        },
        Err(why) => not_started(why),
    };
    launch.output.close(ending.how.clone());
    // A key that cannot be removed is of no use to anybody once its engine is gone.
    let _removed_or_useless = std::fs::remove_file(launch.key_file());
    // The actor listens until this news; when it is gone, so is the reason to tell it.
    let _told_or_gone = news.send(News::Ended(ending)).await;
}

impl Launch {
    fn key_file(&self) -> PathBuf {
        self.custody.key_file(self.output.generation())
    }

    fn expected(&self) -> Expected {
        Expected {
            alias: self.alias.clone(),
            mode: self.spec.mode,
        }
    }

    fn subject(&self, prober: Prober, group: u32, record: &Record) -> Subject {
        Subject {
            prober,
            gpus: self.gpus.clone(),
            claim: Claim {
                mask: self.spec.devices.clone(),
                weights: record.weights,
            },
            group,
            start: record.start.clone(),
            health_interval: self.health_interval,
            watchdog: self.watchdog,
        }
    }

    /// Blocking.
    fn spawn(&self, inputs: Inputs, weights: u64) -> Result<EngineProcess, NotStarted> {
        self.still_holds(&inputs)?;
        let key_file = self.key_file();
        // A later run of the daemon reads it there, wherever the engine has it from.
        write_key(&key_file, self.output.key())?;
        let port = free_port()?;
        let (vessel, model) = self
            .source
            .vessel(self.model.clone(), port, &self.spec.devices)
            .map_err(|why| NotStarted::new(why.cause, why.hint))?;
        let (listen, key) = match &vessel {
            Vessel::Program(_) => (SocketAddrV4::new(LOOPBACK, port), ApiKey::File(key_file)),
            Vessel::Container(_, run) => (
                SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, run.container_port),
                ApiKey::Variable(self.output.key().clone()),
            ),
        };
        let params = LaunchParams {
            model,
            alias: self.alias.clone(),
            listen,
            key,
        };
        let command = llama_server(&self.spec, &params);
        let start = StartOrder {
            vessel,
            fingerprint: self.fingerprint.clone(),
            port,
            inputs,
            weights,
        };
        let orders = self.custody.orders(command, start, &self.output);
        EngineProcess::spawn(&self.custody.dir, self.client(), &orders)
    }

    /// The model file is the one that was looked at, and whose digest was verified.
    fn still_holds(&self, inputs: &Inputs) -> Result<(), NotStarted> {
        let present = identity_at(&self.model)?;
        if inputs.model.is_some_and(|known| known != present) {
            let why = format!("{} has changed a moment ago", self.model.display());
            return Err(NotStarted::new(UnreadyCause::ModelMissing, why));
        }
        Ok(())
    }

    /// A container whose shim is gone gets another. Blocking.
    fn hold(&self, record: Record) -> Result<EngineProcess, NotStarted> {
        let orders = self.custody.orders_to_hold(record, &self.output);
        EngineProcess::spawn(&self.custody.dir, self.client(), &orders)
    }

    fn client(&self) -> &Client {
        &self.custody.node.client
    }
}

async fn begin(launch: &Arc<Launch>) -> Result<EngineProcess, NotStarted> {
    match &launch.origin {
        Origin::Inherited(record) => {
            if record.lost_its_shim() {
                let (launch, record) = (Arc::clone(launch), Record::clone(record));
                let holding = spawn_blocking(move || launch.hold(record));
                return holding.await.map_err(io::Error::other)?;
            }
            let process = EngineProcess::attach(&launch.custody.dir, launch.client(), Record::clone(record))?;
            let gone = || io::Error::other("it ended before it was taken over");
            Ok(process.ok_or_else(gone)?)
        }
        Origin::New(inputs, weights) => {
            let (launch, inputs, weights) = (Arc::clone(launch), inputs.clone(), *weights);
            let spawning = spawn_blocking(move || launch.spawn(inputs, weights));
            spawning.await.map_err(io::Error::other)?
        }
    }
}

/// A port that was free a moment ago. Whoever takes it meanwhile makes this start fail, and the next one asks
/// again.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((LOOPBACK, 0))?.local_addr()?.port())
}

fn not_started(why: NotStarted) -> Ending {
    Ending {
        cause: why.cause,
        how: format!("not started: {}", why.why),
        last_error: None,
    }
}

/// From the first breath to the last word; `None` when it was left running.
async fn live(mut process: EngineProcess, launch: &Launch, news: &mpsc::Sender<News>) -> Option<Ending> {
    let exit = supervise(&mut process, launch, news).await?;
    let lines = launch.output.tail(EVIDENCE_LINES).await;
    Some(match exit {
        Ok(Some(exit)) => ending::classify(exit.status(), &lines, exit.oom_killed),
        Ok(None) => lost("killed together with its shim".to_owned(), &lines),
        Err(error) => lost(format!("lost: {error}"), &lines),
    })
}

fn lost(how: String, lines: &[String]) -> Ending {
    Ending {
        cause: UnreadyCause::EngineExited,
        how,
        last_error: ending::quote(lines),
    }
}

async fn supervise(
    process: &mut EngineProcess,
    launch: &Launch,
    news: &mpsc::Sender<News>,
) -> Option<io::Result<Option<Exit>>> {
    let (pid, record) = (process.pid(), process.record().clone());
    let watching = async {
        let Some(pid) = pid else {
            // It has ended already, which is told below.
            return std::future::pending().await;
        };
        let (port, owner) = (record.port, port_owner(pid, &record));
        tell(news, News::Started(Process { pid, port })).await;
        match Prober::new(
            &launch.clients,
            port,
            owner,
            launch.expected(),
            launch.output.key(),
        ) {
            Ok(prober) => {
                let watch = Watch::new(launch.subject(prober, pid, &record), news.clone());
                tokio::select! {
                    biased;
                    () = gone(&record) => tell(news, News::Gone).await,
                    never = watch.run() => match never {},
                }
            }
            Err(error) => tell(news, News::Looked(Look::Wrong(error.to_string()))).await,
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        exit = process.wait() => Some(exit),
        () = launch.kill.cancelled() => Some(process.terminate(Duration::ZERO).await),
        () = launch.stop.cancelled() => Some(end_politely(process, launch).await),
        () = launch.leave.cancelled() => None,
        never = watching => match never {},
    }
}

/// Returns when the engine's process has ended, which may be well before its shim has: a runtime takes its time to tell how,
/// and to remove a container.
async fn gone(record: &Record) {
    let handle = record.engine.map(ProcessIdentity::open);
    // What cannot be held is found by its shim's end.
    if let Some(Ok(Some(handle))) = handle
        && let Ok(ended) = watched(handle)
        && ended.readable().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Who has to listen on the engine's port.
fn port_owner(pid: u32, record: &Record) -> PortOwner {
    match record.start.contained() {
        None => PortOwner::Group(pid),
        Some(contained) => {
            let running = contained.running.as_ref();
            PortOwner::Sockets(running.map(|running| running.sockets.clone()).unwrap_or_default())
        }
    }
}

async fn end_politely(process: &mut EngineProcess, launch: &Launch) -> io::Result<Option<Exit>> {
    tokio::select! {
        biased;
        () = launch.kill.cancelled() => {}
        ended = process.terminate(launch.custody.grace) => return ended,
    }
    process.terminate(Duration::ZERO).await
}

async fn tell(news: &mpsc::Sender<News>, what: News) {
    // The actor is gone only when the whole daemon goes; the process is ended by then.
    let _told_or_gone = news.send(what).await;
}
