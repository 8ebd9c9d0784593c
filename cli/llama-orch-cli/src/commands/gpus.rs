//! This machine's GPUs: as its pool-managerd tells them, which knows whose engines hold what; else as the driver does.

use std::path::Path;
use std::time::Duration;

use api_types::pool::{GpuCondition, GpuReport};
use config_schema::{BaseUrl, PoolManagerd};
use gpu_probe::{NVML_LIBRARY, NvmlGpus, faults_text, look_once};
use llama_orch_client::{ClientError, NodeClient, Timeouts};
use vram_planner::{Device, Loaded};

use super::here::Here;
use crate::args::Global;
use crate::failure::Failure;

/// It is on this machine.
const PATIENCE: Timeouts = Timeouts {
    connect: Duration::from_millis(300),
    request: Duration::from_millis(700),
    idle: Duration::from_millis(700),
};

/// The driver's first answer after its library was opened may take a second.
const DEADLINE: Duration = Duration::from_secs(3);

/// What was found.
pub(crate) struct Gpus {
    pub(crate) reports: Vec<GpuReport>,
    /// Why there are none, or not all.
    pub(crate) trouble: Option<String>,
    /// What may be wrong with the numbers.
    pub(crate) caveat: Option<&'static str>,
}

pub(crate) async fn look(here: &Here<'_>, global: &Global) -> Result<Gpus, Failure> {
    let node = &here.config.pool_managerd;
    let token = super::configuration(global, here.environment)?.token;
    let client = NodeClient::new(token, PATIENCE)?;
    let told = client.node(BaseUrl::http(node.addr.reachable()).as_str()).await;
    match told {
        Ok(report) => Ok(Gpus {
            reports: report.gpus,
            trouble: report.driver_error,
            caveat: None,
        }),
        Err(ClientError::Unreachable { .. }) => asked(node, None).await,
        Err(_) => {
            let caveat =
                "pool-managerd does not tell what it runs: memory of its engines counts as that of others";
            asked(node, Some(caveat)).await
        }
    }
}

async fn asked(node: &PoolManagerd, caveat: Option<&'static str>) -> Result<Gpus, Failure> {
    let library = node
        .nvml_library
        .as_deref()
        .unwrap_or_else(|| Path::new(NVML_LIBRARY));
    let source = Box::new(NvmlGpus::new(library.to_owned()));
    let state = look_once(source, DEADLINE).await;
    let state = state.map_err(|source| Failure::io("asking the driver", source))?;
    Ok(match state {
        Ok(inventory) => Gpus {
            reports: inventory.gpus.iter().map(|gpu| alone(gpu, node)).collect(),
            trouble: faults_text(&inventory.faults),
            caveat,
        },
        Err(error) => Gpus {
            reports: Vec::new(),
            trouble: Some(format!("{error}; {}", error.hint())),
            caveat,
        },
    })
}

/// A card as it is without our daemon: all that is used is used by others.
fn alone(gpu: &GpuReport, node: &PoolManagerd) -> GpuReport {
    let reserved = node.gpus.iter().find(|of| of.uuid.as_str() == gpu.uuid);
    GpuReport {
        reserved_bytes: reserved.map_or(0, |of| of.keep_free_mib.get() as u64) << 20,
        used_by_others_bytes: gpu.memory_used_bytes,
        ..gpu.clone()
    }
}

/// The cards that can be planned for.
pub(crate) fn devices(reports: &[GpuReport]) -> Vec<Device> {
    // One that is too hot cools down.
    let works = |gpu: &&GpuReport| matches!(gpu.condition, GpuCondition::Healthy | GpuCondition::TooHot);
    let whole = |gpu: &&GpuReport| gpu.mig.is_empty();
    reports.iter().filter(works).filter(whole).map(device).collect()
}

fn device(gpu: &GpuReport) -> Device {
    let mut loaded: Vec<Loaded> = Vec::new();
    for process in &gpu.processes {
        let (Some(pool), Some(bytes)) = (&process.pool_id, process.used_bytes) else {
            continue;
        };
        match loaded.iter_mut().find(|known| known.name == pool.as_str()) {
            Some(known) => known.bytes = known.bytes.saturating_add(bytes),
            None => loaded.push(Loaded {
                name: pool.to_string(),
                bytes,
            }),
        }
    }
    Device {
        name: format!("GPU {} ({})", gpu.index, gpu.name),
        total: gpu.memory_total_bytes,
        free: gpu.memory_free_bytes,
        reserved: gpu.reserved_bytes,
        loaded,
        others: gpu.used_by_others_bytes,
    }
}
