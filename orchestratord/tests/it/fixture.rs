//! An orchestrator process and a node that this test plays: it registers pools whose engines are
//! scripted engines inside the test.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_harness_support::daemon::{Command, Daemon};
use test_harness_support::http1::{self, Answer, Call};
use test_harness_support::scripted_engine::{Launch, Script, ScriptedEngine};
use test_harness_support::sse::SseReader;
use test_harness_support::stream_check::{StreamCheck, Summary};
use test_harness_support::wait::{Look, wait_for};

/// Longer than anything here takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// One pool of the played node.
pub(crate) struct PlayedPool {
    pub(crate) id: &'static str,
    pub(crate) engine: ScriptedEngine,
    slots: usize,
}

/// The orchestrator and the played node.
pub(crate) struct Fixture {
    pub(crate) daemon: Daemon,
    pub(crate) pools: Vec<PlayedPool>,
    /// What the node registers with, where the daemon has a token.
    token: Option<String>,
    /// Starts it again, on the same address and state.
    command: Command,
    /// Holds the configuration file and the state as long as the daemon runs.
    folder: TempDir,
    seq: std::sync::atomic::AtomicU64,
    /// The latest operation that the node has recorded.
    recorded: Mutex<Option<Value>>,
}

/// The configuration every fixture starts from: a played node does not send heartbeats by itself.
const PATIENT: &str = "[orchestratord.nodes]\nstale_after_ms = 600000\nheartbeat_interval_ms = 1000\n";

impl Fixture {
    /// One pool `p` with `slots` slots.
    pub(crate) async fn one(slots: usize, script: Script) -> Self {
        Self::start(&[("p", slots, script)], "", &[]).await
    }

