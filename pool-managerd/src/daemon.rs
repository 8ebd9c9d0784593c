//! The daemon as a whole: what is started in which order, and what is stopped in which order. Owns every
//! task.
//!
//! Start: signals, lock, bind, GPUs, pools (with the engines of an earlier run), loops. Stop: not ready any more, engines
//! are left running for the next run, or end with grace where the configuration says so; last report; HTTP last, so that
//! an orchestrator can still ask for an engine's last lines. A second signal returns at once, and kills the engines
//! where they would have been ended.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use auth_min::BindRefusal;
use config_schema::{Config, Environment, PoolManagerd};
use container_runtime::{Home, Owner};
use http_front::shutdown::{StopSignal, signals};
use http_front::{BindError, Front, Limits, Listener};
use llama_orch_client::{ClientConfig, ClientError, OrchestratorClient};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use crate::assemble::{Assembled, Assembly};
use crate::changes::Changes;
use crate::engine::container::Client;
use crate::engine::probe::Clients;
use crate::facts::{DigestCache, Shelf};
use crate::gpu::{GpuState, GpuWatch, NVML_LIBRARY, NvmlGpus, Sampler, SamplerOptions};
use crate::gpu_locks::{GpuLockError, GpuLocks};
use crate::http::relay::{Passage, PassageOptions};
use crate::http::{ApiState, router};
use crate::images::Images;
use crate::link::{Link, Sequence};
use crate::metrics::Metrics;
use crate::models::Files;
use crate::pool::{Orders, Pool, Pools};
use crate::reach::{NoAddress, Reach};
use crate::reconcile::{Pulse, Reconciler};
use crate::relay_metrics::RelayMetrics;
use crate::replica::Shared;
use crate::replica::custody::NodeCustody;
use crate::report::{Identity, Reporter};
use crate::rollout::store::RolloutStore;
use crate::state_dir::{StateDir, StateDirError};
use crate::story::{self, ACTOR};
use crate::sweep::{self, Sweeper};
use crate::{cgroups, procfs, rollout};

/// How the GPUs are looked at: a lost one is noticed within the sum, and a hung driver is told from a slow
/// one.
const SAMPLING: SamplerOptions = SamplerOptions {
    interval: Duration::from_secs(1),
    deadline: Duration::from_secs(2),
};

