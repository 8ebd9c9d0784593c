//! Engines in containers of the real Podman (REQ-POOL-CONTAINER): the same stories as of engines without.
//!
//! What a driver learns by a CUDA context it is told by the test here: that the engine's process, by its number on this
//! machine, holds memory on the GPU. The NVIDIA Container Toolkit is a program that tells its version.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use api_types::link::{ENGINE_START_HEADER, EngineStart, NodeReport};
use api_types::pool::{PoolReport, ReplicaReport, ReplicaState, UnreadyCause};
use container_runtime::Home;
use pool_managerd::procfs::{self, Stat};
use rustix::process::{Signal, kill_process};
use serde_json::json;
use test_harness_support::containers::{Podman, Registry, search_path};
use test_harness_support::fake_nvml::hold;
use test_harness_support::http1::{Call, call};
use test_harness_support::wait::{Look, wait_for};
use tokio::time::interval;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::rig::{LIMIT, Node, RIG_VARIABLE, Rig, SCRIPT_INSIDE, executable, is_gone, kill, pid};

/// What the engine's image is called on this machine.
const IMAGE: &str = "localhost/engine:1";

const TOKEN: &str = "a-token-for-this-test";

/// What the driver lists a program with.
const HELD_BYTES: u64 = 300 << 20;

/// Between two looks of the driver at what runs.
const DRIVER_INTERVAL: Duration = Duration::from_millis(20);

/// A rig whose engines run in containers. The engines go first, then what Podman keeps, then the folder.
struct Yard {
    rig: Rig,
    driver: Driver,
    podman: Podman,
}

/// Lists this rig's engines on their GPU, as a real driver would.
struct Driver {
    /// Whether it does.
    sees: Arc<AtomicBool>,
    _stop: DropGuard,
}

impl Driver {
    fn start(rig: &Rig) -> Self {
        let (stop, sees) = (CancellationToken::new(), Arc::new(AtomicBool::new(true)));
        let mark = format!("{RIG_VARIABLE}={}", rig.dir.path().display()).into_bytes();
        let (control, device) = (rig.dir.path().join("nvml.json"), rig.devices[0].clone());
        let (stopped, looks) = (stop.clone(), Arc::clone(&sees));
        TaskTracker::new().spawn(async move {
            let mut ticks = interval(DRIVER_INTERVAL);
            while !stopped.is_cancelled() {
                ticks.tick().await;
                if looks.load(Ordering::Relaxed) {
                    list(&control, &device, &mark);
                }
            }
        });
        Self {
            sees,
            _stop: stop.drop_guard(),
        }
    }
}

fn list(control: &Path, device: &str, mark: &Vec<u8>) {
    for pid in procfs::pids().filter(|pid| procfs::environment(*pid).contains(mark)) {
        // It may have ended since.
        let _listed_or_gone = hold(control, pid, BTreeMap::from([(device.to_owned(), HELD_BYTES)]));
    }
}

impl Yard {
    async fn new() -> Result<Self> {
        let mut rig = Rig::new().await?;
        let podman = Podman::new(rig.dir.path(), "")?;
        let device = podman.device.clone();
        rig.nvml
            .update(|driver| driver.gpus[0].uuid.clone_from(&device))?;
        rig.devices = vec![device];
        rig.keep_engines = true;
        let programs = rig.dir.path().join("bin");
        fs::create_dir(&programs)?;
        executable(
            &programs.join("nvidia-ctk"),
            "#!/bin/sh\necho NVIDIA Container Toolkit CLI version 1.18.0\n",
        )?;
        rig.variables = podman.environment().to_vec();
        let path = rig.variables.iter_mut().find(|(name, _)| name == "PATH");
        path.context("no PATH")?.1 = format!("{}:{}", programs.display(), search_path());
        let driver = Driver::start(&rig);
        Ok(Self { rig, driver, podman })
    }

    /// With an image that is here already.
    async fn with_image() -> Result<Self> {
        let mut yard = Self::new().await?;
        yard.podman.make_image(IMAGE, "one")?;
        let digest = yard.digest()?;
        yard.runs(&format!("localhost/engine@{digest}"));
        Ok(yard)
    }

    fn digest(&self) -> Result<String> {
        let digest = self
            .podman
            .client(&["image", "inspect", "--format", "{{.Digest}}", IMAGE])?;
        Ok(digest.trim().to_owned())
    }

