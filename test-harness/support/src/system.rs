//! A whole llama-orch on loopback: one `orchestratord`, one `pool-managerd` over the fake NVML's
//! reference box, one engine per pool. What the demo shows and what cross-crate suites test.
//!
//! Everything is a real process with its own process group; dropping a [`System`] kills all of it
//! and removes its folder (below the target folder, nowhere else).

mod gpu_box;
mod plan;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::{self, BuildError};
use crate::daemon::{Command, Daemon, StartError};
use crate::fake_nvml::{self, FakeNvml};
use crate::gguf::TinyModel;
use crate::http1::{self, Call};
use crate::processes::EnginesBelow;
use crate::scripted_engine::{EngineControl, Script};
use crate::wait::{Look, TimedOut, wait_for};
pub use gpu_box::GpuBox;
pub use plan::{EngineChoice, ModelPlan, Plan, PoolPlan};

/// How long pools may take to be ready. Generous: machines are shared and a real engine loads.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long a daemon may take to stop; longer than its own grace periods.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// The model every pool serves, as clients name it.
pub const MODEL: &str = "tiny";

/// Why a system does not start or answer.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// A program could not be built or found.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A daemon did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A file could not be written.
    #[error("cannot write below {folder}")]
    File {
        /// The system's folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something did not come true in time.
    #[error("{timed_out}\n{logs}")]
    TimedOut {
        /// What, and what was seen instead.
        timed_out: TimedOut,
        /// What the daemons said.
        logs: String,
    },
    /// A daemon could not be asked.
    #[error(transparent)]
    Http(#[from] http1::Error),
    /// There is no such pool, or it has no engine now.
    #[error("pool {0} has no engine now")]
    NoEngine(String),
}

/// A running system.
#[derive(Debug)]
pub struct System {
    /// The orchestrator.
    pub orchestrator: Daemon,
    /// The GPU box.
    pub node: Daemon,
    /// Its GPUs.
    pub gpus: FakeNvml,
    plan: Plan,
    /// Earlier runs of pool-managerd: dropping one ends the engines that have descended from it.
    retired: Vec<Daemon>,
    /// After the daemon that would start them again.
    _engines: EnginesBelow,
    folder: TempDir,
}

impl System {
    /// Starts everything and waits until every pool is ready.
    ///
    /// # Errors
    /// Any [`SystemError`].
    pub async fn start(plan: Plan) -> Result<Self, SystemError> {
        let system = Self::start_unready(plan).await?;
        system.wait_ready().await?;
        Ok(system)
    }

    /// Starts both daemons and waits for nothing more.
    ///
    /// # Errors
    /// Any [`SystemError`].
    pub async fn start_unready(plan: Plan) -> Result<Self, SystemError> {
        let folder = folder()?;
        let gpus = prepare(&plan, folder.path())?;
        let orchestrator = orchestrator_command(&plan, folder.path())?.start().await?;
        let node = node_command(&plan, folder.path(), &gpus, &orchestrator.base_url())?
            .start()
            .await?;
        Ok(Self {
            orchestrator,
            node,
            gpus,
            plan,
            retired: Vec::new(),
            _engines: EnginesBelow(folder.path().to_owned()),
            folder,
        })
    }

    /// Starts orchestratord again on the same address, after it was stopped.
    ///
    /// # Errors
    /// Any [`SystemError`].
    pub async fn restart_orchestrator(&mut self) -> Result<(), SystemError> {
        let address = self.orchestrator.address().to_string();
        let command = orchestrator_command(&self.plan, self.folder.path())?.env("ORCHD_ADDR", address);
        self.orchestrator = command.start().await?;
        Ok(())
    }

    /// Starts pool-managerd again on the same address, after it was stopped or killed.
    ///
    /// # Errors
    /// Any [`SystemError`].
    pub async fn restart_node(&mut self) -> Result<(), SystemError> {
        let orchestrator = self.orchestrator.base_url();
        let address = self.node.address().to_string();
        let command = node_command(&self.plan, self.folder.path(), &self.gpus, &orchestrator)?
            .env("POOL_MANAGERD_ADDR", address);
        let before = std::mem::replace(&mut self.node, command.start().await?);
        self.retired.push(before);
        Ok(())
    }

    /// Where orchestratord listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.orchestrator.address()
    }

    /// The system's folder, gone when the system is dropped.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The reference of the file of a model by its name.
    #[must_use]
    pub fn model_ref(&self, name: &str) -> String {
        format!("file:{}", model_file(self.folder.path(), name).display())
    }

    /// Starts a pool's engines with another script from their next start on.
    ///
    /// # Errors
    /// [`SystemError::File`].
    pub fn rescript(&self, pool: &str, script: &Script) -> Result<(), SystemError> {
        let failed = |source| SystemError::File {
            folder: self.folder.path().to_owned(),
            source,
        };
        let script = serde_json::to_vec(script).map_err(|error| failed(error.into()))?;
        let file = self.folder.path().join(format!("{pool}.script.json"));
        fs::write(file, script).map_err(failed)
    }

    /// The configuration file that both daemons read.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        config_file(self.folder.path())
    }

    /// A call with the system's token.
    ///
    /// # Errors
    /// The orchestrator does not answer.
    pub async fn call(&self, call: Call) -> Result<http1::Answer, http1::Error> {
        http1::call(self.address(), &self.authorized(call)).await
    }

    /// Adds the system's token.
    #[must_use]
    pub fn authorized(&self, call: Call) -> Call {
        self.plan.authorized(call)
    }

    /// Waits until the orchestrator shows every pool as ready.
    ///
    /// # Errors
    /// [`SystemError::TimedOut`] with the last state and both daemons' logs.
    pub async fn wait_ready(&self) -> Result<(), SystemError> {
        let all = |pools: &[Value]| {
            pools.len() == self.plan.pools.len() && pools.iter().all(|pool| pool["health"]["ready"] == true)
        };
        self.wait_pools("every pool to be ready", all).await.map(drop)
    }

    /// Waits until the pools satisfy a condition; tells them.
    ///
    /// # Errors
    /// [`SystemError::TimedOut`] with the last state and both daemons' logs.
    pub async fn wait_pools(
        &self,
        what: &str,
        condition: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>, SystemError> {
        let look = || async {
            match self.pools().await {
                Ok(pools) if condition(&pools) => Look::Ready(pools),
                Ok(pools) => Look::NotYet(Value::Array(pools)),
                Err(error) => Look::NotYet(Value::String(error.to_string())),
            }
        };
        wait_for(what, READY_LIMIT, look)
            .await
            .map_err(|timed_out| SystemError::TimedOut {
                timed_out,
                logs: self.logs(),
            })
    }

    /// `GET /v1/pools`.
    ///
    /// # Errors
    /// The orchestrator does not answer.
    pub async fn pools(&self) -> Result<Vec<Value>, SystemError> {
        let answer = self.call(Call::get("/v1/pools")).await?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(body["pools"].as_array().cloned().unwrap_or_default())
    }

    /// One pool as `GET /v1/pools` shows it.
    ///
    /// # Errors
    /// The orchestrator does not answer, or does not know the pool.
    pub async fn pool(&self, id: &str) -> Result<Value, SystemError> {
        let found = self.pools().await?.into_iter().find(|pool| pool["pool_id"] == id);
        found.ok_or_else(|| SystemError::NoEngine(id.to_owned()))
    }

    /// Control of the scripted engine that serves a pool now.
    ///
    /// # Errors
    /// The pool has no engine now.
    pub async fn engine(&self, pool: &str) -> Result<EngineControl, SystemError> {
        control(pool, &self.pool(pool).await?)
    }

    /// SIGTERM to the orchestrator, then to the node; waits for both to end.
    ///
    /// # Errors
    /// [`SystemError::TimedOut`] when one does not end.
    pub async fn stop(self) -> Result<Stopped, SystemError> {
        let orchestrator = stop(&self.orchestrator, self.logs()).await?;
        let node = stop(&self.node, self.logs()).await?;
        Ok(Stopped { orchestrator, node })
    }

    /// What both daemons have said.
    #[must_use]
    pub fn logs(&self) -> String {
        format!(
            "--- orchestratord\n{}\n--- pool-managerd\n{}",
            self.orchestrator.logs(),
            self.node.logs()
        )
    }
}