    /// Pools, further configuration tables, environment.
    pub(crate) async fn start(
        pools: &[(&'static str, usize, Script)],
        config: &str,
        env: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = write_config(&folder, &patiently(config));
        let command = Command::of_workspace("orchestratord").unwrap();
        let command = command
            .env("LLAMA_ORCH_CONFIG", file)
            .env("ORCHD_STATE_DIR", folder.path().join("state"))
            .env("ORCHD_ADDR", "127.0.0.1:0");
        let command = env
            .iter()
            .fold(command, |command, (name, value)| command.env(name, value));
        let daemon = command.clone().start().await.unwrap();
        let mut played = Vec::new();
        for (id, slots, script) in pools {
            let launch = Launch {
                parallel: Some(*slots),
                ctx: 2048 * *slots as u32,
                ..Launch::default()
            };
            let engine = ScriptedEngine::launch(launch, script.clone()).await.unwrap();
            played.push(PlayedPool {
                id,
                engine,
                slots: *slots,
            });
        }
        let fixture = Self {
            daemon,
            pools: played,
            token: env
                .iter()
                .find(|(name, _)| *name == "AUTH_TOKEN")
                .map(|(_, token)| (*token).to_owned()),
            command,
            folder,
            seq: 0.into(),
            recorded: Mutex::new(None),
        };
        fixture.register().await;
        fixture
    }

    /// Where the orchestrator keeps its state.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state/orchestratord")
    }

    /// The command that starts this orchestrator, on another port.
    pub(crate) fn command(&self) -> Command {
        self.command.clone()
    }

    /// Kills the orchestrator as a crash would and starts it again on the same address; its node has
    /// not reported yet.
    pub(crate) async fn crash(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait(LIMIT).await.unwrap();
        self.start_again().await;
    }

    /// Starts an orchestrator that has ended again, on the same address.
    pub(crate) async fn start_again(&mut self) {
        let address = self.daemon.address().to_string();
        self.daemon = self.command().env("ORCHD_ADDR", address).start().await.unwrap();
    }

    /// The node's full state.
    pub(crate) fn report(&self) -> Value {
        let seq = self.seq.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = |played: &PlayedPool| {
            let mut pool = pool_report(played.id, &played.engine.base_url(), played.slots);
            if let Some(operation) = recorded.as_ref().filter(|it| it["pool_id"] == played.id) {
                pool["operation_generation"] = operation["generation"].clone();
                pool["operation"] = json!({
                    "operation_id": operation["operation_id"], "kind": operation["kind"],
                    "state": "succeeded", "phase": "steady",
                });
            }
            pool
        };
        node_report("box", seq, self.pools.iter().map(pool).collect())
    }

    /// What `acting` comes to while the node reports and records what it is told; nothing becomes of that.
    pub(crate) async fn obeyed<T>(&self, acting: impl Future<Output = T>) -> T {
        tokio::select! {
            acted = acting => acted,
            never = self.obey() => match never {},
        }
    }

    async fn obey(&self) -> std::convert::Infallible {
        let mut beats = tokio::time::interval(Duration::from_millis(20));
        loop {
            beats.tick().await;
            let report = self.report();
            let mut answer = self.beat("/v1/workers/box/heartbeat", &report).await;
            if answer.status == 404 {
                answer = self.beat("/v1/workers/register", &report).await;
            }
            let told: Value = answer.json().unwrap();
            if let Some(order) = told["pools"].as_array().and_then(|orders| orders.first()) {
                let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
                *recorded = Some(order.clone());
            }
        }
    }

    async fn beat(&self, path: &str, report: &Value) -> Answer {
        let call = Call::post_json(path, report);
        self.call(self.token.iter().fold(call, |call, token| call.bearer(token)))
            .await
    }

    pub(crate) async fn register(&self) {
        let answer = self.beat("/v1/workers/register", &self.report()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub(crate) async fn call(&self, call: Call) -> Answer {
        http1::call(self.daemon.address(), &call).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.call(Call::get(path)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json().unwrap()
    }

    pub(crate) async fn post(&self, body: &Value) -> Answer {
        self.call(Call::post_json("/v1/tasks", body)).await
    }

    /// Submits a task that must be admitted; gives its id.
    pub(crate) async fn submit(&self, body: &Value) -> String {
        let answer = self.post(body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json::<Value>().unwrap()["task_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) async fn open(&self, task: &str, after: Option<&str>) -> SseReader {
        let call = Call::get(&format!("/v1/tasks/{task}/stream"));
        let call = after
            .iter()
            .fold(call, |call, id| call.header("Last-Event-ID", id));
        SseReader::open(self.daemon.address(), &call).await.unwrap()
    }

    /// Reads a whole stream and checks its grammar.
    pub(crate) async fn read(&self, task: &str) -> Summary {
        let events = self.open(task, None).await.all_events(LIMIT).await.unwrap();
        StreamCheck::whole(&events).unwrap_or_else(|violation| panic!("{violation}\n{}", self.daemon.logs()))
    }

    pub(crate) async fn status(&self, task: &str) -> Value {
        self.get(&format!("/v1/tasks/{task}")).await
    }

    /// Waits until a task's status satisfies a condition.
    pub(crate) async fn wait_status(&self, task: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let look = || async {
            let status = self.status(task).await;
            if holds(&status) {
                Look::Ready(status)
            } else {
                Look::NotYet(status)
            }
        };
        wait_for(what, LIMIT, look).await.unwrap()
    }

    /// Waits until a pool as `GET /v1/pools/{id}` shows it satisfies a condition.
    pub(crate) async fn wait_pool(&self, pool: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let look = || async {
            let shown = self.get(&format!("/v1/pools/{pool}")).await;
            if holds(&shown) {
                Look::Ready(shown)
            } else {
                Look::NotYet(shown)
            }
        };
        wait_for(what, LIMIT, look).await.unwrap()
    }

    /// Waits until the daemon's log holds a text; gives the log. What a daemon writes is read a moment later.
    pub(crate) async fn wait_logged(&self, text: &str) -> String {
        let look = || async {
            let logs = self.daemon.logs();
            match logs.contains(text) {
                true => Look::Ready(logs),
                false => Look::NotYet(logs),
            }
        };
        wait_for(text, LIMIT, look).await.unwrap()
    }

    /// Waits until nothing holds a slot.
    pub(crate) async fn wait_idle(&self) {
        for pool in &self.pools {
            self.wait_pool(pool.id, "all slots to be free", |shown| {
                shown["slots_free"] == shown["slots_total"]
            })
            .await;
        }
    }
}

/// Adds the patience to a configuration that says nothing about nodes.
fn patiently(config: &str) -> String {
    let own = config.contains("[orchestratord.nodes]");
    if own {
        config.to_owned()
    } else {
        format!("{PATIENT}{config}")
    }
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

pub(crate) fn write_config(folder: &TempDir, text: &str) -> PathBuf {
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    file
}

pub(crate) fn node_report(node: &str, seq: u64, pools: Vec<Value>) -> Value {
    json!({
        "node_id": node,
        "instance": "01900000-0000-7000-8000-000000000001",
        "seq": seq,
        "address": "http://127.0.0.1:9",
        "version": "0.0.0-test",
        "gpus": [],
        "pools": pools,
    })
}

pub(crate) fn pool_report(id: &str, endpoint: &str, slots: usize) -> Value {
    json!({
        "pool_id": id, "engine": "llamacpp", "model_id": "tiny", "model_ref": "file:/models/tiny.gguf",
        "ctx_max": 2048, "device_mask": [format!("GPU-{id}")], "supported_workloads": ["completion"],
        "deterministic": true, "generation": 1, "draining": false,
        "replicas": [{
            "replica_id": "r0", "state": "ready", "generation": 1, "endpoint": endpoint,
            "slots_total": slots, "ctx_per_slot": 2048, "engine_version": "b1-test", "restarts": 0
        }]
    })
}

/// A completion request.
pub(crate) fn task(max_tokens: u32) -> Value {
    json!({"model_ref": "tiny", "prompt": "the moon over the river", "max_tokens": max_tokens, "seed": 7})
}

/// The same with more fields.
pub(crate) fn task_with(max_tokens: u32, more: Value) -> Value {
    let mut body = task(max_tokens);
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

/// Slow enough that a test can act while a task runs.
pub(crate) fn paced() -> Script {
    Script::default().paced(1, 5_000).tokens(2000)
}

/// As fast as the engine can, and as long as asked for.
pub(crate) fn fast() -> Script {
    Script::default().tokens(2000)
}
