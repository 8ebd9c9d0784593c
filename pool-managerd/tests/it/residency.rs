//! The proof that an engine computes on its GPUs and nowhere else, and what errors of a GPU mean for its pools
//! (ORCH-3430 to ORCH-3432).

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use api_types::pool::{GpuCondition, GpuThrottle, PoolReport, ReplicaReport, ReplicaState, UnreadyCause};
use serde_json::{Value, json};
use test_harness_support::fake_nvml::{Ecc, Process};
use test_harness_support::gguf::TinyModel;

use crate::rig::{GPUS, Node, Rig, control, is_gone, kill, pid};

async fn cause(node: &Node, cause: UnreadyCause) -> Result<PoolReport> {
    let what = format!("{cause:?}");
    node.until(&what, |pool| {
        pool.cause == Some(cause) && pool.replicas[0].last_error.is_some()
    })
    .await
}

/// ORCH-3430. Health passes and tokens come: only the driver's list tells that they come from elsewhere.
#[tokio::test]
async fn an_engine_that_is_not_on_its_gpu_is_never_ready() -> Result<()> {
    let rig = Rig::new().await?;
    TinyModel::default().write(&rig.model())?;
    for (residency, words) in [
        (
            json!("absent"),
            "no process of the engine holds memory on GPU-fake",
        ),
        (json!({"on": [GPUS[1]]}), "which is not in the pool's mask"),
        (json!({"on": GPUS}), "which is not in the pool's mask"),
    ] {
        not_on_gpu(&rig, &json!({"residency": residency}), words).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_engine_that_left_its_weights_elsewhere_is_never_ready() -> Result<()> {
    let rig = Rig::new().await?;
    heavy_model(&rig)?;
    not_on_gpu(
        &rig,
        &json!({"residency": "context_only"}),
        "the model's weights alone are",
    )
    .await
}

async fn not_on_gpu(rig: &Rig, script: &Value, words: &str) -> Result<()> {
    rig.script(script)?;
    let node = rig.start().await?;
    let told = node
        .until_told(words, |report| {
            let hint = report.pools.first().and_then(|pool| pool.hint.as_deref());
            hint.is_some_and(|hint| hint.contains(words))
        })
        .await?;
    assert_eq!(told.pools[0].cause, Some(UnreadyCause::EngineNotOnGpu));
    node.stop().await?;
    Ok(())
}

/// The scripted engine looks at its size only.
fn heavy_model(rig: &Rig) -> Result<()> {
    Ok(TinyModel::HEAVY.write_hollow(&rig.model())?)
}

#[tokio::test]
async fn what_an_engine_holds_is_told_from_what_others_hold() -> Result<()> {
    let mut rig = Rig::new().await?;
    TinyModel::default().write(&rig.model())?;
    rig.nvml.update(|driver| {
        driver.gpus[0].processes.push(Process {
            pid: 1,
            used: Some(5 << 30),
        });
    })?;
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    let held = node
        .until("its memory to be told", |pool| {
            pool.replicas[0].gpu_memory_bytes > Some(300 << 20)
        })
        .await?;
    let held = held.replicas[0].gpu_memory_bytes;
    let shown = node.json("/v1/node").await?;
    let gpu = &shown["gpus"][0];
    assert_eq!(gpu["used_by_others_bytes"], 5_u64 << 30, "{gpu}");
    let processes = gpu["processes"].as_array().context("no processes")?;
    let own = processes
        .iter()
        .find(|process| process["pool_id"] == "p")
        .context("not ours")?;
    assert_eq!(
        (&own["pid"], &own["replica_id"]),
        (&json!(replica.pid), &json!("r0"))
    );
    assert_eq!(own["used_bytes"], json!(held));
    Ok(())
}

/// The proof of an engine that is taken over asks for the same weights as at its start.
#[tokio::test]
async fn an_engine_that_is_taken_over_has_to_hold_its_weights() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.keep_engines = true;
    heavy_model(&rig)?;
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    node.crash().await?;
    let file = resident(&rig, &replica)?;
    let mut held: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let whole = rig.model().metadata()?.len();
    held["held"][GPUS[0]] = json!(whole / 2);
    std::fs::write(&file, serde_json::to_vec(&held)?)?;
    let node = rig.start().await?;
    cause(&node, UnreadyCause::EngineNotOnGpu).await?;
    assert!(is_gone(pid(&replica)?));
    Ok(())
}

/// What an engine has told the fake driver.
fn resident(rig: &Rig, replica: &ReplicaReport) -> Result<PathBuf> {
    let pid = replica.pid.context("no pid")?;
    Ok(rig.dir.path().join("nvml.json.residents").join(pid.to_string()))
}

/// An engine that was proven and falls off its GPU later is ended, not used.
#[tokio::test]
async fn an_engine_that_leaves_its_gpu_is_ended() -> Result<()> {
    let rig = Rig::new().await?;
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    std::fs::remove_file(resident(&rig, &replica)?)?;
    cause(&node, UnreadyCause::EngineNotOnGpu).await?;
    assert!(is_gone(pid(&replica)?));
    node.until_ready(2).await?;
    Ok(())
}

/// ORCH-3432.
#[tokio::test]
async fn a_model_that_does_not_fit_beside_others_waits_until_it_does() -> Result<()> {
    let mut rig = Rig::new().await?;
    TinyModel::default().write(&rig.model())?;
    rig.node = format!("gpus = [{{ uuid = {:?}, keep_free_mib = 1024 }}]", GPUS[0]);
    rig.nvml
        .update(|driver| driver.gpus[0].memory.used_by_others = 23 << 30)?;
    let node = rig.start().await?;
    let pool = node
        .until("too little memory", |pool| {
            pool.cause == Some(UnreadyCause::VramInsufficient)
        })
        .await?;
    assert_eq!(pool.replicas[0].generation, 0, "an engine was started to fail");
    let hint = pool.hint.unwrap_or_default();
    assert!(
        hint.contains("the model needs") && hint.contains(GPUS[0]),
        "{hint}"
    );
    rig.nvml
        .update(|driver| driver.gpus[0].memory.used_by_others = 0)?;
    node.until_ready(1).await?;
    // What it holds itself, and what others take meanwhile, does not end it.
    crowd(&mut rig, &node).await?;
    node.until_ready(1).await?;
    Ok(())
}

/// Others take nearly all of the first GPU, and the node has told so.
async fn crowd(rig: &mut Rig, node: &Node) -> Result<()> {
    rig.nvml
        .update(|driver| driver.gpus[0].memory.used_by_others = 23 << 30)?;
    node.until_told("the pressure", |report| {
        report
            .gpus
            .first()
            .is_some_and(|gpu| gpu.used_by_others_bytes > 22 << 30)
    })
    .await?;
    Ok(())
}

/// ORCH-3432: a driver that is slow to give back what an ended engine held holds up the next start, and no budget is spent.
/// REQ-FAULT-VRAM-KEPT.
#[tokio::test]
async fn memory_that_comes_back_late_holds_up_the_restart() -> Result<()> {
    let mut rig = Rig::new().await?;
    TinyModel::default().write(&rig.model())?;
    rig.node = format!("gpus = [{{ uuid = {:?}, keep_free_mib = 1024 }}]", GPUS[0]);
    let node = rig.start().await?;
    let engine = node.until_ready(1).await?;
    crowd(&mut rig, &node).await?;
    kill(&engine)?;
    let held_up = node
        .until("the wait for memory", |pool| {
            pool.cause == Some(UnreadyCause::VramInsufficient)
        })
        .await?;
    let replica = &held_up.replicas[0];
    assert_eq!(
        (replica.generation, replica.restarts, replica.state),
        (1, 1, ReplicaState::Preflight)
    );
    rig.nvml
        .update(|driver| driver.gpus[0].memory.used_by_others = 0)?;
    assert_eq!(node.until_ready(2).await?.restarts, 1);
    Ok(())
}

/// ORCH-3431. An application's own error; one after which the card wants a reset; one after which it does nothing any more.
/// REQ-FAULT-XID.
#[tokio::test]
async fn an_xid_means_what_its_class_means() -> Result<()> {
    let mut rig = Rig::new().await?;
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    rig.nvml.xid(0, 31)?;
    node.until_told("Xid 31", |report| {
        report.gpus.first().is_some_and(|gpu| gpu.last_xid == Some(31))
    })
    .await?;
    node.until_ready(1).await?;

    rig.nvml.xid(0, 48)?;
    let pool = node
        .until("Xid 48 to drain", |pool| {
            pool.replicas[0].state == ReplicaState::Draining
        })
        .await?;
    assert_eq!(pool.cause, Some(UnreadyCause::GpuNeedsReset));
    assert!(pool.hint.unwrap_or_default().contains("Xid 48"));
    assert!(!is_gone(pid(&replica)?), "what runs may finish");

    rig.nvml.xid(0, 79)?;
    let dead = node
        .until("Xid 79 to end it", |pool| {
            pool.cause == Some(UnreadyCause::GpuUnusable) && pool.replicas[0].pid.is_none()
        })
        .await?;
    assert!(is_gone(pid(&replica)?));
    assert_eq!(dead.replicas[0].generation, 1, "started again on a dead GPU");
    Ok(())
}

/// REQ-FAULT-ECC.
#[tokio::test]
async fn uncorrected_memory_errors_drain_and_corrected_ones_do_not() -> Result<()> {
    let mut rig = Rig::new().await?;
    let ecc = |corrected, uncorrected| {
        Some(Ecc {
            enabled: true,
            corrected,
            uncorrected,
        })
    };
    rig.nvml.update(|driver| driver.gpus[0].ecc = ecc(1, 1))?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    rig.nvml.update(|driver| driver.gpus[0].ecc = ecc(500, 1))?;
    let told = node
        .until_told("corrected errors", |report| {
            report
                .gpus
                .first()
                .is_some_and(|gpu| gpu.ecc_corrected == Some(500))
        })
        .await?;
    assert_eq!(told.gpus[0].condition, GpuCondition::Healthy);
    rig.nvml.update(|driver| driver.gpus[0].ecc = ecc(500, 2))?;
    node.until("the drain", |pool| {
        pool.cause == Some(UnreadyCause::GpuNeedsReset)
    })
    .await?;
    Ok(())
}

/// ORCH-3431.
/// REQ-FAULT-ECC.
#[tokio::test]
async fn a_storm_of_corrected_memory_errors_drains() -> Result<()> {
    let mut rig = Rig::new().await?;
    let ecc = |corrected| {
        Some(Ecc {
            enabled: true,
            corrected,
            uncorrected: 0,
        })
    };
    rig.nvml.update(|driver| driver.gpus[0].ecc = ecc(7))?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    rig.nvml.update(|driver| driver.gpus[0].ecc = ecc(100_000))?;
    let pool = node
        .until("the drain", |pool| {
            pool.cause == Some(UnreadyCause::GpuNeedsReset)
        })
        .await?;
    assert!(
        pool.hint
            .unwrap_or_default()
            .contains("corrected within a minute")
    );
    Ok(())
}

/// ORCH-3431. Slower is no fault; at its limit a card takes no new work, what runs goes on, and it takes work again once
/// it has cooled.
/// REQ-FAULT-THROTTLE.
#[tokio::test]
async fn a_hot_card_takes_no_new_work_until_it_has_cooled() -> Result<()> {
    let mut rig = Rig::new().await?;
    let node = rig.start().await?;
    let engine = node.until_ready(1).await?;
    // Held back by its power limit, and idle.
    rig.nvml
        .update(|driver| driver.gpus[0].throttle_reasons = 0b101)?;
    let told = node
        .until_told("the throttle", |report| {
            report.gpus.first().is_some_and(|gpu| !gpu.throttled.is_empty())
        })
        .await?;
    assert_eq!(told.gpus[0].throttled, [GpuThrottle::PowerCap]);
    assert!(node.pool().await?.is_ready());

    rig.nvml.update(|driver| driver.gpus[0].temperature_c = 93)?;
    let pool = node
        .until("the heat", |pool| pool.cause == Some(UnreadyCause::GpuTooHot))
        .await?;
    let hint = pool.hint.clone().unwrap_or_default();
    assert!(hint.contains("93 °C") && hint.contains("90 °C"), "{hint}");
    assert_eq!((pool.is_ready(), pool.replicas[0].pid), (false, engine.pid));

    rig.nvml.update(|driver| driver.gpus[0].temperature_c = 70)?;
    assert_eq!(node.until_ready(1).await?.pid, engine.pid);
    Ok(())
}

/// Indexes change across boots; pools name UUIDs.
/// REQ-FAULT-GPU-LOST.
#[tokio::test]
async fn gpus_that_change_places_keep_their_pools() -> Result<()> {
    let mut rig = Rig::new().await?;
    let node = rig.start().await?;
    let engine = node.until_ready(1).await?.pid;
    rig.nvml.update(|driver| driver.gpus.swap(0, 1))?;
    node.until_told("the new order", |report| {
        report
            .gpus
            .first()
            .is_some_and(|gpu| gpu.uuid == GPUS[1] && gpu.index == 0)
    })
    .await?;
    assert_eq!(node.until_ready(1).await?.pid, engine);
    Ok(())
}

/// ORCH-3433. Health goes on answering; the decode loop does not.
/// REQ-FAULT-ENGINE-HANG.
#[tokio::test]
async fn an_engine_that_stops_generating_is_started_again() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.pool = "watchdog_ms = 200".into();
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    control(&replica)?
        .change_script(&json!({"stalled": true}))
        .await?;
    cause(&node, UnreadyCause::EngineStalled).await?;
    assert!(is_gone(pid(&replica)?));
    node.until_ready(2).await?;
    Ok(())
}

/// REQ-FAULT-ENGINE-LIES.
#[tokio::test]
async fn an_engine_that_does_not_generate_is_not_ready() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.script(&json!({"stalled": true}))?;
    rig.pool = "load_timeout_ms = 1000".into();
    let node = rig.start().await?;
    let pool = cause(&node, UnreadyCause::LoadTimeout).await?;
    assert!(!pool.is_ready());
    Ok(())
}

#[tokio::test]
async fn only_the_model_with_the_configured_digest_is_loaded() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.pool = format!("model_sha256 = \"{}\"", "ab".repeat(32));
    let node = rig.start().await?;
    let pool = node
        .until("the digest", |pool| pool.cause == Some(UnreadyCause::BadModel))
        .await?;
    assert_eq!(pool.replicas[0].generation, 0);
    assert!(pool.hint.unwrap_or_default().contains("model_sha256"));
    node.stop().await?;
    let digest = pool.model_digest.context("no digest")?;
    rig.pool = format!("model_sha256 = \"{digest}\"");
    rig.start().await?.until_ready(1).await?;
    Ok(())
}