/// Control of the engine at a pool's endpoint.
fn control(pool: &str, shown: &Value) -> Result<EngineControl, SystemError> {
    let endpoint = shown["replicas"][0]["endpoint"]
        .as_str()
        .and_then(|url| url.strip_prefix("http://"));
    let address = endpoint.and_then(|address| address.trim_end_matches('/').parse().ok());
    address
        .map(EngineControl::new)
        .ok_or_else(|| SystemError::NoEngine(pool.to_owned()))
}

/// How the daemons ended.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// The orchestrator.
    pub orchestrator: ExitStatus,
    /// The GPU box.
    pub node: ExitStatus,
}

async fn stop(daemon: &Daemon, logs: String) -> Result<ExitStatus, SystemError> {
    // A daemon that is gone already tells its exit status below.
    let _gone = daemon.signal(Signal::TERM);
    daemon
        .wait(STOP_LIMIT)
        .await
        .map_err(|timed_out| SystemError::TimedOut { timed_out, logs })
}

fn folder() -> Result<TempDir, SystemError> {
    let parent = binaries::target_folder().join("systems");
    let failed = |source| SystemError::File {
        folder: parent.clone(),
        source,
    };
    fs::create_dir_all(&parent).map_err(failed)?;
    tempfile::Builder::new()
        .prefix("box-")
        .tempdir_in(&parent)
        .map_err(failed)
}

