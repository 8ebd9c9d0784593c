//! The scripted engine as a program, as a supervisor sees it: command line, log, signals, exit codes,
//! remote control.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use test_harness_support::daemon::{Command, Process, Signal};
use test_harness_support::gguf::TinyModel;
use test_harness_support::http1::{Call, call};
use test_harness_support::scripted_engine::{EngineControl, SCRIPT_VARIABLE};
use test_harness_support::sse::SseReader;
use test_harness_support::wait::{Look, wait_for};

const SOON: Duration = Duration::from_secs(10);

fn engine() -> Command {
    Command::new(env!("CARGO_BIN_EXE_scripted-engine"))
}

/// The address in the log line that supervisors look for.
async fn listening(process: &Process) -> std::net::SocketAddr {
    wait_for("the listening line", SOON, || async {
        let log = process.stderr();
        let address = log
            .lines()
            .find_map(|line| line.split_once("listening on http://")?.1.parse().ok());
        address.map_or_else(|| Look::NotYet(log.clone()), Look::Ready)
    })
    .await
    .unwrap()
}

async fn ended(command: Command) -> (Option<i32>, String) {
    let process = command.spawn().unwrap();
    let status = process.wait(SOON).await.unwrap();
    (status.code(), process.logs())
}

fn model(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("tiny.gguf");
    let sizes = TinyModel {
        layers: 1,
        embedding: 16,
        feed_forward: 16,
        heads: 2,
        ..TinyModel::default()
    };
    sizes.write(&path).unwrap();
    path
}

#[tokio::test]
async fn it_starts_like_the_real_one_and_ends_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path());
    let process = engine()
        .arg("-m")
        .arg(&path)
        .args(
            "-a tiny --host 127.0.0.1 --port 0 -c 1024 -np 2 --no-kv-unified -dev CUDA0 -ngl all".split(' '),
        )
        .args("--fit off -fa on -lv 4 --metrics --slots --no-ui --log-colors off --offline".split(' '))
        .spawn()
        .unwrap();
    let address = listening(&process).await;
    let log = process.stderr();
    for line in [
        "scripted engine: no inference",
        "offloaded 33/33 layers to GPU",
        "n_slots = 2, n_ctx_slot = 512",
    ] {
        assert!(log.contains(line), "{line} is not in\n{log}");
    }
    assert_eq!(call(address, &Call::get("/health")).await.unwrap().status, 200);
    process.signal(Signal::TERM).unwrap();
    assert_eq!(process.wait(SOON).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn it_refuses_what_the_real_one_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let junk = folder.path().join("junk.gguf");
    std::fs::write(&junk, "no model at all").unwrap();
    let refusals = [
        (
            engine().arg("--no-such-flag"),
            "error: invalid argument: --no-such-flag",
        ),
        (
            engine().args(["-m", "/nope.gguf", "--port", "0"]),
            "failed to open GGUF file '/nope.gguf'",
        ),
        (
            engine().arg("-m").arg(&junk).args(["--port", "0"]),
            "expected 'GGUF'",
        ),
        (engine().args(["-dev", "CUDA99"]), "invalid device: CUDA99"),
        (
            engine().args(["--port", "x"]),
            "error while handling argument \"--port\": stoi",
        ),
        (
            engine().args(["--script", "/nope.json"]),
            "cannot read the script /nope.json",
        ),
    ];
    for (command, message) in refusals {
        let (code, log) = ended(command).await;
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(message), "{message} is not in\n{log}");
    }
    assert_eq!(ended(engine().arg("--version")).await.0, Some(0));
}

#[tokio::test]
async fn a_taken_port_is_told_as_the_real_one_tells_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, log) = ended(engine().args(["--port", &port])).await;
    assert_eq!(code, Some(1));
    assert!(
        log.contains(&format!(
            "couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {port}"
        )),
        "{log}"
    );
}

#[tokio::test]
async fn a_start_fails_as_scripted() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.json");
    let failure = json!({"start_failure": {"exit_code": 7, "message": "CUDA error: out of memory"}});
    std::fs::write(&script, failure.to_string()).unwrap();
    let (code, log) = ended(engine().args(["--port", "0"]).env(SCRIPT_VARIABLE, &script)).await;
    assert_eq!(code, Some(7));
    assert!(log.contains("CUDA error: out of memory"), "{log}");
}

#[tokio::test]
async fn it_aborts_in_mid_stream_like_one_out_of_memory() {
    let process = engine().args(["--port", "0"]).spawn().unwrap();
    let address = listening(&process).await;
    let control = EngineControl::new(address);
    control
        .change_script(&json!({"fault": {"at_frame": 3, "kind": "abort"}}))
        .await
        .unwrap();
    let request = Call::post_json("/completion", &json!({"prompt": "x", "stream": true}));
    let mut reader = SseReader::open(address, &request).await.unwrap();
    for _ in 0..3 {
        assert!(reader.next_event(SOON).await.unwrap().is_some());
    }
    assert!(reader.next_event(SOON).await.is_err());
    assert_eq!(process.wait(SOON).await.unwrap().signal(), Some(6));
    assert!(
        process.stderr().contains("CUDA error: out of memory"),
        "{}",
        process.logs()
    );
}

#[tokio::test]
async fn it_is_controlled_from_another_process() {
    let process = engine()
        .args(["--port", "0", "--runtime", "multi"])
        .spawn()
        .unwrap();
    let address = listening(&process).await;
    let control = EngineControl::new(address);
    control.change_script(&json!({"tokens": 3})).await.unwrap();
    assert!(
        control
            .change_script(&json!({"tokenz": 3}))
            .await
            .unwrap_err()
            .to_string()
            .contains("tokenz")
    );
    let request = Call::post_json("/completion", &json!({"prompt": "x"}));
    assert_eq!(call(address, &request).await.unwrap().status, 200);
    let report = control.report().await.unwrap();
    assert_eq!((report.requests_total, report.tokens_written_total), (1, 4));
}

#[tokio::test]
async fn it_can_ignore_sigterm_and_flood_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.json");
    let knobs = json!({"ignore_sigterm": true, "stderr_flood": {"lines": 50_000, "line_bytes": 100}});
    std::fs::write(&script, knobs.to_string()).unwrap();
    let process = engine()
        .args(["--port", "0"])
        .arg("--script")
        .arg(&script)
        .spawn()
        .unwrap();
    wait_for("the flood", SOON, || async {
        let bytes = process.stderr().len();
        if bytes > 1_000_000 {
            Look::Ready(())
        } else {
            Look::NotYet(bytes)
        }
    })
    .await
    .unwrap();
    process.signal(Signal::TERM).unwrap();
    wait_for("the refusal to stop", SOON, || async {
        let log = process.stderr();
        if log.contains("told by the script not to") {
            Look::Ready(())
        } else {
            Look::NotYet(log.len())
        }
    })
    .await
    .unwrap();
    assert_eq!(process.exit_status(), None);
}
