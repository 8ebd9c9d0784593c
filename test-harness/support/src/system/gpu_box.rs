//! One GPU box more: a pool-managerd of its own, with GPUs, pools and engines of its own, that joins a running
//! orchestrator.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::{Plan, SystemError, config_file, folder, node_command, prepare};
use crate::daemon::Daemon;
use crate::fake_nvml::FakeNvml;
use crate::http1::{self, Call};
use crate::processes::EnginesBelow;
use crate::scripted_engine::EngineControl;

/// A running GPU box. Dropping it ends its daemon and engines and removes its folder.
#[derive(Debug)]
pub struct GpuBox {
    /// Its pool-managerd.
    pub daemon: Daemon,
    /// Its GPUs.
    pub gpus: FakeNvml,
    plan: Plan,
    orchestrator: String,
    /// After the daemon that would start them again.
    _engines: EnginesBelow,
    folder: TempDir,
}

impl GpuBox {
    /// Starts a box that registers with the orchestrator at this URL, and waits for nothing more. Of the plan counts
    /// what is about a node: pools, engine, token, `node_env`, configuration.
    ///
    /// # Errors
    /// Any [`SystemError`].
    pub async fn join(plan: Plan, orchestrator: &str) -> Result<Self, SystemError> {
        let folder = folder()?;
        let gpus = prepare(&plan, folder.path())?;
        let command = node_command(&plan, folder.path(), &gpus, orchestrator)?;
        Ok(Self {
            daemon: command.start().await?,
            gpus,
            plan,
            orchestrator: orchestrator.to_owned(),
            _engines: EnginesBelow(folder.path().to_owned()),
            folder,
        })
    }

    /// Starts its pool-managerd again after it has ended, on the same address.
    ///
    /// # Errors
    /// Any [`SystemError`].
    pub async fn start_again(&mut self) -> Result<(), SystemError> {
        let address = self.daemon.address().to_string();
        let command = node_command(&self.plan, self.folder.path(), &self.gpus, &self.orchestrator)?;
        self.daemon = command.env("POOL_MANAGERD_ADDR", address).start().await?;
        Ok(())
    }

    /// Its folder, gone when the box is dropped.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file that its daemon reads.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        config_file(self.folder.path())
    }

    /// A call to its pool-managerd with the token.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn call(&self, call: Call) -> Result<http1::Answer, http1::Error> {
        http1::call(self.daemon.address(), &self.plan.authorized(call)).await
    }

    /// One of its pools as the box itself shows it.
    ///
    /// # Errors
    /// It does not answer, or has no such pool.
    pub async fn pool(&self, id: &str) -> Result<Value, SystemError> {
        let answer = self.call(Call::get(&format!("/v1/pools/{id}"))).await?;
        let shown = answer.json().ok().filter(|_| answer.status == 200);
        shown.ok_or_else(|| SystemError::NoEngine(id.to_owned()))
    }

    /// Control of the scripted engine that serves one of its pools now.
    ///
    /// # Errors
    /// The pool has no engine now.
    pub async fn engine(&self, pool: &str) -> Result<EngineControl, SystemError> {
        super::control(pool, &self.pool(pool).await?)
    }
}
