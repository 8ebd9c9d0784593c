//! What both real runtimes must do, told once; and what only one of them has.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use container_runtime::{
    Backend, CDI_DIRS, Cause, CgroupLayout, CgroupVersion, DeviceMask, Digest, Ending, Error, Exit, ImageRef,
    Limits, LocalImage, Logs, Needs, Severity, Since, State, check,
};
use test_harness_support::http1::{Call, call};
use tokio::io::AsyncReadExt;

use crate::real::{Flavour, KEY, Real, Registry, USER, free_port, owner};

/// A test per flavour for each scenario.
macro_rules! for_all {
    ($($flavour:ident $module:ident { $($(#[$doc:meta])* $scenario:ident),* $(,)? })*) => {
        $(mod $module {
            $($(#[$doc])* #[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario(crate::real::Flavour::$flavour).await;
            })*
        })*
    };
}

for_all! {
    Podman podman {
        /// REQ-CONTAINER-DIGEST.
        images_are_what_their_digests_say,
        /// REQ-CONTAINER-SANDBOX, REQ-CONTAINER-MASK, REQ-CONTAINER-SECRETS, REQ-CONTAINER-STOP, REQ-CONTAINER-INSPECT.
        an_engine_serves_in_its_sandbox,
        /// REQ-CONTAINER-INSPECT, REQ-CONTAINER-STOP, REQ-CONTAINER-FAULTS.
        every_ending_is_told_from_the_others,
        /// REQ-CONTAINER-LOGS.
        logs_are_followed_to_the_end,
        /// REQ-CONTAINER-SWEEP.
        a_sweep_removes_what_nobody_keeps,
    }
    Rootless rootless {
        /// REQ-CONTAINER-SANDBOX, REQ-CONTAINER-MASK, REQ-CONTAINER-SECRETS, REQ-CONTAINER-DETECT.
        an_engine_serves_in_its_sandbox,
        /// REQ-CONTAINER-SWEEP.
        a_sweep_removes_what_nobody_keeps,
    }
    Docker docker {
        /// REQ-CONTAINER-DIGEST.
        images_are_what_their_digests_say,
        /// REQ-CONTAINER-SANDBOX, REQ-CONTAINER-MASK, REQ-CONTAINER-SECRETS, REQ-CONTAINER-STOP, REQ-CONTAINER-INSPECT.
        an_engine_serves_in_its_sandbox,
        /// REQ-CONTAINER-INSPECT, REQ-CONTAINER-STOP, REQ-CONTAINER-FAULTS.
        every_ending_is_told_from_the_others,
        /// REQ-CONTAINER-LOGS.
        logs_are_followed_to_the_end,
        /// REQ-CONTAINER-SWEEP.
        a_sweep_removes_what_nobody_keeps,
    }
}

async fn images_are_what_their_digests_say(flavour: Flavour) {
    let real = Real::start(flavour).await;
    let registry = Registry::start().await.unwrap();
    let runtime = &real.runtime;
    real.push(&registry, "engine:1", "one");
    let tagged = ImageRef::parse(&registry.image("engine:1")).unwrap();
    let one = runtime.pull(&tagged).await.unwrap();
    let digest = one.digest.clone().unwrap();
    let warning = one.warning.as_ref().unwrap().to_string();
    assert!(warning.contains(&tagged.pinned(&digest)), "{warning}");
    let pinned = ImageRef::parse(&tagged.pinned(&digest)).unwrap();

    // The tag moves; the digest does not.
    real.push(&registry, "engine:1", "two");
    let two = runtime.ensure_image(&tagged).await.unwrap();
    assert!(two.id != one.id && two.digest != one.digest, "{two:?}");
    let again = runtime.pull(&pinned).await.unwrap();
    assert_eq!((&again.id, &again.warning), (&one.id, &None));

    // A digest that the registry does not have.
    let wrong = format!("{}@sha256:{}", registry.image("engine"), "0".repeat(64));
    let error = runtime.pull(&ImageRef::parse(&wrong).unwrap()).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::ImageUnknown), "{error}");

    // A registry that serves something else under the digest, which the runtime has not seen before.
    let other = ImageRef::parse(&registry.image("other:1")).unwrap();
    real.push(&registry, "other:1", "three");
    let digest = registry.digest("other", "1").await.unwrap();
    let blob = registry.blob(&digest);
    let mut manifest = fs::read(&blob).unwrap();
    manifest.push(b' ');
    fs::write(&blob, manifest).unwrap();
    let error = runtime
        .pull(&ImageRef::parse(&other.pinned(&Digest::parse(&digest).unwrap())).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.cause(), Some(Cause::DigestMismatch), "{error}");

    // Without a registry: what is pinned and here can be used, the rest is an error that passes.
    drop(registry);
    assert_eq!(runtime.ensure_image(&pinned).await.unwrap().id, one.id);
    let error = runtime.ensure_image(&tagged).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.cause(), Some(Cause::RegistryUnreachable), "{error}");
}

async fn an_engine_serves_in_its_sandbox(flavour: Flavour) {
    let real = Real::start(flavour).await;
    let port = free_port();
    let owner = owner("box", 1);
    let spec = real.engine(real.image().await, owner.clone(), port);
    let id = real.serve(&spec, port).await;
    let container = real.inspect(&id).await;
    assert_eq!(
        (&container.name, &container.owner),
        (&owner.container_name(), &Some(owner))
    );
    let State::Running { pid } = container.state else {
        panic!("{container:?}")
    };
    its_key_reached_it_unseen(&real, pid, port).await;
    it_sees_its_gpu_and_no_more(&real, &container.id.to_string(), pid);
    it_has_no_rights(&real, pid);
    it_is_limited(&real, pid);
    only_the_loopback_reaches(port);

    // A second one of the same owner is refused, and the first stays.
    let error = real.runtime.run(&spec).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::NameTaken), "{error}");
    assert!(matches!(real.inspect(&id).await.state, State::Running { .. }));

    let (waited, stopped) = tokio::join!(
        real.runtime.wait(&id),
        real.runtime.stop(&id, Duration::from_secs(20))
    );
    let well = Ending {
        code: 0,
        oom_killed: false,
    };
    assert_eq!(waited.unwrap(), Some(well));
    assert_eq!(stopped.unwrap(), Some(State::Ended(well)));
    real.runtime.remove(&id).await.unwrap();
    assert_eq!(real.runtime.inspect(&id).await.unwrap(), None);
    assert!(
        TcpListener::bind(("127.0.0.1", port)).is_ok(),
        "the port is free again"
    );
}

