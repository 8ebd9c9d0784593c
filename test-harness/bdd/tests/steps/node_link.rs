//! A node that the orchestrator refuses.

use anyhow::Context as _;
use cucumber::{given, then};
use serde_json::{Value, json};
use test_harness_support::http1::{self, Answer, Call};
use test_harness_support::network::Gate;
use test_harness_support::system::{Plan, System};
use test_harness_support::wait::{Look, wait_for};

use super::authentication::{OTHER_TOKEN, TOKEN, VERBOSE};
use crate::world::{PATIENCE, StepResult, World};

/// How often a node counts that it was refused.
const REFUSALS: &str = "heartbeats_total{outcome=\"refused\"} ";

#[given("a GPU box whose pool-managerd has another token than the orchestrator")]
async fn other_token(world: &mut World) -> StepResult {
    let mut plan = Plan::reference_box(1).token(TOKEN).config(VERBOSE);
    plan.pools.truncate(1);
    plan.node_env
        .push(("AUTH_TOKEN".to_owned(), OTHER_TOKEN.to_owned()));
    Ok(world.start_unready(plan).await?)
}

#[given("a GPU box that calls the orchestrator by a name it does not answer to")]
async fn foreign_name(world: &mut World) -> StepResult {
    let gate = Gate::renaming("elsewhere.example").await?;
    let mut plan = Plan::reference_box(1).token(OTHER_TOKEN).config(VERBOSE);
    plan.pools.truncate(1);
    plan.node_env.push(("ORCHD_URL".to_owned(), gate.base_url()));
    world.start_unready(plan).await?;
    gate.open_to(world.orchestrator()?.address());
    world.keep_gate(gate);
    Ok(())
}

#[given("a GPU box behind its relay that nobody can reach")]
async fn out_of_reach(world: &mut World) -> StepResult {
    let gate = Gate::closed().await?;
    let mut plan = Plan::reference_box(1).token(OTHER_TOKEN).config(VERBOSE);
    plan.pools.truncate(1);
    for (name, value) in [
        ("POOL_MANAGERD_RELAY", "always".to_owned()),
        ("POOL_MANAGERD_ADVERTISE_URL", gate.base_url()),
    ] {
        plan.node_env.push((name.to_owned(), value));
    }
    world.start_unready(plan).await?;
    world.keep_gate(gate);
    Ok(())
}

#[then(expr = "the log of pool-managerd holds a hint about the {word}( names)")]
async fn hint(world: &mut World, topic: String) -> StepResult {
    let word = match topic.as_str() {
        "allowed" => "http.allowed_hosts",
        "token" | "firewall" => topic.as_str(),
        other => return Err(anyhow::anyhow!("no hint is about {other}").into()),
    };
    let node = &world.system()?.node;
    let look = || async {
        let said = node.stderr();
        let mut lines = said
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        match lines.find(|line| line["hint"].is_string()) {
            Some(line) => Look::Ready(line),
            None => Look::NotYet(said),
        }
    };
    let line = wait_for("a line with a hint", PATIENCE, look).await?;
    assert!(
        line["hint"].as_str().is_some_and(|hint| hint.contains(word)),
        "{line}"
    );
    let logs = world.logs();
    assert!(
        !logs.contains(TOKEN) && !logs.contains(OTHER_TOKEN),
        "a token is in the logs"
    );
    Ok(())
}

#[then("its engine keeps running while the orchestrator refuses it again and again")]
async fn engine_keeps_running(world: &mut World) -> StepResult {
    let system = world.system()?;
    let before = wait_replica_ready(system).await?;
    let refused = refusals(system).await?;
    let look = || async {
        match refusals(system).await {
            Ok(now) if now >= refused + 2 => Look::Ready(now),
            other => Look::NotYet(other),
        }
    };
    wait_for("two more refusals", PATIENCE, look).await?;
    let after = replica(system).await?;
    assert_eq!(after, before, "not the same engine in the same state");
    Ok(())
}

#[then("the orchestrator knows no node")]
async fn no_node(world: &mut World) -> StepResult {
    let answer = world.system()?.call(Call::get("/v1/nodes")).await?;
    let known: Value = answer.json()?;
    assert_eq!((answer.status, &known["nodes"]), (200, &json!([])), "{known}");
    Ok(())
}

async fn ask_node(system: &System, route: &str) -> anyhow::Result<Answer> {
    let call = Call::get(route).bearer(OTHER_TOKEN);
    Ok(http1::call(system.node.address(), &call).await?)
}

/// Waits until the node's engine is ready; tells it as the node shows it.
async fn wait_replica_ready(system: &System) -> anyhow::Result<Value> {
    let look = || async {
        match replica(system).await {
            Ok(replica) if replica["state"] == "ready" => Look::Ready(replica),
            other => Look::NotYet(other),
        }
    };
    let ready = wait_for("the engine to be ready", PATIENCE, look).await?;
    anyhow::ensure!(ready["pid"].is_u64(), "a ready engine without a process: {ready}");
    Ok(ready)
}

/// The node's only engine.
async fn replica(system: &System) -> anyhow::Result<Value> {
    let mut pools: Value = ask_node(system, "/v1/pools").await?.json()?;
    Ok(pools["pools"][0]["replicas"][0].take())
}

/// How often the orchestrator refused the node so far.
async fn refusals(system: &System) -> anyhow::Result<u64> {
    let text = ask_node(system, "/metrics").await?.text();
    let count = text.lines().find_map(|line| line.strip_prefix(REFUSALS));
    count
        .with_context(|| format!("no count of refusals in {text}"))?
        .parse()
        .context(text)
}