    fn runs(&mut self, image: &str) {
        let script = self.rig.script_file();
        self.rig.container = Some(format!(
            "{{ image = \"{image}\", runtime = \"podman\", memory_mib = 512, tmp_mib = 8, pids = 128, \
             mounts = [{{ source = \"{}\", target = \"{SCRIPT_INSIDE}\" }}] }}",
            script.display()
        ));
    }

    /// A program in front of the real Podman.
    fn wrap_podman(&self, commands: &str) -> Result<()> {
        let text = format!(
            "#!/bin/sh\n{commands}\nPATH=\"{}\" exec podman \"$@\"\n",
            search_path()
        );
        executable(&self.rig.dir.path().join("bin/podman"), &text)
    }

    async fn until_containers(&self, what: &str, holds: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        let look = || async {
            match self.podman.containers() {
                Ok(ids) if holds(&ids) => Look::Ready(ids),
                other => Look::NotYet(format!("{other:?}")),
            }
        };
        Ok(wait_for(what, LIMIT, look).await?)
    }
}

async fn until_cause(node: &Node, cause: UnreadyCause) -> Result<PoolReport> {
    node.until(&format!("{cause:?}"), |pool| pool.cause == Some(cause))
        .await
}

fn hint(pool: &PoolReport) -> &str {
    pool.hint.as_deref().unwrap_or_default()
}

async fn until_gone(replica: &ReplicaReport) -> Result<()> {
    let pid = pid(replica)?;
    let look = || async {
        match is_gone(pid) {
            true => Look::Ready(()),
            false => Look::NotYet(pid),
        }
    };
    Ok(wait_for("the engine to be gone", LIMIT, look).await?)
}

/// The process that holds the container.
fn shim_of(dir: &Path) -> Result<u32> {
    let is_one = |pid: &u32| {
        let arguments = procfs::arguments(*pid);
        let of = arguments
            .get(2)
            .map(|of| String::from_utf8_lossy(of).into_owned());
        arguments.get(1).is_some_and(|first| first == b"engine-shim")
            && of.is_some_and(|of| Path::new(&of).starts_with(dir))
    };
    procfs::pids().find(is_one).context("no shim")
}

/// REQ-POOL-CONTAINER, ORCH-3430: ready only with the proof, by the engine's number on this machine; it serves directly and
/// through the relay; what it says is in the log, and its key nowhere.
#[tokio::test]
async fn an_engine_in_a_container_gets_ready_and_serves() -> Result<()> {
    let mut yard = Yard::with_image().await?;
    yard.rig.variables.push(("AUTH_TOKEN".into(), TOKEN.into()));
    yard.rig.node = "relay = \"always\"".into();
    // A tag is looked for at its registry once; there is none, and what is here will do.
    yard.runs(IMAGE);
    yard.rig.script(
        &json!({"stderr_lines": ["\u{1b}[31mhello from inside, Authorization: Bearer abcdef123456"]}),
    )?;
    let node = yard.rig.start().await?;
    let replica = node.until_ready(1).await?;
    let host_pid = replica.pid.context("no pid")?;
    let inside = procfs::pid_namespace(host_pid);
    assert!(inside.is_some() && inside != procfs::pid_namespace(std::process::id()));
    assert_eq!(replica.engine_version.as_deref(), Some("b0-scripted"));
    let pool = node
        .until("the image's digest", |pool| pool.engine_digest.is_some())
        .await?;
    assert_eq!(pool.engine_digest, Some(yard.digest()?));
    let held = node
        .until("its memory to be told", |pool| {
            pool.replicas[0].gpu_memory_bytes.is_some()
        })
        .await?;
    assert_eq!(held.replicas[0].gpu_memory_bytes, Some(HELD_BYTES));

    let report: NodeReport = serde_json::from_value(node.json("/v1/node").await?)?;
    let start = EngineStart {
        instance: report.instance,
        generation: 1,
    };
    let body = json!({"prompt": "the moon", "n_predict": 8, "seed": 7, "stream": true});
    let relayed = Call::post_json("/v1/relay/p/r0/completion", &body)
        .header(ENGINE_START_HEADER, &start.to_string())
        .bearer(TOKEN);
    let relayed = call(node.daemon.address(), &relayed).await?;
    assert_eq!(relayed.status, 200, "{}", relayed.text());
    assert!(relayed.text().contains("\"stop\":true"), "{}", relayed.text());

    let log = node.json("/v1/pools/p/logs?replica_id=r0").await?.to_string();
    assert!(log.contains("hello from inside"), "{log}");
    assert!(!log.contains("abcdef123456") && !log.contains("[31m"), "{log}");
    node.until_logged("a tag may name another image tomorrow").await?;
    let line = String::from_utf8_lossy(&procfs::arguments(host_pid).concat()).into_owned();
    assert!(
        line.contains("--host0.0.0.0") && !line.contains("--api-key"),
        "{line}"
    );
    Ok(())
}

