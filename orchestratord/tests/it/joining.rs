//! The way of a new GPU box into a running installation: from one command to its first task.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use test_harness_support::binaries::bin_path;
use test_harness_support::daemon::{Command, Daemon};
use test_harness_support::fake_nvml::{FILE_VARIABLE, FakeNvml, library_path, reference_driver};
use test_harness_support::gguf::TinyModel;
use test_harness_support::http1::{self, Call};
use test_harness_support::network::{Place, another_place};
use test_harness_support::processes::EnginesBelow;
use test_harness_support::sse::SseReader;
use test_harness_support::stream_check::StreamCheck;
use test_harness_support::system::{MODEL, System};

use crate::boxes::{Setting, TOKEN, orchestrator, url_for};
use crate::fixture::{LIMIT, node_report, pool_report};

/// Runs the command on the new box.
async fn join(place: Place, system: &System, folder: &Path) -> std::path::PathBuf {
    let (token, out) = (folder.join("token"), folder.join("config.toml"));
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let joining = Command::of_workspace("llama-orch")
        .unwrap()
        .args(["node", "join", "--node-id", "new-box"])
        .args(["--addr", &url_for(place, system)])
        .args(["--listen", &SocketAddr::new(place.ip, 0).to_string()])
        .arg("--auth-token-file")
        .arg(&token)
        .arg("--out")
        .arg(&out)
        .spawn()
        .unwrap();
    let status = joining.wait(LIMIT).await.unwrap();
    assert!(status.success(), "{}", joining.logs());
    out
}

/// What the fake driver answers from; the engine writes there what it holds.
fn gpus_file(folder: &Path) -> std::path::PathBuf {
    folder.join("gpus.json")
}

/// What a person adds.
fn add_pool(config: &Path, folder: &Path) {
    let (model, gpu) = (folder.join("tiny.gguf"), &reference_driver().gpus[0].uuid);
    TinyModel::default().write(&model).unwrap();
    let pool = format!(
        "\n[[pool_managerd.pools]]\nid = \"new\"\nengine = \"llamacpp\"\nmodel = \"file:{}\"\nmodel_id = {MODEL:?}\n\
         devices = [{gpu:?}]\nbinary = {:?}\nhealth_interval_ms = 200\n\
         env = {{ {FILE_VARIABLE} = {:?} }}\n",
        model.display(),
        bin_path("scripted-engine").unwrap(),
        gpus_file(folder),
    );
    let text = fs::read_to_string(config).unwrap();
    fs::write(config, text + &pool).unwrap();
}

async fn start(place: Place, config: &Path, folder: &Path, gpus: &FakeNvml) -> Daemon {
    let (name, file) = gpus.env();
    let command = Command::of_workspace("pool-managerd")
        .unwrap()
        .arg("--config")
        .arg(config)
        .env("POOL_MANAGERD_NVML_LIBRARY", library_path().unwrap())
        .env("POOL_MANAGERD_STATE_DIR", folder.join("state"))
        .env(name, file);
    let command = if place.beyond_loopback {
        command
    } else {
        command.env("POOL_MANAGERD_RELAY", "always")
    };
    command.start().await.unwrap()
}

/// REQ-NODE-JOIN, REQ-RELAY-REACH.
#[tokio::test]
async fn a_box_joins_with_one_command() {
    let system = orchestrator(&Setting::default()).await;
    let (place, folder) = (another_place(), tempfile::tempdir().unwrap());
    let config = join(place, &system, folder.path()).await;
    add_pool(&config, folder.path());
    let gpus = FakeNvml::reference_box(gpus_file(folder.path())).unwrap();
    let _engines = EnginesBelow(folder.path().to_owned());
    let node = start(place, &config, folder.path(), &gpus).await;
    let ready = |pools: &[Value]| {
        let mut pools = pools.iter();
        pools.any(|pool| pool["pool_id"] == "new" && pool["health"]["ready"] == true)
    };
    let waited = system.wait_pools("the new box's pool to be ready", ready).await;
    waited.unwrap_or_else(|error| panic!("{error}\n{}", node.logs()));
    let pinned = json!({
        "model_ref": MODEL, "prompt": "hello", "max_tokens": 5,
        "placement": {"mode": "pin", "pin_pool_id": "new"}
    });
    let answer = system.call(Call::post_json("/v1/tasks", &pinned)).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let receipt: Value = answer.json().unwrap();
    let call = system.authorized(Call::get(receipt["stream_url"].as_str().unwrap()));
    let mut stream = SseReader::open(system.address(), &call).await.unwrap();
    let events = stream.all_events(LIMIT).await.unwrap();
    let stream = StreamCheck::whole(&events).unwrap();
    assert_eq!((stream.outcome(), stream.tokens.len()), (Some("length"), 5));
    assert!(!node.logs().contains(TOKEN), "the token is in the log");
}

/// REQ-RELAY-WAY-BACK: a report from another host cannot send the orchestrator to a port of its own.
#[tokio::test]
async fn loopback_of_another_host_is_refused() {
    let place = another_place();
    if !place.beyond_loopback {
        // Then no caller of this machine is on another host; `node_check` has the rule's own test.
        return;
    }
    let system = orchestrator(&Setting::default()).await;
    let far = SocketAddr::new(place.ip, system.address().port());
    let near = SocketAddr::new([127, 0, 0, 1].into(), far.port());
    let report = node_report("guest", 0, vec![pool_report("guest", "http://127.0.0.1:9", 1)]);
    let register = |at: SocketAddr| {
        let call = Call::post_json("/v1/workers/register", &report).bearer(TOKEN);
        async move { http1::call(at, &call).await.unwrap() }
    };
    let refused = register(far).await;
    let body: Value = refused.json().unwrap();
    assert_eq!(
        (refused.status, &body["code"]),
        (400, &json!("INVALID_PARAMS")),
        "{body}"
    );
    assert!(
        body["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("pool_managerd.relay")),
        "{body}"
    );
    assert_eq!(
        register(near).await.status,
        200,
        "the same from this host is fine"
    );
    let mut later = report.clone();
    later["seq"] = json!(1);
    let heartbeat = Call::post_json("/v1/workers/guest/heartbeat", &later).bearer(TOKEN);
    assert_eq!(http1::call(far, &heartbeat).await.unwrap().status, 400);
}