/// The engine enforces the key that it got as a variable; no command line and no record of one has it.
async fn its_key_reached_it_unseen(real: &Real, pid: u32, port: u16) {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let without = call(address, &Call::get("/v1/models")).await.unwrap();
    assert_eq!(without.head.status, 401);
    let with = call(address, &Call::get("/v1/models").bearer(KEY)).await.unwrap();
    assert_eq!(with.head.status, 200);
    assert!(
        proc(pid, "environ").contains(KEY),
        "the control of the search below"
    );
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&line).contains(KEY),
            "{}",
            entry.path().display()
        );
    }
    if real.runtime.facts().backend == Backend::Podman {
        let recorded = real.client(&["ps", "--all", "--quiet"]);
        let recorded = real.client(&[
            "inspect",
            "--format",
            "{{.Config.CreateCommand}}",
            recorded.trim(),
        ]);
        assert!(
            recorded.contains("--env-file /dev/stdin") && !recorded.contains(KEY),
            "{recorded}"
        );
    }
}

fn it_sees_its_gpu_and_no_more(real: &Real, id: &str, pid: u32) {
    match real.runtime.facts().backend {
        Backend::Podman => {
            let environ = proc(pid, "environ");
            assert!(
                environ.contains(&format!("GPU_OF_A_TEST={}", real.device)),
                "{environ}"
            );
            assert!(environ.contains("NVIDIA_VISIBLE_DEVICES=void"), "{environ}");
            assert!(
                PathBuf::from(format!("/proc/{pid}/root"))
                    .join("dev/kmsg")
                    .exists()
            );
        }
        Backend::Docker => {
            let requests = real.client(&["inspect", "--format", "{{json .HostConfig.DeviceRequests}}", id]);
            assert!(
                requests.contains(&format!("\"DeviceIDs\":[\"{}\"]", real.device)),
                "{requests}"
            );
            assert!(requests.contains("\"Count\":0"), "{requests}");
        }
    }
}

