//! A node under test: its folder, configuration, fake GPUs and orchestrator, and the running daemon.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use api_types::link::NodeReport;
use api_types::pool::{PoolReport, ReplicaReport, ReplicaState};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_harness_support::binaries::bin_path;
use test_harness_support::daemon::{Command, Daemon};
use test_harness_support::fake_nvml::{FILE_VARIABLE, FakeNvml, library_path};
use test_harness_support::http1::{Answer, Call, call};
use test_harness_support::processes::EnginesBelow;
use test_harness_support::scripted_engine::{EngineControl, SCRIPT_VARIABLE};
use test_harness_support::wait::{Look, wait_for};

use crate::orchestrator::Orchestrator;

/// Longer than anything here takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The UUIDs of the two fake GPUs.
pub(crate) const GPUS: [&str; 2] = [
    "GPU-fake0000-0000-4000-8000-000000000000",
    "GPU-fake0000-0000-4000-8000-000000000001",
];

/// Where an engine in a container finds its script.
pub(crate) const SCRIPT_INSIDE: &str = "/script.json";

/// Tells the engines of one rig from those of others, by its folder.
pub(crate) const RIG_VARIABLE: &str = "RIG";

pub(crate) struct Rig {
    /// Dropped after every daemon of the test, which are made later.
    _engines: EnginesBelow,
    pub(crate) dir: TempDir,
    /// Whether engines outlive the daemon.
    pub(crate) keep_engines: bool,
    pub(crate) nvml: FakeNvml,
    pub(crate) orchestrator: Orchestrator,
    /// The engine's program.
    pub(crate) engine: PathBuf,
    /// Lines of the configuration's first tables.
    pub(crate) head: String,
    /// Lines of `[pool_managerd]`.
    pub(crate) node: String,
    /// What the pool loads: [`Rig::model`] unless a test says otherwise.
    pub(crate) model_ref: String,
    /// Lines of the pool.
    pub(crate) pool: String,
    /// Lines of the pool's environment.
    pub(crate) env: String,
    /// The container that the engine runs in instead: its key's value, as TOML.
    pub(crate) container: Option<String>,
    pub(crate) devices: Vec<String>,
    /// From the polite to the forced stop.
    pub(crate) grace_ms: u64,
    /// Before the first restart.
    pub(crate) pause_ms: u64,
    pub(crate) library: PathBuf,
    /// The daemon's environment.
    pub(crate) variables: Vec<(String, String)>,
}

/// The running daemon.
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    pub(crate) orchestrator: Orchestrator,
    pub(crate) token: Option<String>,
}

impl Rig {
    pub(crate) async fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("tiny.gguf"), b"GGUF and nothing else")?;
        let rig = Self {
            _engines: EnginesBelow(dir.path().to_owned()),
            keep_engines: false,
            nvml: FakeNvml::reference_box(dir.path().join("nvml.json"))?,
            orchestrator: Orchestrator::start().await?,
            engine: bin_path("scripted-engine")?,
            head: String::new(),
            node: String::new(),
            model_ref: format!("file:{}/tiny.gguf", dir.path().display()),
            pool: String::new(),
            env: String::new(),
            container: None,
            devices: vec![GPUS[0].to_owned()],
            grace_ms: 2000,
            pause_ms: 20,
            library: library_path()?,
            variables: Vec::new(),
            dir,
        };
        rig.script(&json!({}))?;
        Ok(rig)
    }

    /// What engines do from their next start on.
    pub(crate) fn script(&self, script: &Value) -> Result<()> {
        Ok(fs::write(self.script_file(), serde_json::to_vec(script)?)?)
    }

    pub(crate) fn script_file(&self) -> PathBuf {
        self.dir.path().join("script.json")
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.dir.path().join("tiny.gguf")
    }

    /// Puts a shell script between the daemon and the engine; `$ENGINE` is the engine.
    pub(crate) fn wrap_engine(&mut self, script: &str) -> Result<()> {
        let path = self.dir.path().join("wrapper.sh");
        let text = format!("#!/bin/sh\nENGINE='{}'\n{script}\n", self.engine.display());
        executable(&path, &text)?;
        self.engine = path;
        Ok(())
    }

    pub(crate) fn config(&self) -> Result<PathBuf> {
        let mut text = self.head.clone();
        let (dir, url) = (self.dir.path().display(), self.orchestrator.url());
        let node = if self.node.contains("orchestrator_url") {
            String::new()
        } else {
            format!("orchestrator_url = \"{url}\"")
        };
        write!(
            text,
            r#"
[pool_managerd]
addr = "127.0.0.1:0"
node_id = "node-1"
{node}
nvml_library = "{}"
state_dir = "{dir}/state"
gpu_lock_dir = "{dir}/gpu-locks"
keep_engines = {}
{}
[[pool_managerd.pools]]
id = "p"
engine = "llamacpp"
model = "{}"
devices = {:?}
slots = 2
ctx = 512
{}
health_interval_ms = 50
stop_grace_ms = {}
{}
[pool_managerd.pools.restart]
initial_ms = {}
max_ms = {}
budget = 3
window_ms = 600000
[pool_managerd.pools.env]
{}
{}
"#,
            self.library.display(),
            self.keep_engines,
            self.node,
            self.model_ref,
            self.devices,
            self.launcher(),
            self.grace_ms,
            self.pool,
            self.pause_ms,
            self.pause_ms.max(100),
            self.engine_variables(),
            self.env
        )?;
        let path = self.dir.path().join("config.toml");
        fs::write(&path, text)?;
        Ok(path)
    }

    fn launcher(&self) -> String {
        match &self.container {
            Some(container) => format!("container = {container}"),
            None => format!("binary = \"{}\"", self.engine.display()),
        }
    }

    /// What a pretended engine has to be told; one in a container reads its script elsewhere and is seen on its GPU without
    /// its help.
    fn engine_variables(&self) -> String {
        let dir = self.dir.path().display();
        match &self.container {
            Some(_) => format!("{SCRIPT_VARIABLE} = \"{SCRIPT_INSIDE}\"\n{RIG_VARIABLE} = \"{dir}\""),
            None => format!(
                "{SCRIPT_VARIABLE} = \"{}\"\n{FILE_VARIABLE} = \"{dir}/nvml.json\"",
                self.script_file().display()
            ),
        }
    }

    pub(crate) fn command(&self) -> Result<Command> {
        let (variable, file) = self.nvml.env();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pool-managerd"))
            .arg("--config")
            .arg(self.config()?)
            .env(variable, file);
        for (name, value) in &self.variables {
            command = command.env(name, value);
        }
        Ok(command)
    }

    pub(crate) async fn start(&self) -> Result<Node> {
        let token = self.variables.iter().find(|(name, _)| name == "AUTH_TOKEN");
        Ok(Node {
            daemon: self.command()?.start().await?,
            orchestrator: self.orchestrator.clone(),
            token: token.map(|(_, value)| value.clone()),
        })
    }
}

