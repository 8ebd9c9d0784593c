//! Drains and reloads under load: no task is lost, and a new model that fails at whatever gate leaves the old one serving.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::scripted_engine::{Residency, Script, StartFailure};
use test_harness_support::system::{MODEL, Plan, System};
use tokio::time::Instant;

use crate::KILLS;
use crate::load::Load;

/// As many as a twentieth of the kills; the slice goes once through all.
const ROUNDS: usize = if KILLS > 20 { KILLS / 20 } else { 1 };

/// Longer than any task takes, so that no drain has to end one.
const DEADLINE_MS: u64 = 60_000;

/// A digest that no file has.
const NO_DIGEST: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

/// One reload and what shall come of it.
struct Case {
    what: &'static str,
    /// Names the model's file.
    model: String,
    /// What the new engines do.
    script: Script,
    /// Whether two models fit.
    room: bool,
    /// Whether it succeeds.
    succeeds: bool,
}

fn sound() -> Script {
    Script {
        token_delay_us: 1_000,
        infinite: true,
        ..Script::default()
    }
}

fn cases(system: &System) -> Vec<Case> {
    let case = |what, model: String, script, room, succeeds| Case {
        what,
        model,
        script,
        room,
        succeeds,
    };
    let refused = Script {
        start_failure: Some(StartFailure {
            exit_code: 1,
            message: "error loading model: no such tensor".to_owned(),
        }),
        ..sound()
    };
    let astray = Script {
        residency: Residency::Absent,
        ..sound()
    };
    let mute = Script {
        stalled: true,
        ..sound()
    };
    let next = || system.model_ref("next");
    vec![
        case("a model that serves", next(), sound(), true, true),
        case("no such file", system.model_ref("absent"), sound(), true, false),
        case(
            "a file of others",
            "file:/etc/hostname".to_owned(),
            sound(),
            true,
            false,
        ),
        case("another digest", system.model_ref("pinned"), sound(), true, false),
        case("an engine that refuses it", next(), refused.clone(), true, false),
        case("an engine that is on no GPU", next(), astray, true, false),
        case("an engine that does not generate", next(), mute, true, false),
        case("the same in its place", next(), sound(), false, true),
        case(
            "an engine that refuses it in its place",
            next(),
            refused,
            false,
            false,
        ),
    ]
}

async fn system() -> Result<System> {
    let mut plan = Plan::reference_box(2).scripts(&sound());
    for pool in &mut plan.pools {
        *pool = pool
            .clone()
            .more_model("next")
            .pinned_model("pinned", NO_DIGEST)
            .extra("load_timeout_ms = 6000\nrestart = { initial_ms = 10, max_ms = 50, budget = 2 }\n");
    }
    Ok(System::start(plan).await?)
}

async fn operate(system: &System, pool: &str, kind: &str, body: &Value) -> Result<Value> {
    let answer = system
        .call(Call::post_json(&format!("/v1/pools/{pool}/{kind}"), body))
        .await?;
    ensure!(answer.status == 202, "{}: {}", answer.status, answer.text());
    let accepted: Value = answer.json()?;
    let shown = |pools: &[Value]| {
        pools.iter().any(|shown| {
            let last = &shown["health"]["last_operation"];
            shown["pool_id"] == pool
                && last["operation_id"] == accepted["operation_id"]
                && last["state"] != "running"
        })
    };
    system.wait_pools("the operation to be over", shown).await?;
    Ok(system.pool(pool).await?)
}

/// Other programs leave a GPU no room for a second model, or give it back.
fn make_room(system: &mut System, gpu: usize, room: bool) -> Result<()> {
    system.gpus.update(|driver| {
        let gpu = &mut driver.gpus[gpu];
        let free = gpu.memory.total - gpu.memory.reserved;
        // A context is some 300 MiB.
        gpu.memory.used_by_others = if room { 0 } else { free - (500 << 20) };
    })?;
    Ok(())
}

async fn reload(system: &mut System, pool: &str, gpu: usize, case: &Case) -> Result<()> {
    let before = system.pool(pool).await?;
    make_room(system, gpu, case.room)?;
    system.rescript(pool, &case.script)?;
    let body = json!({"new_model_ref": case.model, "model_id": MODEL, "deadline_ms": DEADLINE_MS});
    let operated = operate(system, pool, "reload", &body);
    let heal = async {
        if case.succeeds || case.room {
            return Ok(());
        }
        // The old model shall come back: its engine is started by the same script.
        system
            .wait_pools("the way back", |pools| {
                pools
                    .iter()
                    .any(|pool| pool["health"]["last_operation"]["phase"] == "restoring")
            })
            .await?;
        anyhow::Ok(system.rescript(pool, &sound())?)
    };
    let (after, healed) = tokio::join!(operated, heal);
    healed?;
    let after = after.with_context(|| case.what)?;
    system.rescript(pool, &sound())?;
    make_room(system, gpu, true)?;
    let expected = if case.succeeds { "succeeded" } else { "failed" };
    let last = &after["health"]["last_operation"];
    ensure!(last["state"] == expected, "{}: {last}", case.what);
    ensure!(
        after["health"]["ready"] == true && after["model_id"] == MODEL,
        "{}: {after}",
        case.what
    );
    if !case.succeeds {
        ensure!(
            after["model_ref"] == before["model_ref"],
            "{}: {after}",
            case.what
        );
        let replaced = after["replicas"][0]["pid"] != before["replicas"][0]["pid"];
        ensure!(
            replaced != case.room,
            "{}: the engine that served was touched without need, or not at all: {after}",
            case.what
        );
    }
    Ok(())
}

async fn drain_and_load(system: &System, pool: &str) -> Result<()> {
    let body = json!({"deadline_ms": DEADLINE_MS});
    let drained = operate(system, pool, "drain", &body).await?;
    ensure!(
        drained["health"]["draining"] == true && drained["replicas"][0]["pid"].is_null(),
        "{drained}"
    );
    let loaded = operate(system, pool, "load", &json!({})).await?;
    ensure!(loaded["health"]["ready"] == true, "{loaded}");
    Ok(())
}

#[tokio::test]
async fn drains_and_reloads_lose_nothing_whatever_fails() -> Result<()> {
    let mut system = system().await?;
    let load = Load::start(system.address(), 6);
    let began = Instant::now();
    let mut operations = 0;
    for round in 0..ROUNDS {
        for (at, case) in cases(&system).iter().enumerate() {
            let gpu = (round + at) % 2;
            reload(&mut system, &format!("gpu{gpu}"), gpu, case).await?;
            operations += 1;
        }
        drain_and_load(&system, &format!("gpu{}", round % 2)).await?;
        operations += 2;
    }
    let told = load.end().await?;
    println!(
        "operations: {operations} in {:?}; tasks {told:?}",
        Duration::from_secs(began.elapsed().as_secs())
    );
    ensure!(
        told.keys().all(|outcome| outcome == "length"),
        "a task failed: {told:?}"
    );
    ensure!(told.get("length") > Some(&operations), "{told:?}");
    let no_leases = |pools: &[Value]| {
        pools.iter().all(|pool| {
            pool["health"]["metrics"]["active_leases"] == 0 && pool["slots_free"] == pool["slots_total"]
        })
    };
    system.wait_pools("every lease to be back", no_leases).await?;
    Ok(())
}