/// REQ-POOL-CONTAINER: an engine that ends is started again after a pause, in a new container; nothing is left of the old.
#[tokio::test]
async fn a_crash_in_a_container_is_followed_by_a_new_one() -> Result<()> {
    let yard = Yard::with_image().await?;
    let node = yard.rig.start().await?;
    let first = node.until_ready(1).await?;
    let before = yard.podman.containers()?;
    kill(&first)?;
    let second = node.until_ready(2).await?;
    assert_ne!(second.pid, first.pid);
    assert_eq!(second.restarts, 1);
    let after = yard
        .until_containers("one container", |ids| ids.len() == 1)
        .await?;
    assert_ne!(after, before);
    let told = node.json("/v1/pools/p/logs?replica_id=r0&generation=1").await?;
    assert_eq!(told["exit"], "signal 9 (SIGKILL)", "{told}");

    // By hand, with the runtime's own words.
    yard.podman.client(&["rm", "--force", "-t", "0", &after[0]])?;
    node.until_ready(3).await?;
    Ok(())
}

/// REQ-POOL-CONTAINER: its own failure is told by its own words, however soon it comes.
#[tokio::test]
async fn a_container_that_ends_at_once_tells_why() -> Result<()> {
    let yard = Yard::with_image().await?;
    fs::write(yard.rig.model(), "no model")?;
    let node = yard.rig.start().await?;
    let pool = node
        .until("the model to be refused", |pool| {
            pool.cause == Some(UnreadyCause::BadModel) && pool.replicas[0].last_error.is_some()
        })
        .await?;
    let last = pool.replicas[0].last_error.clone().unwrap_or_default();
    assert!(last.contains("exiting due to model loading error"), "{last}");
    node.until_state(ReplicaState::Failed).await?;
    yard.until_containers("none to be left", <[String]>::is_empty)
        .await?;
    Ok(())
}

/// REQ-POOL-CONTAINER, ORCH-3429: the same container goes on, whatever becomes of the daemon.
#[tokio::test]
async fn a_container_outlives_a_killed_daemon_and_is_taken_over() -> Result<()> {
    let yard = Yard::with_image().await?;
    let node = yard.rig.start().await?;
    let before = node.until_ready(1).await?;
    let containers = yard.podman.containers()?;
    node.crash().await?;
    assert!(!is_gone(pid(&before)?));

    let node = yard.rig.start().await?;
    let after = node.until_ready(1).await?;
    assert_eq!(
        (after.pid, &after.endpoint, after.restarts),
        (before.pid, &before.endpoint, 0)
    );
    assert_eq!(yard.podman.containers()?, containers);
    node.until_logged("is taken over").await?;
    // It is watched like any other.
    kill(&after)?;
    node.until_ready(2).await?;
    Ok(())
}

/// REQ-POOL-CONTAINER, ORCH-3429: what nobody will take over is gone before anything new is started.
#[tokio::test]
async fn a_container_of_another_configuration_is_swept() -> Result<()> {
    let mut yard = Yard::with_image().await?;
    let node = yard.rig.start().await?;
    let before = node.until_ready(1).await?;
    let containers = yard.podman.containers()?;
    node.crash().await?;
    yard.rig.pool = "args = [\"--threads-http\", \"3\"]".into();
    let node = yard.rig.start().await?;
    node.until_ready(2).await?;
    assert!(is_gone(pid(&before)?));
    let after = yard
        .until_containers("one container", |ids| ids.len() == 1)
        .await?;
    assert_ne!(after, containers);
    // One that only its labels tell of.
    let state = yard.rig.dir.path().canonicalize()?.join("state/engines");
    let create = |home: Home| {
        let labels = [
            &format!("orch.home={home}"),
            "orch.node=node-1",
            "orch.pool=gone",
            "orch.replica=r0",
            "orch.generation=9",
        ];
        let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
        yard.podman.client(&[&["create"], &labels[..], &[IMAGE]].concat())
    };
    create(Home::of(&state))?;
    // Another manager's, which is called alike.
    let foreign = create(Home::of(Path::new("/another/state")))?;
    node.crash().await?;
    let node = yard.rig.start().await?;
    node.until_logged("A container of an earlier engine is removed")
        .await?;
    let left = yard
        .until_containers("two containers", |ids| ids.len() == 2)
        .await?;
    assert!(
        left.contains(&after[0]) && left.contains(&foreign.trim().to_owned()),
        "{left:?}"
    );
    node.until_ready(2).await?;
    Ok(())
}

