//! GPUs: shown, missing, lost, hung. No engine without its devices.

use anyhow::Result;
use api_types::pool::{ReplicaState, UnreadyCause};
use test_harness_support::fake_nvml::{Call, Status, gpu};
use test_harness_support::wait::{Look, wait_for};

use crate::rig::{GPUS, LIMIT, Rig};

#[tokio::test]
async fn both_gpus_are_shown_with_what_they_say() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.nvml
        .update(|driver| driver.gpus[1].memory.used_by_others = 1 << 30)?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    let shown = node.json("/v1/node").await?;
    let gpus = shown["gpus"].as_array().map_or(0, Vec::len);
    assert_eq!(gpus, 2, "{shown}");
    assert_eq!(shown["gpus"][0]["uuid"], GPUS[0]);
    assert_eq!(shown["gpus"][0]["compute_capability"], "8.6");
    assert_eq!(shown["gpus"][1]["memory_total_bytes"], 12_u64 << 30);
    assert_eq!(shown["gpus"][1]["memory_used_bytes"], 1 << 30);
    assert_eq!(shown["driver"]["cuda_version"], "13.0");
    assert!(!shown.to_string().contains("endpoint_key"), "{shown}");
    let metrics = String::from_utf8(node.get("/metrics").await?.body)?;
    assert!(
        metrics.contains(&format!("vram_used_bytes{{device=\"{}\"}} {}", GPUS[1], 1 << 30)),
        "{metrics}"
    );
    assert!(metrics.contains("pool_ready{pool_id=\"p\"} 1"), "{metrics}");
    Ok(())
}

/// ORCH-3422.
#[tokio::test]
async fn an_engine_is_never_started_without_its_device_and_is_when_it_comes() -> Result<()> {
    let mut rig = Rig::new().await?;
    let late = "GPU-fake0000-0000-4000-8000-000000000002";
    rig.devices = vec![GPUS[0].into(), late.into()];
    let node = rig.start().await?;
    let pool = node
        .until("the device to be missed", |pool| {
            pool.cause == Some(UnreadyCause::DeviceMissing)
        })
        .await?;
    let hint = pool.hint.unwrap_or_default();
    assert!(hint.contains(late) && hint.contains(GPUS[1]), "{hint}");
    let replica = &pool.replicas[0];
    assert_eq!(
        (replica.state, replica.generation, replica.pid),
        (ReplicaState::Preflight, 0, None)
    );
    rig.nvml
        .update(|driver| driver.gpus.push(gpu(2, "a third one", 8 << 30)))?;
    node.until_ready(1).await?;
    Ok(())
}

/// ORCH-3422.
#[tokio::test]
async fn without_nvml_nothing_starts_and_the_hint_says_why() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.library = "/nonexistent/libnvidia-ml.so.1".into();
    let node = rig.start().await?;
    let pool = node
        .until("the driver to be missed", |pool| {
            pool.hint
                .as_deref()
                .is_some_and(|hint| hint.contains("/nonexistent/"))
        })
        .await?;
    assert_eq!(pool.cause, Some(UnreadyCause::DriverUnavailable));
    let hint = pool.hint.unwrap_or_default();
    assert!(hint.contains("install the NVIDIA driver"), "{hint}");
    assert_eq!(pool.replicas[0].generation, 0);
    let told = node
        .until_told("the driver's error", |report| report.driver_error.is_some())
        .await?;
    assert!(told.driver.is_none() && told.gpus.is_empty());
    assert_eq!(
        node.get("/readyz").await?.status,
        200,
        "the daemon itself supervises"
    );
    Ok(())
}

/// REQ-FAULT-DRIVER-REPLACED.
#[tokio::test]
async fn driver_faults_have_their_diagnosis_and_heal() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.nvml.fail(Call::Init, Status::LibRmVersionMismatch)?;
    let node = rig.start().await?;
    let advised = |hint: &str| hint.contains("reload the module or reboot");
    let pool = node
        .until("the mismatch", |pool| pool.hint.as_deref().is_some_and(advised))
        .await?;
    assert_eq!(pool.cause, Some(UnreadyCause::DriverUnavailable));
    rig.nvml.update(|driver| driver.faults.fail.clear())?;
    node.until_ready(1).await?;
    Ok(())
}

/// REQ-FAULT-GPU-LOST.
#[tokio::test]
async fn a_lost_gpu_takes_readiness_and_gives_it_back() -> Result<()> {
    let mut rig = Rig::new().await?;
    let node = rig.start().await?;
    let engine = node.until_ready(1).await?.pid;
    rig.nvml.update(|driver| driver.gpus[0].lost = true)?;
    let pool = node
        .until("the loss", |pool| pool.cause == Some(UnreadyCause::DeviceMissing))
        .await?;
    assert!(!pool.is_ready());
    rig.nvml.update(|driver| driver.gpus[0].lost = false)?;
    assert_eq!(node.until_ready(1).await?.pid, engine);
    Ok(())
}

/// ORCH-3428.
/// REQ-FAULT-NVML-HANG.
#[tokio::test]
async fn a_hung_driver_blocks_nothing_and_stops_no_engine() -> Result<()> {
    let mut rig = Rig::new().await?;
    let node = rig.start().await?;
    let engine = node.until_ready(1).await?.pid;
    rig.nvml
        .update(|driver| driver.faults.hang = [Call::DeviceCount].into())?;
    let hung = wait_for("the hang to be told", LIMIT, || async {
        match node.json("/v1/node").await {
            Ok(shown) if shown["driver_error"].to_string().contains("did not answer") => Look::Ready(shown),
            other => Look::NotYet(format!("{other:?}")),
        }
    })
    .await?;
    assert_eq!(hung["pools"][0]["replicas"][0]["state"], "ready");
    assert_eq!(node.get("/healthz").await?.status, 200);
    rig.nvml.update(|driver| driver.faults.hang.clear())?;
    node.until_told("the driver to answer again", |report| {
        report.driver_error.is_none()
    })
    .await?;
    assert_eq!(node.until_ready(1).await?.pid, engine);
    Ok(())
}
