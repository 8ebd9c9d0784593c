//! ORCH-3436: killed at any step, a pull has put nothing wrong into the catalog, and the next run finishes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use model_provisioner::{Notice, Reporter};
use test_harness_support::file_server::Fault;
use test_harness_support::wait::{Look, wait_for};
use tokio_util::sync::CancellationToken;

use crate::fixtures::{Hub, is_whole, model, plan, provisioner, settings};

const HUB: &str = "PROVISIONER_HUB";
const FOLDER: &str = "PROVISIONER_FOLDER";
const REFERENCE: &str = "hf:org/repo/m.gguf";

#[expect(
    clippy::disallowed_methods,
    reason = "how the process that is killed is told that it is one"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Says every step on a line of its own.
struct Speaker;

impl Reporter for Speaker {
    fn notice(&self, notice: Notice) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nstep {notice:?}").unwrap();
        out.flush().unwrap();
    }
}

/// The process that is killed.
#[tokio::test]
async fn puller() {
    let (Some(hub), Some(folder)) = (variable(HUB), variable(FOLDER)) else {
        return;
    };
    let unused = tempfile::tempdir().unwrap();
    let mut settings = settings(&unused, std::slice::from_ref(&hub));
    settings.cache_root = folder.into();
    settings.hub.endpoint = Some(hub.parse().unwrap());
    let with = provisioner(settings);
    let plan = plan(&with, REFERENCE).await.unwrap();
    with.execute(&plan, Arc::new(Speaker), &CancellationToken::new())
        .await
        .unwrap();
    println!("\nstep done");
}

fn start(hub: &Hub) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::puller", "--nocapture"])
        .env(HUB, hub.server.url(""))
        .env(FOLDER, hub.folder.path().join("cache"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A hub that gives its file slowly, so that there is time to kill between two parts.
async fn slow_hub(content: &[u8]) -> Hub {
    let hub = Hub::new(&[("m.gguf", content.to_vec())]).await;
    let pause = Duration::from_millis(1);
    hub.server
        .always(&Hub::path("m.gguf"), Fault::Slow(4 << 10, pause));
    hub
}

async fn kill(mut puller: Child) {
    tokio::task::spawn_blocking(move || {
        puller.kill().unwrap();
        puller.wait().unwrap();
    })
    .await
    .unwrap();
}

/// What is in the catalog is right, and the next run finishes.
async fn is_sound(hub: &Hub) {
    let with = hub.provisioner();
    if let Some(entry) = with.catalog().model(&"m".parse().unwrap()).unwrap() {
        is_whole(&with, &entry);
    }
    hub.server.mend();
    let entry = hub.pull(REFERENCE).await.unwrap();
    is_whole(&with, &entry);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_any_part_comes_nothing_wrong_is_active_and_the_next_run_finishes() {
    let content = model(1);
    let parts = content.len().div_ceil(16 << 10);
    for requests in 0..=parts + 1 {
        let hub = slow_hub(&content).await;
        let mut puller = start(&hub);
        wait_for("the requests before the kill", Duration::from_secs(60), || {
            let (seen, ended) = (hub.server.seen().len(), puller.try_wait().unwrap());
            async move {
                if seen >= requests || ended.is_some() {
                    Look::Ready(())
                } else {
                    Look::NotYet(seen)
                }
            }
        })
        .await
        .unwrap();
        kill(puller).await;
        is_sound(&hub).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_any_step_nothing_wrong_is_active_and_the_next_run_finishes() {
    let content = model(2);
    // Each step is told before the next one begins: verified, published, registered, done; and what comes before.
    for steps in ["Progress", "Verified", "Published", "Registered", "done"] {
        let hub = slow_hub(&content).await;
        let mut puller = start(&hub);
        let stdout = BufReader::new(puller.stdout.take().unwrap());
        let told = move || {
            stdout
                .lines()
                .map(Result::unwrap)
                .any(|line| line.contains(steps))
        };
        let told = tokio::task::spawn_blocking(told).await.unwrap();
        assert!(told, "{steps}");
        kill(puller).await;
        is_sound(&hub).await;
    }
}
