//! The scripted engine: one process, as many slots as there are streams. Knows how the orchestrator asks it, so that
//! everybody asks alike.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use test_harness_support::scripted_engine::{EngineControl, Script};
use test_harness_support::wait::{Look, wait_for};

use super::{Ground, Relay, nginx, orchestrator};
use crate::child::{Child, free_address};
use crate::cpus::Side;
use crate::load::{Dialect, Job, Target};
use crate::stream::Stamps;

/// Requests that the engine's report remembers: the last one is looked at.
const REMEMBERED: usize = 4;
/// How long the engine may take to notice that its clients have gone: a token comes every second at the latest.
const QUIET_LIMIT: Duration = Duration::from_secs(10);

/// A running engine.
#[derive(Debug)]
pub(crate) struct Engine {
    child: Child,
    slots: u32,
    control: EngineControl,
    /// The engine itself, asked as the orchestrator asks it.
    pub(crate) direct: Target,
}

impl Engine {
    /// Starts an engine with so many slots.
    ///
    /// # Errors
    /// It does not come up, or no orchestrator gets through to it.
    pub(crate) async fn start(ground: &Ground, slots: u32, script: Script) -> Result<Self> {
        let address = free_address()?;
        let script = Script {
            keep_requests: REMEMBERED,
            tokens: Some(u32::MAX),
            ..script
        };
        let file = ground.folder.join("engine-script.json");
        fs::write(&file, serde_json::to_vec(&script)?).context("writing the engine's script")?;
        let mut command = Command::new(ground.binaries.join("scripted-engine"));
        command
            .env_clear()
            .args(["--host", "127.0.0.1", "-lv", "0", "--kv-unified", "--port"]);
        command
            .arg(address.port().to_string())
            .arg("-np")
            .arg(slots.to_string())
            .arg("--script")
            .arg(&file);
        let child = Child::start(
            "scripted-engine",
            command,
            (&ground.cpus, Side::Load),
            &ground.folder,
        )?;
        child.answers(address).await?;
        let control = EngineControl::new(address);
        let template = learn_request(ground, address, slots, control).await?;
        let direct = Target {
            address,
            dialect: Dialect::Completion(Arc::new(template)),
        };
        Ok(Self {
            child,
            slots,
            control,
            direct,
        })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// A fresh orchestrator in front of it.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) async fn behind_ours(&self, ground: &Ground) -> Result<Relay> {
        orchestrator::start(ground, self.direct.address, self.slots).await
    }

    /// A fresh nginx in front of it.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) async fn behind_nginx(&self, ground: &Ground) -> Result<Relay> {
        nginx::start(ground, &self.direct).await
    }

    /// Changes keys of the script for requests to come.
    ///
    /// # Errors
    /// The engine is gone or refuses.
    pub(crate) async fn change_script(&self, patch: &Value) -> Result<()> {
        self.control
            .change_script(patch)
            .await
            .context("changing the engine's script")
    }

    /// Waits until no slot is in use.
    ///
    /// # Errors
    /// A slot stays in use.
    pub(crate) async fn is_quiet(&self) -> Result<()> {
        wait_for("an engine without work", QUIET_LIMIT, || async {
            match self.control.report().await.map(|report| report.active) {
                Ok(0) => Look::Ready(()),
                busy => Look::NotYet(busy.map_err(|error| error.to_string())),
            }
        })
        .await
        .context("waiting for the engine")
    }
}

/// The request that the orchestrator makes of a task, from the engine's own report.
async fn learn_request(
    ground: &Ground,
    engine: SocketAddr,
    slots: u32,
    control: EngineControl,
) -> Result<Map<String, Value>> {
    let ours = orchestrator::start(ground, engine, slots).await?;
    let mut connection = ours.target.connect().await?;
    ours.target
        .run(&mut connection, &Job::numbered(0, 1), Stamps::Absent)
        .await
        .context("the first task")?;
    let report = control.report().await.context("the engine's report")?;
    let completion = report
        .requests
        .into_iter()
        .rfind(|request| request.target == "/completion");
    match completion.and_then(|request| request.body) {
        Some(Value::Object(body)) => Ok(body),
        other => anyhow::bail!("the engine was asked for no completion but {other:?}"),
    }
}
