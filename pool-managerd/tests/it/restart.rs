//! The daemon's own restart: its engines go on, the next run takes over what is still wanted and ends the rest
//! (ORCH-3429).

use std::fs;

use anyhow::{Context as _, Result};
use api_types::pool::ReplicaReport;
use pool_managerd::procfs::{self, Stat};
use rustix::process::{Signal, kill_process};
use test_harness_support::wait::{Look, wait_for};

use crate::rig::{LIMIT, Node, Rig, is_gone, kill, pid};

async fn keeping() -> Result<Rig> {
    let mut rig = Rig::new().await?;
    rig.keep_engines = true;
    Ok(rig)
}

/// Runs the daemon until it is ready, and stops it. Dropping the daemon's handle would end what has descended from it.
async fn ran_once(rig: &Rig) -> Result<(Node, ReplicaReport)> {
    let node = rig.start().await?;
    let before = node.until_ready(1).await?;
    assert!(node.stop().await?.success());
    Ok((node, before))
}

/// What makes two views one engine.
fn identity(replica: &ReplicaReport) -> (u64, Option<u32>, Option<&str>) {
    (replica.generation, replica.pid, replica.endpoint.as_deref())
}

async fn key_told(node: &Node) -> Result<String> {
    let report = node
        .until_told("the engine's key", |report| {
            report
                .pools
                .first()
                .is_some_and(|pool| pool.replicas[0].endpoint_key.is_some())
        })
        .await?;
    report.pools[0].replicas[0].endpoint_key.clone().context("no key")
}

/// The engine's parent.
fn kill_shim_of(replica: &ReplicaReport) -> Result<()> {
    let engine = Stat::of(replica.pid.context("no pid")?).context("no engine")?;
    let shim = procfs::raw(engine.parent).context("pid 0")?;
    Ok(kill_process(shim, Signal::KILL)?)
}

async fn until_gone(replica: &ReplicaReport) -> Result<()> {
    let pid = pid(replica)?;
    let gone = wait_for("the engine to be gone", LIMIT, || async {
        match is_gone(pid) {
            true => Look::Ready(()),
            false => Look::NotYet(pid),
        }
    });
    Ok(gone.await?)
}

#[tokio::test]
async fn an_engine_outlives_a_killed_daemon_and_is_taken_over() -> Result<()> {
    let rig = keeping().await?;
    let node = rig.start().await?;
    let before = node.until_ready(1).await?;
    let key = key_told(&node).await?;
    node.crash().await?;
    assert!(!is_gone(pid(&before)?));

    let node = rig.start().await?;
    let after = node.until_ready(1).await?;
    assert_eq!(identity(&after), identity(&before));
    assert_eq!(
        key_told(&node).await?,
        key,
        "the orchestrator could not go on talking to it"
    );
    assert_eq!((after.restarts, after.load_ms), (0, None));
    node.until_logged("is taken over").await?;
    // Its output is there too, and its end is noticed like that of any other.
    let log = node.json("/v1/pools/p/logs?replica_id=r0").await?;
    assert!(
        log["lines"].as_array().is_some_and(|lines| !lines.is_empty()),
        "{log}"
    );
    kill(&after)?;
    let next = node.until_ready(2).await?;
    assert_ne!(next.pid, before.pid);
    Ok(())
}

#[tokio::test]
async fn a_stopped_daemon_leaves_its_engines_running() -> Result<()> {
    let rig = keeping().await?;
    let (_stopped, before) = ran_once(&rig).await?;
    assert!(!is_gone(pid(&before)?));
    let node = rig.start().await?;
    assert_eq!(identity(&node.until_ready(1).await?), identity(&before));
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_shall_not_keep_them_ends_them() -> Result<()> {
    let rig = Rig::new().await?;
    let (_stopped, before) = ran_once(&rig).await?;
    assert!(is_gone(pid(&before)?));
    // Generations go on all the same: nobody mistakes one engine for another.
    let node = rig.start().await?;
    node.until_ready(2).await?;
    Ok(())
}

#[tokio::test]
async fn an_engine_of_another_configuration_is_ended_before_the_next_starts() -> Result<()> {
    let mut rig = keeping().await?;
    let (_stopped, before) = ran_once(&rig).await?;
    rig.pool = "args = [\"--threads-http\", \"2\"]".to_owned();
    let node = rig.start().await?;
    let after = node.until_ready(2).await?;
    assert!(is_gone(pid(&before)?));
    assert_ne!(after.pid, before.pid);
    Ok(())
}

/// Engines that nobody will take over: their pool is gone from the configuration.
#[tokio::test]
async fn an_engine_of_no_pool_is_ended() -> Result<()> {
    let rig = keeping().await?;
    let node = rig.start().await?;
    let before = node.until_ready(1).await?;
    node.crash().await?;
    let file = rig.config()?;
    fs::write(
        &file,
        fs::read_to_string(&file)?.replace("id = \"p\"", "id = \"q\""),
    )?;
    let (variable, path) = rig.nvml.env();
    let _daemon = test_harness_support::daemon::Command::new(env!("CARGO_BIN_EXE_pool-managerd"))
        .arg("--config")
        .arg(&file)
        .env(variable, path)
        .start()
        .await?;
    until_gone(&before).await
}

/// Both die, and what had left the engine's session is found by the next run.
#[tokio::test]
async fn what_is_left_of_an_engine_without_shim_is_swept() -> Result<()> {
    let mut rig = keeping().await?;
    let marker = rig.dir.path().join("descendant");
    rig.wrap_engine(&format!(
        "setsid sh -c 'echo $$ > {}; exec sleep 600' &\nexec \"$ENGINE\" \"$@\"",
        marker.display()
    ))?;
    let node = rig.start().await?;
    let before = node.until_ready(1).await?;
    let descendant: i32 = fs::read_to_string(&marker)?.trim().parse()?;
    let descendant = rustix::process::Pid::from_raw(descendant).context("pid 0")?;
    node.crash().await?;
    kill_shim_of(&before)?;
    until_gone(&before).await?;
    assert!(!is_gone(descendant));
    let node = rig.start().await?;
    node.until_ready(2).await?;
    assert!(
        is_gone(descendant),
        "a descendant of a dead generation still runs"
    );
    Ok(())
}

/// The daemon lives, the shim does not: the replica notices and starts again.
#[tokio::test]
async fn a_killed_shim_is_an_end_like_any_other() -> Result<()> {
    let rig = keeping().await?;
    let node = rig.start().await?;
    let before = node.until_ready(1).await?;
    kill_shim_of(&before)?;
    node.until_ready(2).await?;
    assert!(is_gone(pid(&before)?));
    Ok(())
}
