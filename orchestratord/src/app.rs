//! Puts the daemon together and runs it: socket first, then the parts, then the order of stopping
//! (ARCHITECTURE.md, "Shutdown order").

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use adapter_host::AdapterHost;
use anyhow::Context as _;
use config_schema::Config;
use futures_util::FutureExt as _;
use http_front::{Front, Limits, Listener, serve, shutdown};
use llama_orch_client::{NodeClient, Timeouts};
use narration_core::Narration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, AppState};
use crate::artifacts::Artifacts;
use crate::device_gauges::DeviceGauges;
use crate::dispatcher::{Dispatcher, Durable, Parts};
use crate::engine_log::EngineLogs;
use crate::metrics::Metrics;
use crate::model_gauges::ModelGauges;
use crate::node_check::NodeCheck;
use crate::options;
use crate::pause::Pause;
use crate::queue_gauges::QueueGauges;
use crate::rate::RateLimits;
use crate::state::{EXIT_JOURNAL_FAILED, Found, State};
use crate::story::ACTOR;

/// Serves until a signal says stop. The exit code tells a graceful end from a forced one.
///
/// # Errors
/// Whatever keeps the daemon from starting.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let signals = shutdown::signals().context("signal handlers cannot be installed")?;
    let draining = signals.graceful();
    let pause = Pause::default();
    let front = Front::new(ACTOR, &config.auth, &config.http, config.orchestratord.addr.get())?
        .always_token(api::ALWAYS_TOKEN)
        .advised_by(pause.advice());
    let limits = Limits::new(&config.http, &config.auth).advised_by(pause.advice());
    let listener = Listener::bind(config.orchestratord.addr.get())?;
    let (kept, found) = State::open(&config)?;
    let daemon = Daemon::new(&config, draining, (&kept, found), pause)?;
    announce(&listener)?;
    let ended = tokio::select! {
        biased;
        signal = signals.immediate() => Ok(ExitCode::from(signal.exit_status())),
        served = daemon.serve(front, listener, limits) => served.map(|()| ExitCode::SUCCESS),
        () = journal_failed(&kept) => Ok(ExitCode::from(EXIT_JOURNAL_FAILED)),
    };
    kept.close();
    ended
}

/// Ends when the journal has failed and whoever waited for it had time to be told.
async fn journal_failed(kept: &State) {
    kept.failed.cancelled().await;
    sleep(LAST_ANSWERS).await;
}

/// The one line on standard output: where the daemon listens, for people and for whoever chose
/// port 0.
fn announce(listener: &Listener) -> std::io::Result<()> {
    let addr = listener.local_addr();
    Narration::new(ACTOR, "listen", &addr, "Listens for tasks.").emit();
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening http://{addr}")?;
    out.flush()
}

/// Between a failed journal and the end of the process: long enough for answers on open connections.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

struct Daemon {
    state: AppState,
    dispatcher: Dispatcher,
    tracker: TaskTracker,
}

impl Daemon {
    fn new(
        config: &Config,
        draining: CancellationToken,
        (kept, found): (&State, Found),
        pause: Pause,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics::new().context("metric families cannot be registered")?;
        let host = Arc::new(AdapterHost::new(options::adapters(config), &metrics.registry)?);
        let nodes = NodeClient::new(config.auth.token.clone(), Timeouts::default())?;
        let tracker = TaskTracker::new();
        let artifacts = artifacts(config, kept, &metrics)?;
        let parts = Parts {
            host: Arc::clone(&host),
            logs: Arc::new(EngineLogs::new(nodes.clone())),
            token: config.auth.token.clone(),
            metrics: metrics.clone(),
            devices: DeviceGauges::new(&metrics.registry).context("metric families cannot be registered")?,
            models: ModelGauges::new(&metrics.registry).context("metric families cannot be registered")?,
            queues: QueueGauges::new(&metrics.registry).context("metric families cannot be registered")?,
            pause,
            artifacts: artifacts.clone(),
            tracker: tracker.clone(),
            draining: draining.clone(),
        };
        let policy = options::durability(config);
        let durable = Durable::new(kept.journal.clone(), kept.transcripts.clone(), policy);
        let (mut dispatcher, handle) = Dispatcher::new(options::dispatcher(config), parts, durable);
        dispatcher.restore(found.records, found.said)?;
        kept.flush()?;
        let state = AppState {
            dispatcher: handle,
            host,
            nodes,
            node_check: NodeCheck::new(config.auth.token.clone())?,
            journal: kept.journal.clone(),
            artifacts,
            metrics: Arc::new(metrics),
            rates: Arc::new(RateLimits::new(options::rate(&config.orchestratord.rate_limit))),
            gates: config.orchestratord.placement,
            heartbeat: options::heartbeat(config),
            draining,
        };
        Ok(Self {
            state,
            dispatcher,
            tracker,
        })
    }

    /// Serves; when told to stop, the dispatcher ends every task with a frame first, then the
    /// connections are drained.
    async fn serve(self, front: Front, listener: Listener, limits: Limits) -> anyhow::Result<()> {
        let stop_serving = CancellationToken::new();
        if let Some(artifacts) = &self.state.artifacts {
            self.tracker
                .spawn(Arc::clone(artifacts).tend(stop_serving.clone()));
        }
        let router = front.wrap(api::router(self.state));
        let server = serve(listener, router, limits, stop_serving.clone());
        // A task of its own: a command does not poll the accept loop, nor a connection the dispatcher.
        let dispatching = self.tracker.spawn(self.dispatcher.run());
        let stopping = async {
            // Without it nothing can be decided: the daemon ends at once, and its service manager starts a new one.
            dispatching.await.context("the dispatcher has failed")?;
            Narration::new(
                ACTOR,
                "stop",
                &"dispatcher",
                "Every task has ended; connections are closed.",
            )
            .emit();
            stop_serving.cancel();
            anyhow::Ok(())
        };
        tokio::try_join!(server.map(anyhow::Ok), stopping)?;
        self.tracker.close();
        self.tracker.wait().await;
        Ok(())
    }
}

/// What is kept beside tasks, where anything is.
fn artifacts(config: &Config, kept: &State, metrics: &Metrics) -> anyhow::Result<Option<Arc<Artifacts>>> {
    let Some(files) = &kept.artifacts else {
        return Ok(None);
    };
    let options = options::artifacts(config);
    let artifacts = Artifacts::new(Arc::clone(files), options, &config.auth, &metrics.registry)
        .context("metric families cannot be registered")?;
    Ok(Some(Arc::new(artifacts)))
}
