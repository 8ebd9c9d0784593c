//! An orchestrator with a GPU box beside it, and one on another address that joins it: real processes all.

use std::net::SocketAddr;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use test_harness_support::http1::{self, Call};
use test_harness_support::network::{Gate, Place, another_place};
use test_harness_support::scripted_engine::{EngineControl, Report, Script};
use test_harness_support::sse::SseReader;
use test_harness_support::stream_check::{StreamCheck, Summary};
use test_harness_support::system::{GpuBox, MODEL, Plan, PoolPlan, System};
use test_harness_support::wait::{Look, wait_for};

use crate::fixture::LIMIT;

pub(crate) const TOKEN: &str = "lan-7d1f0c52-the-token-of-two-boxes";

/// Context per slot, tokens: room for tasks that run while something happens to them.
const CTX: u32 = 32_768;

/// The pools of the two boxes.
pub(crate) const NEAR: &str = "near";
pub(crate) const FAR: &str = "far";

/// A silent node is soon a stale one.
pub(crate) const IMPATIENT: &str =
    "[orchestratord.nodes]\nstale_after_ms = 900\nheartbeat_interval_ms = 200\n";

/// An orchestrator with a box beside it, and a box elsewhere that joins it.
pub(crate) struct Boxes {
    pub(crate) system: System,
    pub(crate) far: GpuBox,
}

/// The parts of a scenario that differ.
#[derive(Default)]
pub(crate) struct Setting {
    pub(crate) script: Script,
    /// Configuration of the orchestrator's file.
    pub(crate) config: &'static str,
    /// Further environment of the far node.
    pub(crate) env: Vec<(&'static str, String)>,
    /// Where the far node finds the orchestrator instead of at its address.
    pub(crate) by_way_of: Option<String>,
    /// A second pool on the far box.
    pub(crate) more: Option<PoolPlan>,
}

pub(crate) fn paced() -> Script {
    Script::default().paced(1, 3_000).tokens(4000)
}

/// Slots are few, so that a leaked one shows.
pub(crate) fn pool(id: &str, script: &Script) -> PoolPlan {
    PoolPlan {
        ctx: CTX,
        ..PoolPlan::new(id, 0, 1).script(script.clone())
    }
}

pub(crate) async fn orchestrator(setting: &Setting) -> System {
    let plan = Plan {
        pools: vec![pool(NEAR, &setting.script)],
        ..Plan::default()
    };
    let plan = plan
        .token(TOKEN)
        .config(setting.config)
        .orchestrator_env("ORCHD_ADDR", "0.0.0.0:0");
    System::start(plan).await.unwrap()
}

/// Where another box finds this orchestrator.
pub(crate) fn url_for(place: Place, system: &System) -> String {
    format!("http://{}", SocketAddr::new(place.ip, system.address().port()))
}

pub(crate) async fn join(system: &System, setting: &Setting) -> GpuBox {
    let place = another_place();
    let mut plan = Plan {
        pools: vec![pool(FAR, &setting.script)],
        ..Plan::default()
    };
    plan.pools.extend(setting.more.clone());
    plan.node_env = vec![
        ("POOL_MANAGERD_NODE_ID".to_owned(), "far-box".to_owned()),
        (
            "POOL_MANAGERD_ADDR".to_owned(),
            SocketAddr::new(place.ip, 0).to_string(),
        ),
    ];
    if !place.beyond_loopback || setting.by_way_of.is_some() {
        plan.node_env
            .push(("POOL_MANAGERD_RELAY".to_owned(), "always".to_owned()));
    }
    let env = setting.env.iter();
    plan.node_env
        .extend(env.map(|(name, value)| ((*name).to_owned(), value.clone())));
    let orchestrator = setting
        .by_way_of
        .clone()
        .unwrap_or_else(|| url_for(place, system));
    GpuBox::join(plan.token(TOKEN), &orchestrator).await.unwrap()
}

impl Boxes {
    pub(crate) async fn start(setting: Setting) -> Self {
        let system = orchestrator(&setting).await;
        let far = join(&system, &setting).await;
        let boxes = Self { system, far };
        boxes
            .wait_pool(FAR, "to be ready", |pool| pool["health"]["ready"] == true)
            .await;
        boxes
    }