/// How long killed engines may take to be gone when nobody wants to wait.
const KILLED: Duration = Duration::from_secs(2);

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Signal handlers.
    #[error("the signal handlers cannot be installed")]
    Signals(#[source] io::Error),
    /// The state directory.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// Beyond loopback without a token (AUTH-1002).
    #[error(transparent)]
    Refused(#[from] BindRefusal),
    /// The socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The metric families.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] prometheus::Error),
    /// The client towards engines.
    #[error("the client for engines cannot be set up")]
    EngineClient(#[from] http_util::BuildError),
    /// The client towards the orchestrator.
    #[error("pool_managerd.orchestrator_url {url} cannot be used")]
    Orchestrator {
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The node's report would be anybody's, and so would its engines.
    #[error(
        "pool_managerd.orchestrator_url {url} is beyond loopback and no token is configured: nobody there could be told \
         from the orchestrator, so set AUTH_TOKEN or auth.token_file to the orchestrator's token"
    )]
    NoTokenBeyondLoopback {
        /// The URL.
        url: String,
    },
    /// Another daemon's GPU.
    #[error(transparent)]
    GpuTaken(#[from] GpuLockError),
    /// The kernel's view of processes.
    #[error("/proc cannot be read")]
    Proc(#[source] io::Error),
    /// The orchestrator could not be told where this daemon is.
    #[error(transparent)]
    NoAddress(#[from] NoAddress),
    /// The probe thread.
    #[error("the NVML probe thread cannot be started")]
    Probe(#[source] io::Error),
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// After one signal, in order.
    Orderly,
    /// After a second one, at once.
    AtOnce(StopSignal),
}

/// Runs until a stop signal.
///
/// # Errors
/// [`StartError`]; once it has started, nothing makes it fail.
pub async fn run(config: &Config, environment: &Environment) -> Result<Ended, StartError> {
    let signals = signals().map_err(StartError::Signals)?;
    let stopping = signals.graceful();
    let daemon = Daemon::start(config, environment, stopping.clone())?;
    let engines = daemon.engines.clone();
    tokio::select! {
        biased;
        signal = signals.immediate() => {
            engines.abandon().await;
            Ok(Ended::AtOnce(signal))
        }
        () = daemon.serve(stopping) => Ok(Ended::Orderly),
    }
}

/// Everything that runs engines.
#[derive(Debug, Clone)]
struct Engines {
    /// Whether they outlive the daemon.
    kept: bool,
    tasks: TaskTracker,
    kill: CancellationToken,
    leave: CancellationToken,
}

impl Engines {
    fn new(kept: bool) -> Self {
        Self {
            kept,
            tasks: TaskTracker::new(),
            kill: CancellationToken::new(),
            leave: CancellationToken::new(),
        }
    }

    fn shared(&self, gpus: GpuWatch, metrics: Metrics, changes: Changes) -> Result<Shared, StartError> {
        Ok(Shared {
            clients: Clients::new()?,
            gpus,
            changes,
            metrics,
            tasks: self.tasks.clone(),
            kill: self.kill.clone(),
            leave: self.leave.clone(),
        })
    }

    /// Nobody wants to wait.
    async fn abandon(&self) {
        if self.kept {
            self.leave.cancel();
        } else {
            self.kill.cancel();
        }
        self.tasks.close();
        // Whatever the kernel has not freed by then, it frees after this process is gone.
        let _gone_or_going = timeout(KILLED, self.tasks.wait()).await;
    }
}

struct Daemon {
    listener: Listener,
    front: Front,
    limits: Limits,
    api: ApiState,
    engines: Engines,
    loops: Loops,
    link: JoinHandle<()>,
    link_stop: CancellationToken,
    /// Held until the end.
    _state: StateDir,
    /// Held until the end.
    _gpus: GpuLocks,
}

impl Daemon {
    fn start(
        config: &Config,
        environment: &Environment,
        stopping: CancellationToken,
    ) -> Result<Self, StartError> {
        let node = &config.pool_managerd;
        let client = orchestrator(config)?;
        let http = Reach::known_hosts(node, &config.http);
        let front = Front::new(ACTOR, &config.auth, &http, node.addr.get())?;
        let state = StateDir::open(&node.state_dir)?;
        let gpu_locks = GpuLocks::take(node)?;
        let listener = Listener::bind(node.addr.get())?;
        let reach = Reach::new(node, listener.local_addr())?;
        announce(listener.local_addr());
        reach.tell();

        let (engines, loops) = (Engines::new(node.keep_engines), Loops::default());
        let custody = custody(node, environment, &state)?;
        let (metrics, changes) = (Metrics::new()?, Changes::default());
        let gpu_watch = loops.sample(node.nvml_library.as_deref(), &metrics, &changes)?;
        let gpus = gpu_watch.states();
        let shared = engines.shared(gpu_watch, metrics.clone(), changes.clone())?;
        let files = loops.files(&state, &changes);
        let (keep, kept) = watch::channel(None);
        let images = loops.images(&custody, kept, &gpus, &changes);
        let runtimes = custody.client.clone();
        let shelf = Shelf::at(&config.catalog.root);
        let assembly = Assembly::new(
            node,
            environment,
            &state,
            &shared,
            (&files, &images),
            shelf,
            custody,
        )?;
        let rollouts = assembly.rollouts();
        let (assembled, rest) = assembly.pools()?;
        keep.send_replace(Some(rest.kept));
        loops.tasks.spawn(sweep::remove(rest.left, runtimes));
        let assembled = loops.record(assembled, &rollouts, &changes);
        let (orders, ordered) = watch::channel(Orders::default());
        let pools = Pools::new(assembled, ordered);
        story::started(pools.iter().count());

        let identity = identity(config, reach);
        let relay = relay(config, &identity, &metrics)?;
        let mut limits = Limits::new(&config.http, &config.auth);
        identity.reach.make_room(&mut limits, &node.pools);
        let reporter = Reporter::new(identity, gpus.clone(), pools.clone());
        let sequence = Sequence::default();
        let link = Link::new(
            client,
            reporter.clone(),
            sequence.clone(),
            orders,
            metrics.clone(),
        );
        let link_stop = CancellationToken::new();
        Ok(Self {
            limits,
            api: ApiState {
                relay,
                pulse: loops.reconcile(&pools, &gpus, &shared),
                reporter,
                sequence,
                pools,
                gpus,
                metrics,
                stopping,
            },
            link: loops.tasks.spawn(link.run(changes, link_stop.clone())),
            link_stop,
            listener,
            front,
            engines,
            loops,
            _state: state,
            _gpus: gpu_locks,
        })
    }

    async fn serve(self, stopping: CancellationToken) {
        let closing = CancellationToken::new();
        let pools = self.api.pools.clone();
        let router = router(self.api, self.front);
        let serving = http_front::serve(self.listener, router, self.limits, closing.clone());
        let stop = async {
            stopping.cancelled().await;
            story::stopping(self.engines.kept);
            if self.engines.kept {
                self.engines.leave.cancel();
            } else {
                pools.shut_down().await;
            }
            self.link_stop.cancel();
            // A link that has failed has nothing left to say.
            let _said_or_failed = self.link.await;
            closing.cancel();
        };
        tokio::join!(serving, stop);
        self.loops.end().await;
        self.engines.tasks.close();
        self.engines.tasks.wait().await;
    }
}

/// Sampler, file watchers, reconcile loop and link.
#[derive(Debug, Default)]
struct Loops {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Loops {
    fn sample(
        &self,
        library: Option<&Path>,
        metrics: &Metrics,
        changes: &Changes,
    ) -> Result<GpuWatch, StartError> {
        let library = library.unwrap_or_else(|| Path::new(NVML_LIBRARY));
        let source = Box::new(NvmlGpus::new(library.to_owned()));
        let (sampler, gpus) = Sampler::start(source, SAMPLING).map_err(StartError::Probe)?;
        let (metrics, changes) = (metrics.clone(), changes.clone());
        let latest = gpus.states();
        let observe = move |after: &GpuState| {
            metrics.gpus_sampled(after);
            let before = latest.borrow();
            story::gpus(&before, after);
            if before.is_ok() != after.is_ok() {
                changes.announce();
            }
        };
        self.tasks.spawn(sampler.run(self.stop.clone(), observe));
        Ok(gpus)
    }

    fn files(&self, state: &StateDir, changes: &Changes) -> Files {
        let digests = DigestCache::open(state.digests());
        Files::new(digests, changes.clone(), self.tasks.clone(), self.stop.clone())
    }

    fn images(
        &self,
        custody: &NodeCustody,
        kept: watch::Receiver<Option<BTreeSet<Owner>>>,
        gpus: &watch::Receiver<GpuState>,
        changes: &Changes,
    ) -> Images {
        let sweeper = Sweeper::new(custody.home.clone(), kept);
        Images::new(
            custody.client.clone(),
            sweeper,
            gpus.clone(),
            changes.clone(),
            self.tasks.clone(),
            self.stop.clone(),
        )
    }

    /// Has every change of what a pool serves recorded.
    fn record(&self, assembled: Vec<Assembled>, store: &RolloutStore, changes: &Changes) -> Vec<Pool> {
        let recorded = |assembled: Assembled| {
            let Assembled { pool, recorded } = assembled;
            self.tasks.spawn(rollout::store::keep(
                store.clone(),
                pool.spec.id.clone(),
                pool.rollout.subscribe(),
                recorded,
                changes.clone(),
                self.stop.clone(),
            ));
            pool
        };
        assembled.into_iter().map(recorded).collect()
    }

    fn reconcile(&self, pools: &Pools, gpus: &watch::Receiver<GpuState>, shared: &Shared) -> Pulse {
        let (reconciler, pulse) = Reconciler::new(pools.clone(), gpus.clone(), shared.metrics.clone());
        self.tasks
            .spawn(reconciler.run(shared.changes.clone(), self.stop.clone()));
        pulse
    }

    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The line that scripts wait for. A reader that is gone does not keep the daemon from serving.
fn announce(addr: SocketAddr) {
    let mut stdout = io::stdout().lock();
    let _read_or_gone = writeln!(stdout, "listening http://{addr}").and_then(|()| stdout.flush());
}

fn custody(
    node: &PoolManagerd,
    environment: &Environment,
    state: &StateDir,
) -> Result<NodeCustody, StartError> {
    Ok(NodeCustody {
        home: Home::of(&state.engines()),
        node: node.node_id.clone(),
        client: Client::of(environment),
        owner_lock: state.lock(),
        adopt_within: node.adopt_within_ms.duration(),
        cgroups: cgroups::delegated(),
        boot_id: procfs::boot_id().map_err(StartError::Proc)?,
    })
}

fn identity(config: &Config, reach: Reach) -> Identity {
    Identity {
        node_id: config.pool_managerd.node_id.clone(),
        instance: Uuid::new_v4(),
        reach,
    }
}

fn relay(config: &Config, identity: &Identity, metrics: &Metrics) -> Result<Option<Passage>, StartError> {
    if !identity.reach.relay {
        return Ok(None);
    }
    let passage = Passage::new(PassageOptions {
        instance: identity.instance,
        max_body_bytes: config.http.max_body_bytes.get(),
        metrics: RelayMetrics::register(metrics.registry())?,
    })?;
    Ok(Some(passage))
}

fn orchestrator(config: &Config) -> Result<OrchestratorClient, StartError> {
    let to = &config.pool_managerd.orchestrator_url;
    let text = to.as_str();
    let unusable = |source| StartError::Orchestrator {
        url: text.to_owned(),
        source,
    };
    let url = Url::parse(text).map_err(|error| unusable(error.into()))?;
    if config.auth.token.is_none() && !to.is_loopback() {
        return Err(StartError::NoTokenBeyondLoopback { url: text.to_owned() });
    }
    let client = OrchestratorClient::new(ClientConfig::new(url, config.auth.token.clone()));
    client.map_err(|error: ClientError| unusable(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_orchestrator_beyond_loopback_without_a_token() {
        let mut config = Config::default();
        config.pool_managerd.orchestrator_url = "http://10.0.0.1:8080".parse().unwrap();
        assert!(matches!(
            orchestrator(&config),
            Err(StartError::NoTokenBeyondLoopback { .. })
        ));
        config.auth.token = Some("a-token-of-the-lan".into());
        assert!(orchestrator(&config).is_ok());
    }
}