/// REQ-POOL-CONTAINER, ORCH-3429: a service manager that ends the whole unit kills the shims too; containers go on, and the
/// next run holds them again.
#[tokio::test]
async fn a_container_that_lost_daemon_and_shim_is_held_again() -> Result<()> {
    let yard = Yard::with_image().await?;
    yard.rig.script(&json!({"stderr_lines": ["its first words"]}))?;
    let node = yard.rig.start().await?;
    let before = node.until_ready(1).await?;
    // What the runtime has not handed on yet is lost with the shim that reads it.
    wait_for("its first words", LIMIT, || async {
        match node.json("/v1/pools/p/logs?replica_id=r0").await {
            Ok(log) if log.to_string().contains("its first words") => Look::Ready(()),
            other => Look::NotYet(format!("{other:?}")),
        }
    })
    .await?;
    let shim = procfs::raw(shim_of(yard.rig.dir.path())?).context("pid 0")?;
    node.crash().await?;
    kill_process(shim, Signal::KILL)?;
    assert!(!is_gone(pid(&before)?));

    let node = yard.rig.start().await?;
    let after = node.until_ready(1).await?;
    assert_eq!((after.pid, &after.endpoint), (before.pid, &before.endpoint));
    let log = node.json("/v1/pools/p/logs?replica_id=r0").await?.to_string();
    assert!(log.contains("its first words"), "{log}");
    // Held as before: its end is told, and nothing is left.
    kill(&after)?;
    node.until_ready(2).await?;
    let told = node.json("/v1/pools/p/logs?replica_id=r0&generation=1").await?;
    assert_eq!(told["exit"], "signal 9 (SIGKILL)", "{told}");
    yard.until_containers("one container", |ids| ids.len() == 1)
        .await?;
    Ok(())
}

/// ORCH-3429: a container that nobody takes over does not hold its GPU for ever.
#[tokio::test]
async fn a_container_without_a_daemon_ends_itself_in_time() -> Result<()> {
    let mut yard = Yard::with_image().await?;
    yard.rig.node = "adopt_within_ms = 1000".into();
    let node = yard.rig.start().await?;
    let replica = node.until_ready(1).await?;
    node.crash().await?;
    until_gone(&replica).await?;
    yard.until_containers("none to be left", <[String]>::is_empty)
        .await?;
    Ok(())
}

/// REQ-POOL-CONTAINER: memory that runs out inside is told from a signal by hand.
#[tokio::test]
async fn a_container_that_memory_ends_says_so() -> Result<()> {
    let mut yard = Yard::with_image().await?;
    let container = yard.rig.container.take().context("no container")?;
    yard.rig.container = Some(container.replace("memory_mib = 512", "memory_mib = 64"));
    // Longer than the test looks for the cause.
    yard.rig.pause_ms = 60_000;
    let node = yard.rig.start().await?;
    let replica = node.until_ready(1).await?;
    let told = node
        .until_told("its key", |report| {
            report
                .pools
                .first()
                .is_some_and(|pool| pool.replicas[0].endpoint_key.is_some())
        })
        .await?;
    let key = told.pools[0].replicas[0].endpoint_key.clone().context("no key")?;
    let endpoint = replica.endpoint.context("no endpoint")?;
    let address: SocketAddr = endpoint.trim_start_matches("http://").parse()?;
    let large = Call::post("/tokenize").bearer(&key).body(vec![b'x'; 160 << 20]);
    assert!(call(address, &large).await.is_err());
    until_cause(&node, UnreadyCause::HostOom).await?;
    Ok(())
}

/// REQ-POOL-CONTAINER: without the process that holds it a container is not trusted: it ends, and a new one comes.
#[tokio::test]
async fn a_container_whose_shim_is_killed_is_replaced() -> Result<()> {
    let yard = Yard::with_image().await?;
    let node = yard.rig.start().await?;
    let first = node.until_ready(1).await?;
    let shim = procfs::raw(shim_of(yard.rig.dir.path())?).context("pid 0")?;
    kill_process(shim, Signal::KILL)?;
    node.until_ready(2).await?;
    until_gone(&first).await?;
    yard.until_containers("one container", |ids| ids.len() == 1)
        .await?;
    Ok(())
}

