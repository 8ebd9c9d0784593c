//! A GPU box behind its relay whose reports get lost on the way, and arrive again.

use cucumber::{given, then, when};
use serde_json::{Value, json};
use test_harness_support::network::Gate;
use test_harness_support::scripted_engine::Script;
use test_harness_support::system::{Plan, PoolPlan};

use super::gpu_box::generation;
use crate::world::{StepResult, World};

/// A silent box is soon a stale one.
const IMPATIENT: &str = "[orchestratord.nodes]\nstale_after_ms = 900\nheartbeat_interval_ms = 200\n";

/// From token to token, µs: a task of some hundred takes longer than a box needs to be stale.
const PACE_US: u64 = 5_000;

#[given(expr = "a GPU box behind its relay with pool {string} of {int} slot(s), whose reports can be lost")]
async fn behind_a_gate(world: &mut World, pool: String, slots: u32) -> StepResult {
    let gate = Gate::closed().await?;
    let script = Script::default().paced(1, PACE_US).tokens(4000);
    let mut plan = Plan {
        pools: vec![PoolPlan::new(&pool, 0, slots).script(script)],
        ..Plan::default()
    };
    for (name, value) in [
        ("POOL_MANAGERD_RELAY", "always".to_owned()),
        ("ORCHD_URL", gate.base_url()),
    ] {
        plan.node_env.push((name.to_owned(), value));
    }
    world.start_unready(plan.config(IMPATIENT)).await?;
    gate.open_to(world.orchestrator()?.address());
    world.keep_gate(gate);
    world.system()?.wait_ready().await?;
    let shown = world.system()?.pool(&pool).await?;
    world.generation = generation(&shown);
    Ok(())
}

#[when("the box's reports are lost")]
fn lose(world: &mut World) -> StepResult {
    world.gate()?.close();
    Ok(())
}

#[when("the box's reports arrive again")]
fn arrive(world: &mut World) -> StepResult {
    let orchestrator = world.orchestrator()?.address();
    world.gate()?.open_to(orchestrator);
    Ok(())
}

#[then(expr = "{string} is not ready because of {string}")]
async fn not_ready(world: &mut World, pool: String, cause: String) -> StepResult {
    let holds = |pools: &[Value]| {
        pools
            .iter()
            .any(|shown| shown["pool_id"] == pool.as_str() && shown["health"]["cause"] == cause.as_str())
    };
    world
        .system()?
        .wait_pools(&format!("{pool} to be {cause}"), holds)
        .await?;
    let shown = world.system()?.pool(&pool).await?;
    assert_eq!(
        (&shown["health"]["ready"], &shown["health"]["live"]),
        (&json!(false), &json!(false)),
        "{shown}"
    );
    Ok(())
}

#[then(expr = "{string} is ready with the same engine")]
async fn same_engine(world: &mut World, pool: String) -> StepResult {
    world.system()?.wait_ready().await?;
    let shown = world.system()?.pool(&pool).await?;
    assert_eq!(
        (&shown["health"]["ready"], generation(&shown)),
        (&json!(true), world.generation),
        "{shown}"
    );
    Ok(())
}