fn it_has_no_rights(real: &Real, pid: u32) {
    let status = proc(pid, "status");
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.trim_start_matches(':').trim().to_owned()
    };
    for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    let rootless = real.runtime.facts().rootless;
    assert_eq!(rootless, real.flavour == Flavour::Rootless);
    let user = if rootless { USER } else { 0 };
    assert_eq!(field("Uid"), [user.to_string().as_str(); 4].join("\t"));
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    let mounts = proc(pid, "mountinfo");
    let options = |point: &str| {
        let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some(point));
        line.and_then(|line| line.split(' ').nth(5))
            .unwrap_or_default()
            .to_owned()
    };
    for point in ["/", "/models/tiny.gguf"] {
        assert!(options(point).starts_with("ro"), "{point}: {mounts}");
    }
    let tmp = options("/tmp");
    assert!(tmp.contains("nosuid") && tmp.contains("nodev"), "{tmp}");
    let tmp = mounts
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/tmp"))
        .unwrap();
    assert!(tmp.contains("size=8192k"), "{tmp}");
    let writable: Vec<&str> = mounts
        .lines()
        .filter(|line| {
            line.split(' ')
                .nth(5)
                .is_some_and(|options| options.starts_with("rw"))
        })
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| {
            !["/proc", "/dev", "/tmp", "/sys"]
                .iter()
                .any(|own| point.starts_with(own))
        })
        .collect();
    for point in writable {
        // Three small files that the runtimes make for each container, and a mark that it is one.
        let own = [
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
            "/run/.containerenv",
            "/run/secrets",
        ];
        assert!(own.contains(&point), "{point} can be written: {mounts}");
    }
}

fn it_is_limited(real: &Real, pid: u32) {
    let limits = proc(pid, "limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let facts = real.runtime.facts();
    if real.flavour == Flavour::Rootless && facts.cgroups == CgroupVersion::V1 {
        assert!(
            !facts.limits_memory && !facts.limits_pids,
            "an ordinary user makes no cgroups of version 1"
        );
        return;
    }
    let groups = proc(pid, "cgroup");
    let unified = CgroupLayout::of_mountinfo(&fs::read_to_string("/proc/self/mountinfo").unwrap());
    let read = |controller: &str, old: &str, new: &str| {
        let (wanted, root, file) = if unified == CgroupLayout::Unified {
            ("", "/sys/fs/cgroup".to_owned(), new)
        } else {
            (controller, format!("/sys/fs/cgroup/{controller}"), old)
        };
        let path = groups
            .lines()
            .find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                (fields.next() == Some(wanted)).then(|| fields.next()).flatten()
            })
            .unwrap();
        let text = fs::read_to_string(format!("{root}{path}/{file}")).unwrap();
        text.trim().to_owned()
    };
    assert_eq!(
        read("memory", "memory.limit_in_bytes", "memory.max"),
        (256 << 20).to_string()
    );
    assert_eq!(read("pids", "pids.max", "pids.max"), "64");
}

/// Whoever listens on the port does so on 127.0.0.1 alone.
fn only_the_loopback_reaches(port: u16) {
    let at = format!(":{port:04X} ");
    let table = |name: &str| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let listening = |name: &str| -> Vec<String> {
        let lines = table(name);
        let rows = lines
            .lines()
            .map(|line| line.trim().split(' ').skip(1).collect::<Vec<_>>().join(" "));
        rows.filter(|row| {
            row.split_inclusive(' ')
                .next()
                .is_some_and(|local| local.ends_with(&at))
        })
        .filter(|row| row.split(' ').nth(2) == Some("0A"))
        .collect()
    };
    let four = listening("tcp");
    assert!(
        !four.is_empty() && four.iter().all(|row| row.starts_with("0100007F:")),
        "{four:?}"
    );
    assert_eq!(listening("tcp6"), Vec::<String>::new());
}