/// ORCH-3430: health passes, but the driver lists nothing.
#[tokio::test]
async fn a_container_that_is_not_on_its_gpu_is_ended() -> Result<()> {
    let yard = Yard::with_image().await?;
    yard.driver.sees.store(false, Ordering::Relaxed);
    let node = yard.rig.start().await?;
    let pool = until_cause(&node, UnreadyCause::EngineNotOnGpu).await?;
    assert!(
        hint(&pool).contains("no process of the engine holds memory"),
        "{}",
        hint(&pool)
    );
    yard.driver.sees.store(true, Ordering::Relaxed);
    node.until("a later start to be ready", PoolReport::is_ready)
        .await?;
    Ok(())
}

/// REQ-POOL-CONTAINER: an image by digest is fetched, which is shown while it takes, and a digest that the registry does
/// not have is a cause of its own.
#[tokio::test]
async fn an_image_is_fetched_by_its_digest() -> Result<()> {
    let mut yard = Yard::new().await?;
    let registry = Registry::start().await?;
    let name = registry.image("engine:1");
    yard.podman.make_image(&name, "one")?;
    yard.podman.client(&["push", &name])?;
    yard.podman.client(&["image", "rm", "--force", &name])?;
    let digest = registry.digest("engine", "1").await?;
    let image = registry.image("engine");

    let gate = yard.rig.dir.path().join("go");
    yard.wrap_podman(&format!(
        "case \"$*\" in *pull*) while [ ! -e {} ]; do sleep 0.02; done;; esac",
        gate.display()
    ))?;
    yard.runs(&format!("{image}@{digest}"));
    let node = yard.rig.start().await?;
    let pool = until_cause(&node, UnreadyCause::EnginePulling).await?;
    assert_eq!(hint(&pool), format!("pulling image {image}@{digest}"));
    assert_eq!(pool.replicas[0].state, ReplicaState::Preflight);
    fs::write(&gate, "")?;
    node.until_ready(1).await?;
    let told = node
        .until("the digest", |pool| pool.engine_digest.is_some())
        .await?;
    assert_eq!(told.engine_digest, Some(digest));
    node.crash().await?;

    let wrong = format!("{image}@sha256:{}", "0".repeat(64));
    yard.runs(&wrong);
    let node = yard.rig.start().await?;
    let pool = until_cause(&node, UnreadyCause::EngineMissing).await?;
    assert!(
        hint(&pool).contains("check the image's name and digest"),
        "{}",
        hint(&pool)
    );
    Ok(())
}

/// REQ-POOL-CONTAINER: what a container needs of this machine is checked before, each with its cure; it starts by itself
/// when that is there.
/// REQ-FAULT-RUNTIME.
#[tokio::test]
async fn what_is_missing_for_containers_is_told_before_a_start() -> Result<()> {
    let yard = Yard::with_image().await?;
    let tool = yard.rig.dir.path().join("bin/nvidia-ctk");
    let text = fs::read_to_string(&tool)?;
    fs::remove_file(&tool)?;
    let node = yard.rig.start().await?;
    let pool = until_cause(&node, UnreadyCause::ContainerRuntimeUnavailable).await?;
    assert!(
        hint(&pool).contains("install nvidia-container-toolkit"),
        "{}",
        hint(&pool)
    );
    assert_eq!(pool.replicas[0].generation, 0, "nothing is started");
    yard.wrap_podman("exit 125")?;
    let broken = node
        .until("podman to fail", |pool| hint(pool).contains("podman info failed"))
        .await?;
    assert_eq!(broken.cause, Some(UnreadyCause::ContainerRuntimeUnavailable));
    fs::remove_file(yard.rig.dir.path().join("bin/podman"))?;
    executable(&tool, &text)?;
    node.until_ready(1).await?;
    Ok(())
}

/// REQ-POOL-CONTAINER: with `keep_engines = false` a container ends with the daemon, politely, and nothing is left.
#[tokio::test]
async fn a_daemon_that_shall_not_keep_them_ends_its_containers() -> Result<()> {
    let mut yard = Yard::with_image().await?;
    yard.rig.keep_engines = false;
    let node = yard.rig.start().await?;
    let replica = node.until_ready(1).await?;
    assert!(Stat::of(replica.pid.context("no pid")?).is_some());
    ensure!(node.stop().await?.success(), "{}", node.daemon.logs());
    assert!(is_gone(pid(&replica)?));
    assert_eq!(yard.podman.containers()?, Vec::<String>::new());
    Ok(())
}