    /// The far box's reports go through a gate.
    pub(crate) async fn whose_reports_can_be_lost(setting: Setting) -> (Self, Gate) {
        let system = orchestrator(&setting).await;
        let gate = Gate::closed().await.unwrap();
        gate.open_to(system.address());
        let setting = Setting {
            by_way_of: Some(gate.base_url()),
            ..setting
        };
        let far = join(&system, &setting).await;
        (Self { system, far }, gate)
    }

    pub(crate) async fn wait_pool(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let look = || async {
            match self.system.pool(id).await {
                Ok(pool) if holds(&pool) => Look::Ready(pool),
                other => Look::NotYet(format!("{other:?}")),
            }
        };
        let waited = wait_for(&format!("{id} {what}"), LIMIT, look).await;
        waited.unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.system.logs(), self.far.daemon.logs()))
    }

    pub(crate) async fn try_submit(&self, pool: &str, max_tokens: u32, more: Value) -> http1::Answer {
        let mut body = json!({
            "model_ref": MODEL, "prompt": "the moon over the river", "max_tokens": max_tokens, "seed": 7,
            "placement": {"mode": "pin", "pin_pool_id": pool}
        });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.system
            .call(Call::post_json("/v1/tasks", &body))
            .await
            .unwrap()
    }

    /// A task of any kind that must be admitted.
    pub(crate) async fn submit_as(&self, body: &Value) -> String {
        admitted(
            &self
                .system
                .call(Call::post_json("/v1/tasks", body))
                .await
                .unwrap(),
        )
    }

    pub(crate) async fn submit(&self, pool: &str, max_tokens: u32) -> String {
        admitted(&self.try_submit(pool, max_tokens, json!({})).await)
    }

    pub(crate) async fn open(&self, task: &str) -> SseReader {
        let call = self
            .system
            .authorized(Call::get(&format!("/v1/tasks/{task}/stream")));
        SseReader::open(self.system.address(), &call).await.unwrap()
    }

    pub(crate) async fn read(&self, task: &str) -> Summary {
        let events = self.open(task).await.all_events(LIMIT).await.unwrap();
        StreamCheck::whole(&events).unwrap_or_else(|violation| panic!("{violation}\n{}", self.system.logs()))
    }

    pub(crate) async fn run(&self, pool: &str, max_tokens: u32) -> Summary {
        self.read(&self.submit(pool, max_tokens).await).await
    }

    /// A task on the far box whose first token has been read.
    pub(crate) async fn running(&self, max_tokens: u32) -> (String, SseReader) {
        let task = self.submit(FAR, max_tokens).await;
        let mut stream = self.open(&task).await;
        while stream.next_event(LIMIT).await.unwrap().unwrap().name.as_deref() != Some("token") {}
        (task, stream)
    }

    pub(crate) async fn engine(&self) -> EngineControl {
        self.far.engine(FAR).await.unwrap()
    }

    pub(crate) async fn wait_engine(&self, what: &str, holds: impl Fn(&Report) -> bool) -> Report {
        let engine = self.engine().await;
        let look = || async {
            match engine.report().await {
                Ok(report) if holds(&report) => Look::Ready(report),
                other => Look::NotYet(other),
            }
        };
        wait_for(what, LIMIT, look).await.unwrap()
    }

    pub(crate) async fn wait_idle(&self) {
        let free = |pool: &Value| pool["slots_free"] == pool["slots_total"] && pool["slots_total"] != 0;
        self.wait_pool(FAR, "to have its slot free", free).await;
        self.wait_engine("the engine's slot to be free", |report| report.active == 0)
            .await;
    }

    pub(crate) async fn kill_engine(&self) {
        let pool = self.far.pool(FAR).await.unwrap();
        let pid = pool["replicas"][0]["pid"].as_i64().unwrap();
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    }
}

/// The id of a task that has been admitted.
fn admitted(answer: &http1::Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    let receipt: Value = answer.json().unwrap();
    receipt["task_id"].as_str().unwrap().to_owned()
}
