//! The kills and what must hold after each of them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use test_harness_support::scripted_engine::Script;
use test_harness_support::system::{Plan, System};
use test_harness_support::wait::{Look, wait_for};
use tokio::time::Instant;

use crate::KILLS;
use crate::load::{Load, Told};
use crate::orphans::orphans;

const LIMIT: Duration = Duration::from_secs(60);

/// The promise; it takes some 10 ms.
const ORPHAN_LIMIT: Duration = Duration::from_secs(2);

/// A box that may restart as often as it is shot at, since the budget has tests of its own.
async fn system() -> Result<System> {
    let script = Script {
        token_delay_us: 1_000,
        infinite: true,
        ..Script::default()
    };
    let mut plan = Plan::reference_box(2).scripts(&script);
    plan.keep_engines = true;
    for pool in &mut plan.pools {
        pool.extra = "restart = { initial_ms = 10, max_ms = 50, budget = 1000 }\n".to_owned();
    }
    Ok(System::start(plan).await?)
}

/// What one kill cost.
#[derive(Default)]
struct Costs {
    orphans: Vec<Duration>,
    ready: Vec<Duration>,
}

impl Costs {
    /// Waits until nothing of a dead generation runs and every pool is ready as `holds` wants it.
    async fn settle(&mut self, system: &System, holds: impl Fn(&[Value]) -> bool) -> Result<()> {
        let shot = Instant::now();
        let none = || async {
            match orphans(system.folder()) {
                left if left.is_empty() => Look::Ready(()),
                left => Look::NotYet(left),
            }
        };
        wait_for("no process of a dead generation", LIMIT, none).await?;
        self.orphans.push(shot.elapsed());
        let ready =
            |pools: &[Value]| pools.iter().all(|pool| pool["health"]["ready"] == true) && holds(pools);
        system.wait_pools("every pool to be ready again", ready).await?;
        self.ready.push(shot.elapsed());
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "the figures of `cargo xtask chaos`")]
    fn print(&mut self, what: &str, told: &Told) {
        println!("{what}: {KILLS} times; tasks {told:?}");
        for (name, times) in [("no orphan", &mut self.orphans), ("ready", &mut self.ready)] {
            times.sort_unstable();
            let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1));
            println!(
                "{what}: {name} after p50 {:?}, p99 {:?}, max {:?}",
                at(50),
                at(99),
                times.last()
            );
        }
    }
}

fn generation(pools: &[Value], pool: usize) -> Option<u64> {
    pools[pool]["replicas"][0]["generation"].as_u64()
}

fn pid(pools: &[Value], pool: usize) -> Result<Pid> {
    let pid = pools[pool]["replicas"][0]["pid"].as_i64().context("no engine")?;
    Pid::from_raw(i32::try_from(pid)?).context("pid 0")
}

#[tokio::test]
async fn a_killed_engine_leaves_nothing_and_is_back() -> Result<()> {
    let system = system().await?;
    let load = Load::start(system.address(), 6);
    let mut costs = Costs::default();
    for kill in 0..KILLS {
        let before = system.pools().await?;
        let pool = kill % before.len();
        kill_process(pid(&before, pool)?, Signal::KILL)?;
        costs
            .settle(&system, |pools| {
                generation(pools, pool) > generation(&before, pool)
            })
            .await?;
    }
    let told = load.end().await?;
    costs.print("engine killed", &told);
    ensure!(
        costs.orphans.last() <= Some(&ORPHAN_LIMIT),
        "orphans lived for {:?}",
        costs.orphans.last()
    );
    let (done, reset) = (
        told.get("length").copied(),
        told.get("WORKER_RESET").copied().unwrap_or(0),
    );
    ensure!(done > Some(KILLS), "{told:?}");
    // Two slots an engine.
    ensure!(
        reset <= 2 * KILLS && told.len() <= 2,
        "a task failed for another reason: {told:?}"
    );
    Ok(())
}

/// REQ-FAULT-MANAGER-KILLED.
#[tokio::test]
async fn a_killed_supervisor_costs_no_task_and_no_engine() -> Result<()> {
    let mut system = system().await?;
    let before = system.pools().await?;
    let load = Load::start(system.address(), 6);
    let mut costs = Costs::default();
    for _ in 0..KILLS {
        system.node.signal(Signal::KILL)?;
        system.node.wait(LIMIT).await?;
        system.restart_node().await?;
        costs
            .settle(&system, |pools| {
                (0..pools.len()).all(|pool| generation(pools, pool) == generation(&before, pool))
            })
            .await?;
    }
    let told = load.end().await?;
    costs.print("pool-managerd killed", &told);
    ensure!(
        told.keys().all(|outcome| outcome == "length"),
        "a task failed: {told:?}"
    );
    let after = system.pools().await?;
    for pool in 0..after.len() {
        ensure!(
            pid(&after, pool)? == pid(&before, pool)?,
            "an engine was started anew"
        );
    }
    Ok(())
}
