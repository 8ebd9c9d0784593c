//! The orchestrator under measurement. This program plays the pool-managerd that reports one pool to it.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Ground, Relay, report};
use crate::child::Child;
use crate::cpus::Side;
use crate::http::Connection;
use crate::load::{Dialect, Target};

/// Bounds raised to what the runs need, everything else as shipped, logs included. No heartbeats come, so the node
/// must not get stale within a run.
const CONFIG: &str = "\
[http]
max_connections = 32768

[orchestratord.queue]
capacity = 16384

[orchestratord.nodes]
heartbeat_interval_ms = 60000
stale_after_ms = 600000
";

/// Starts an orchestrator and tells it of `engine`.
///
/// # Errors
/// It does not come up, or refuses the report.
pub(super) async fn start(ground: &Ground, engine: SocketAddr, slots: u32) -> Result<Relay> {
    let config = ground.folder.join("orchestratord.toml");
    fs::write(&config, CONFIG).context("writing the orchestrator's configuration")?;
    let state = ground.folder.join("state");
    forget(&state)?;
    let mut command = Command::new(ground.binaries.join("orchestratord"));
    command
        .env_clear()
        .env("ORCHD_ADDR", "127.0.0.1:0")
        .env("ORCHD_STATE_DIR", &state)
        .env("ORCHD_DURABILITY", &ground.durability)
        .arg("--config")
        .arg(&config);
    let child = Child::start(
        "orchestratord",
        command,
        (&ground.cpus, Side::Relay),
        &ground.folder,
    )?;
    let line = child.first_line().await?;
    let address = line
        .strip_prefix("listening http://")
        .and_then(|address| address.parse().ok());
    let address: SocketAddr = address.with_context(|| format!("orchestratord's first line is {line:?}"))?;
    register(address, engine, slots)
        .await
        .context("registering the engine's node")?;
    Ok(Relay {
        child,
        target: Target {
            address,
            dialect: Dialect::Tasks,
        },
    })
}

/// The tasks of the run before would be taken up.
fn forget(state: &Path) -> Result<()> {
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", state.display()))
        }
        _ => Ok(()),
    }
}

async fn register(orchestrator: SocketAddr, engine: SocketAddr, slots: u32) -> Result<()> {
    let body = serde_json::to_vec(&report::of_one_pool(engine, slots)?)?;
    let mut connection = Connection::open(orchestrator).await?;
    let head = connection.post("/v1/workers/register", &body).await?;
    connection.whole(&head, 200).await.map(drop)
}