fn prepare(plan: &Plan, folder: &Path) -> Result<FakeNvml, SystemError> {
    let failed = |source| SystemError::File {
        folder: folder.to_owned(),
        source,
    };
    let gpus = FakeNvml::reference_box(gpus_file(folder)).map_err(failed)?;
    write_models(plan, folder).map_err(failed)?;
    for pool in &plan.pools {
        let script = serde_json::to_vec(&pool.script).map_err(|error| failed(error.into()))?;
        fs::write(script_file(folder, pool), script).map_err(failed)?;
    }
    let config = configuration(plan, folder)?;
    fs::write(config_file(folder), config).map_err(failed)?;
    Ok(gpus)
}

/// Every model that a pool names is a file of its own.
fn write_models(plan: &Plan, folder: &Path) -> io::Result<()> {
    TinyModel::default().write(&model_file(folder, MODEL))?;
    let more = plan.pools.iter().flat_map(|pool| &pool.more_models);
    for (seed, more) in (2..).zip(more) {
        let model = TinyModel {
            seed,
            ..TinyModel::default()
        };
        model.write(&model_file(folder, &more.name))?;
    }
    Ok(())
}

fn gpus_file(folder: &Path) -> PathBuf {
    folder.join("gpus.json")
}

fn configuration(plan: &Plan, folder: &Path) -> Result<String, SystemError> {
    let gpus = fake_nvml::reference_driver().gpus;
    let binary = match &plan.engine {
        EngineChoice::Scripted => binaries::bin_path("scripted-engine")?,
        EngineChoice::Real(path) => path.clone(),
    };
    let mut text = format!(
        "{}\n[pool_managerd]\ngpu_lock_dir = {:?}\nmodel_dirs = [{folder:?}]\nkeep_engines = {}\n",
        plan.config,
        folder.join("gpu-locks"),
        plan.keep_engines
    );
    for pool in &plan.pools {
        let table = format!(
            "\n[[pool_managerd.pools]]\nid = {:?}\nengine = \"llamacpp\"\nmodel = \"file:{}\"\nmodel_id = {MODEL:?}\n\
             devices = [{:?}]\nslots = {}\nctx = {}\nbinary = {:?}\nhealth_interval_ms = 200\n\
             env = {{ SCRIPTED_ENGINE_SCRIPT = {:?}, {} = {:?} }}\nmodels = [{}]\n{}\n",
            pool.id,
            model_file(folder, MODEL).display(),
            gpus.get(pool.gpu).map_or("", |gpu| gpu.uuid.as_str()),
            pool.slots,
            pool.ctx,
            binary,
            script_file(folder, pool),
            fake_nvml::FILE_VARIABLE,
            gpus_file(folder),
            more_models(folder, pool),
            pool.extra,
        );
        // Writing to a string cannot fail.
        let _ = text.write_str(&table);
    }
    Ok(text)
}

fn orchestrator_command(plan: &Plan, folder: &Path) -> Result<Command, SystemError> {
    let command = Command::of_workspace("orchestratord")?
        .env("LLAMA_ORCH_CONFIG", config_file(folder))
        .env("ORCHD_STATE_DIR", folder.join("state"))
        .env("ORCHD_ADDR", "127.0.0.1:0");
    let command = plan
        .orchestrator_env
        .iter()
        .fold(command, |command, (name, value)| command.env(name, value));
    Ok(with_token(command, plan))
}

fn node_command(
    plan: &Plan,
    folder: &Path,
    gpus: &FakeNvml,
    orchestrator: &str,
) -> Result<Command, SystemError> {
    let (name, file) = gpus.env();
    let command = Command::of_workspace("pool-managerd")?
        .env("LLAMA_ORCH_CONFIG", config_file(folder))
        .env("POOL_MANAGERD_ADDR", "127.0.0.1:0")
        .env("POOL_MANAGERD_NVML_LIBRARY", fake_nvml::library_path()?)
        .env("POOL_MANAGERD_STATE_DIR", folder.join("state"))
        .env("ORCHD_URL", orchestrator)
        .env(name, file);
    let variables = plan.node_env.iter();
    Ok(
        variables.fold(with_token(command, plan), |command, (name, value)| {
            command.env(name, value)
        }),
    )
}

fn with_token(command: Command, plan: &Plan) -> Command {
    match &plan.token {
        Some(token) => command.env("AUTH_TOKEN", token),
        None => command,
    }
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("config.toml")
}

fn model_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.gguf"))
}

/// The pool's `models`.
fn more_models(folder: &Path, pool: &PoolPlan) -> String {
    let each = pool.more_models.iter().map(|ModelPlan { name, sha256 }| {
        let file = model_file(folder, name);
        let sha256 = sha256
            .as_ref()
            .map(|sha256| format!(", model_sha256 = {sha256:?}"));
        format!(
            "{{ model = \"file:{}\", model_id = {name:?}{} }}",
            file.display(),
            sha256.unwrap_or_default()
        )
    });
    each.collect::<Vec<_>>().join(", ")
}

fn script_file(folder: &Path, pool: &PoolPlan) -> PathBuf {
    folder.join(format!("{}.script.json", pool.id))
}
