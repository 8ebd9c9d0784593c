//! Sets the stage: which engines, how fast, over which GPUs.

use test_harness_support::real_engine;
use test_harness_support::scripted_engine::Script;
use test_harness_support::system::{EngineChoice, Plan, PoolPlan, System};

/// Pace of the scripted engines: slow enough to watch, fast enough to wait for. The second GPU is the
/// slower one, as on the reference box.
const PACES_US: [u64; 2] = [25_000, 45_000];

/// Prefill time of the scripted engines, ms.
const PREFILL_MS: u64 = 120;

/// Starts both daemons and waits until the pools are ready.
pub(crate) async fn set(real: bool) -> anyhow::Result<System> {
    let engine = if real {
        let server = tokio::task::spawn_blocking(real_engine::llama_server).await??;
        EngineChoice::Real(server)
    } else {
        EngineChoice::Scripted
    };
    let pools = ["gpu0-rtx3090", "gpu1-rtx3060"].iter().zip(PACES_US).enumerate();
    let pools = pools.map(|(gpu, (id, pace))| PoolPlan {
        ctx: 2048,
        ..PoolPlan::new(id, gpu, 1).script(Script::default().paced(PREFILL_MS, pace).tokens(48))
    });
    let plan = Plan {
        pools: pools.collect(),
        engine,
        ..Plan::default()
    };
    Ok(System::start(plan).await?)
}