fn proc(pid: u32, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn every_ending_is_told_from_the_others(flavour: Flavour) {
    let real = Real::start(flavour).await;
    let image = real.image().await;
    let ended = |code, oom_killed| Some(Ending { code, oom_killed });

    // Killed from outside.
    let port = free_port();
    let id = real
        .serve(&real.engine(image.clone(), owner("box", 1), port), port)
        .await;
    let (waited, killed) = tokio::join!(real.runtime.wait(&id), real.runtime.kill(&id));
    killed.unwrap();
    assert_eq!(waited.unwrap(), ended(137, false));
    real.runtime.kill(&id).await.unwrap();

    if real.runtime.facts().limits_memory {
        memory_ends_it(&real, &image).await;
    }

    // Its own failure, with its last words.
    fs::write(real.path().join("tiny.gguf"), "no model").unwrap();
    let id = real
        .runtime
        .run(&real.engine(image.clone(), owner("box", 3), free_port()))
        .await
        .unwrap();
    assert_eq!(real.runtime.wait(&id).await.unwrap(), ended(1, false));
    let said = read(real.runtime.logs(&id, Since::Start).await.unwrap().unwrap()).await;
    assert!(said.contains("exiting due to model loading error"), "{said}");

    // No such program in the image: nothing is left of the attempt.
    let before = real.containers();
    let spec = real
        .engine(image.clone(), owner("box", 4), free_port())
        .entrypoint("/no/such")
        .unwrap();
    let error = real.runtime.run(&spec).await.unwrap_err();
    assert!(
        matches!(&error, Error::Failed(failure) if failure.exit == Exit::NotFound),
        "{error}"
    );

    // A port that is another's.
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let spec = real.engine(image.clone(), owner("box", 5), taken.local_addr().unwrap().port());
    let error = real.runtime.run(&spec).await.unwrap_err();
    assert!(
        error.cause() == Some(Cause::PortTaken) && error.is_transient(),
        "{error}"
    );
    assert_eq!(real.containers(), before);
}

/// It is sent more than it may hold.
async fn memory_ends_it(real: &Real, image: &LocalImage) {
    let port = free_port();
    let small = Limits {
        memory_bytes: 48 << 20,
        shm_bytes: 1 << 20,
        tmp_bytes: 1 << 20,
        pids: 64,
    };
    let spec = real
        .engine(image.clone(), owner("box", 2), port)
        .limits(small)
        .unwrap();
    let id = real.serve(&spec, port).await;
    let large = Call::post("/tokenize").bearer(KEY).body(vec![b'x'; 160 << 20]);
    let cut = call(SocketAddr::from(([127, 0, 0, 1], port)), &large).await;
    assert!(cut.is_err(), "{cut:?}");
    let Some(killed) = real.runtime.wait(&id).await.unwrap() else {
        panic!("it is gone")
    };
    assert_eq!(killed.code, 137);
    // Podman does not see it on the old cgroups.
    let facts = real.runtime.facts();
    let unseen = facts.backend == Backend::Podman && facts.cgroups == CgroupVersion::V1;
    assert!(killed.oom_killed || unseen, "{killed}");
}

/// Both streams to their end, and that the client ended well.
async fn read(mut logs: Logs) -> String {
    let (mut stdout, mut stderr) = logs.take_streams().unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let read = tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
    read.0.and(read.1).unwrap();
    logs.end().await.unwrap();
    out.extend(err);
    String::from_utf8(out).unwrap()
}

async fn logs_are_followed_to_the_end(flavour: Flavour) {
    let real = Real::start(flavour).await;
    fs::write(
        real.path().join("script.json"),
        r#"{"stderr_lines": ["its first words"]}"#,
    )
    .unwrap();
    let port = free_port();
    let id = real
        .serve(&real.engine(real.image().await, owner("box", 1), port), port)
        .await;
    let logs = real.runtime.logs(&id, Since::Start).await.unwrap().unwrap();
    let late = real.runtime.logs(&id, Since::Now).await.unwrap().unwrap();
    let stop = real.runtime.stop(&id, Duration::from_secs(20));
    let (stopped, all, late) = tokio::join!(stop, read(logs), read(late));
    stopped.unwrap();
    assert!(
        all.contains("its first words") && all.contains("listening on"),
        "{all}"
    );
    assert!(
        !late.contains("its first words") && !late.contains("listening on"),
        "{late}"
    );
    // What was followed is what is kept.
    let kept = read(real.runtime.logs(&id, Since::Start).await.unwrap().unwrap()).await;
    assert_eq!(kept, all);
}

async fn a_sweep_removes_what_nobody_keeps(flavour: Flavour) {
    let real = Real::start(flavour).await;
    let image = real.image().await;
    let mut ids = Vec::new();
    for (node, generation) in [("box", 1), ("box", 2), ("other", 1)] {
        let spec = real.engine(image.clone(), owner(node, generation), free_port());
        ids.push(real.runtime.run(&spec).await.unwrap());
    }
    // One of the node's that has ended goes as well; one that never was ours does not.
    real.runtime.kill(&ids[0]).await.unwrap();
    let foreign = real.client(&["create", "localhost/engine:1"]);
    let home = owner("box", 1).home;
    let keep = BTreeSet::from([owner("box", 2)]);
    let swept = real.runtime.sweep(&home, &keep).await.unwrap();
    assert!(swept.left.is_empty(), "{swept:?}");
    let removed: Vec<_> = swept
        .removed
        .iter()
        .map(|container| container.id.clone())
        .collect();
    assert_eq!(removed, ids[..1]);
    let listed = real.runtime.list(&home).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].owner, Some(owner("box", 2)));
    assert!(matches!(listed[0].state, State::Running { .. }));
    let left: BTreeSet<String> = real.containers().into_iter().collect();
    let expected = [ids[1].to_string(), ids[2].to_string(), foreign.trim().to_owned()];
    assert_eq!(left, BTreeSet::from(expected));
    // Nobody keeps anything: what is running ends.
    real.runtime.sweep(&home, &BTreeSet::new()).await.unwrap();
    assert_eq!(real.runtime.list(&home).await.unwrap(), []);
}