pub(crate) fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

impl Node {
    /// SIGTERM.
    pub(crate) async fn stop(&self) -> Result<ExitStatus> {
        self.daemon.signal(Signal::TERM)?;
        Ok(self.daemon.wait(LIMIT).await?)
    }

    /// SIGKILL, to the daemon only.
    pub(crate) async fn crash(&self) -> Result<()> {
        self.daemon.signal(Signal::KILL)?;
        self.daemon.wait(LIMIT).await?;
        Ok(())
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        let mut request = Call::get(path);
        if let Some(token) = &self.token {
            request = request.header("Authorization", &format!("Bearer {token}"));
        }
        Ok(call(self.daemon.address(), &request).await?)
    }

    pub(crate) async fn json(&self, path: &str) -> Result<Value> {
        let answer = self.get(path).await?;
        serde_json::from_slice(&answer.body).with_context(|| format!("{path} answered {}", answer.status))
    }

    pub(crate) async fn pool(&self) -> Result<PoolReport> {
        Ok(serde_json::from_value(self.json("/v1/pools/p").await?)?)
    }

    /// Waits until the daemon's own view of the pool satisfies `holds`.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&PoolReport) -> bool) -> Result<PoolReport> {
        let found = wait_for(what, LIMIT, || async {
            match self.pool().await {
                Ok(pool) if holds(&pool) => Look::Ready(pool),
                other => Look::NotYet(format!("{other:?}")),
            }
        });
        found.await.with_context(|| self.daemon.logs())
    }

    pub(crate) async fn until_state(&self, state: ReplicaState) -> Result<ReplicaReport> {
        let pool = self
            .until(state.as_str(), |pool| pool.replicas[0].state == state)
            .await?;
        Ok(pool.replicas[0].clone())
    }

    /// A ready replica of that generation.
    pub(crate) async fn until_ready(&self, generation: u64) -> Result<ReplicaReport> {
        let what = format!("generation {generation} to be ready");
        let pool = self.until(&what, |pool| ready(pool, generation)).await?;
        Ok(pool.replicas[0].clone())
    }

    /// Waits until the orchestrator has been told what satisfies `holds`.
    pub(crate) async fn until_told(
        &self,
        what: &str,
        holds: impl Fn(&NodeReport) -> bool,
    ) -> Result<NodeReport> {
        let told = wait_for(what, LIMIT, || async {
            match self.orchestrator.last() {
                Some(report) if holds(&report) => Look::Ready(report),
                other => Look::NotYet(other),
            }
        });
        told.await.with_context(|| self.daemon.logs())
    }

    /// Waits until the daemon's log contains a text.
    pub(crate) async fn until_logged(&self, text: &str) -> Result<()> {
        let logged = wait_for(text, LIMIT, || async {
            let log = self.daemon.stderr();
            if log.contains(text) {
                Look::Ready(())
            } else {
                Look::NotYet(log)
            }
        });
        Ok(logged.await?)
    }
}

pub(crate) fn ready(pool: &PoolReport, generation: u64) -> bool {
    pool.is_ready() && pool.replicas[0].generation == generation
}

pub(crate) fn pid(replica: &ReplicaReport) -> Result<Pid> {
    let pid = replica.pid.context("a replica without a process")?;
    Pid::from_raw(pid.cast_signed()).context("pid 0")
}

pub(crate) fn kill(replica: &ReplicaReport) -> Result<()> {
    Ok(kill_process(pid(replica)?, Signal::KILL)?)
}

/// Remote control of a running scripted engine.
pub(crate) fn control(replica: &ReplicaReport) -> Result<EngineControl> {
    let endpoint = replica.endpoint.as_deref().context("no endpoint")?;
    let address = endpoint
        .strip_prefix("http://")
        .ok_or_else(|| anyhow!("{endpoint}"))?;
    Ok(EngineControl::new(address.parse::<SocketAddr>()?))
}

/// Whether a process is gone; a zombie, which only waits for its parent, is.
pub(crate) fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    })
}