/// REQ-CONTAINER-MASK: a GPU that no specification names is no start, with the cure in the error.
#[tokio::test(flavor = "multi_thread")]
async fn podman_refuses_a_gpu_that_no_specification_names() {
    let mut real = Real::start(Flavour::Podman).await;
    let image = real.image().await;
    let own = std::mem::replace(
        &mut real.device,
        "GPU-00000000-dead-0000-0000-000000000000".to_owned(),
    );
    let error = real
        .runtime
        .run(&real.engine(image, owner("box", 1), free_port()))
        .await
        .unwrap_err();
    assert_eq!(error.cause(), Some(Cause::DeviceUnknown), "{error}");
    assert!(
        error.hint().contains("nvidia-ctk cdi generate"),
        "{}",
        error.hint()
    );
    assert_eq!(real.containers(), Vec::<String>::new());

    // Preflight says the same before the start, and nothing of the GPU that is named.
    for (device, known) in [(&own, true), (&real.device, false)] {
        let devices = DeviceMask::parse([device]).unwrap();
        let needs = Needs {
            devices,
            driver: None,
            port: None,
            paths: Vec::new(),
            cdi_dirs: CDI_DIRS.map(PathBuf::from).into(),
        };
        let findings = check(&real.runtime, &needs).await;
        let unknown = findings.iter().any(|finding| {
            finding.severity == Severity::Refusal && finding.to_string().contains(&format!("names {device}"))
        });
        assert_eq!(unknown, !known, "{findings:?}");
    }
}

/// REQ-CONTAINER-STOP.
#[tokio::test(flavor = "multi_thread")]
async fn podman_ends_an_engine_that_does_not_listen_after_the_grace() {
    let real = Real::start(Flavour::Podman).await;
    fs::write(real.path().join("script.json"), "{\"ignore_sigterm\": true}").unwrap();
    let port = free_port();
    let id = real
        .serve(&real.engine(real.image().await, owner("box", 1), port), port)
        .await;
    let state = real.runtime.stop(&id, Duration::from_secs(1)).await.unwrap();
    let killed = Ending {
        code: 137,
        oom_killed: false,
    };
    assert_eq!(state, Some(State::Ended(killed)));
}

/// REQ-CONTAINER-MACHINES: with crun as Podman's choice, which on hybrid cgroups starts nothing, an engine serves all the
/// same; and where limits are capped none above them is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn podman_serves_also_where_its_own_choice_of_runtime_does_not() {
    let real = Real::start_with(Flavour::Podman, "runtime = \"crun\"").await;
    assert_eq!(real.runtime.facts().oci_runtime, "crun");
    let hybrid = CgroupLayout::of_mountinfo(&fs::read_to_string("/proc/self/mountinfo").unwrap())
        == CgroupLayout::Hybrid;
    assert_eq!(real.runtime.adaptation().oci_runtime.is_some(), hybrid);
    let image = real.image().await;
    if hybrid {
        let low = ["--ulimit", "nofile=100:100", "--ulimit", "nproc=100:100"];
        let (well, _, words) = real.client_ended(
            &[
                &["run", "--rm", "--network", "none"],
                &low[..],
                &["localhost/engine:1", "--version"],
            ]
            .concat(),
        );
        assert!(!well && words.contains("hybrid"), "the control: {words}");
    }
    let port = free_port();
    let id = real.serve(&real.engine(image, owner("box", 1), port), port).await;
    let State::Running { pid } = real.inspect(&id).await.state else {
        panic!("it does not run")
    };
    let (limits, own) = (proc(pid, "limits"), proc(std::process::id(), "limits"));
    let files = |limits: &str| {
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .unwrap();
        line.split_whitespace().nth(4).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(files(&limits), files(&own).min(1 << 20));
}
