//! Command lines as golden lines, answers as the real programs give them, and rules that hold for every line.

use std::path::Path;

use api_types::container::{Digest, ImageRef};
use proptest::prelude::*;
use secrecy::SecretString;

use super::*;
use crate::facts::{CgroupVersion, Network};
use crate::image::LocalImage;
use crate::owner::{Home, Owner};
use crate::spec::{ContainerEnvironment, Limits, Mount, PublishedPort};

const A: &str = "GPU-6f1f0d8e-0000-0000-0000-000000000000";
const B: &str = "GPU-6f1f0d8e-0000-0000-0000-000000000001";

fn spec(devices: &[&str], args: &[String]) -> ContainerSpec {
    let owner = Owner {
        home: Home::of(Path::new("/state")),
        node: "box".parse().unwrap(),
        pool: "chat".parse().unwrap(),
        replica: "r0".parse().unwrap(),
        generation: 7,
    };
    let image = LocalImage {
        reference: ImageRef::parse("localhost/engine:1").unwrap(),
        id: Digest::parse(&"1".repeat(64)).unwrap(),
        digest: None,
        warning: None,
    };
    let limits = Limits {
        memory_bytes: 1 << 30,
        shm_bytes: 1 << 20,
        tmp_bytes: 1 << 26,
        pids: 512,
    };
    let devices = DeviceMask::parse(devices).unwrap();
    let environment =
        ContainerEnvironment::new([("HF_TOKEN".to_owned(), SecretString::from("hunter2hunter2"))]).unwrap();
    ContainerSpec::new(owner, image, devices, limits)
        .unwrap()
        .args(args.iter().cloned())
        .unwrap()
        .mounts([Mount::read_only("/models", "/models").unwrap()])
        .ports([PublishedPort {
            host: 40_001,
            container: 8080,
        }])
        .unwrap()
        .environment(environment)
}

fn facts(backend: Backend) -> Facts {
    Facts {
        backend,
        program: "/usr/bin/x".into(),
        version: Version(4, 3, 1),
        rootless: true,
        oci_runtime: "runc".into(),
        cgroup_manager: "cgroupfs".into(),
        cgroups: CgroupVersion::V2,
        limits_memory: true,
        limits_pids: true,
        selinux: false,
        network: match backend {
            Backend::Podman => Network::Slirp4netns,
            Backend::Docker => Network::Bridge,
        },
    }
}

fn capped() -> Adaptation {
    Adaptation {
        oci_runtime: Some("/usr/sbin/runc".into()),
        cgroupfs: true,
        open_files: Some(20_000),
        processes: Some(32_768),
        runc_is_missing: false,
    }
}

fn line(backend: Backend, adaptation: &Adaptation, spec: &ContainerSpec) -> Vec<String> {
    run(of(backend).unwrap(), &facts(backend), adaptation, spec)
}

/// REQ-CONTAINER-SANDBOX, REQ-CONTAINER-MACHINES.
#[test]
fn podmans_line() {
    let args = ["-m".to_owned(), "/models/tiny.gguf".to_owned()];
    let line = line(Backend::Podman, &capped(), &spec(&[A, B], &args)).join(" ");
    assert_eq!(
        line,
        format!(
            "--log-level error --runtime /usr/sbin/runc --cgroup-manager cgroupfs run --detach --pull never --no-healthcheck \
             --name {} --label orch.home={} --label orch.node=box --label orch.pool=chat --label orch.replica=r0 \
             --label orch.generation=7 --cap-drop ALL --security-opt no-new-privileges --ulimit core=0:0 \
             --tmpfs /tmp:rw,nosuid,nodev,mode=1777,size=67108864 --shm-size 1048576 --memory 1073741824 \
             --memory-swap 1073741824 --pids-limit 512 --env-file /dev/stdin \
             --mount type=bind,source=/models,target=/models,readonly --publish 127.0.0.1:40001:8080/tcp \
             --read-only --device nvidia.com/gpu={A} --device nvidia.com/gpu={B} \
             --env NVIDIA_VISIBLE_DEVICES=void --read-only-tmpfs=false --http-proxy=false --systemd=false \
             --log-driver k8s-file --log-opt max-size=10485760 --network slirp4netns --ulimit nofile=20000:20000 \
             --ulimit nproc=32768:32768 sha256:{} -m /models/tiny.gguf",
            spec(&[A], &[]).owner.container_name(),
            Home::of(Path::new("/state")),
            "1".repeat(64)
        )
    );
}

/// REQ-CONTAINER-SANDBOX.
#[test]
fn dockers_line() {
    let spec = spec(&[A, B], &[])
        .entrypoint("/bin/server")
        .unwrap()
        .user(1000, 1001);
    let line = line(Backend::Docker, &Adaptation::default(), &spec).join(" ");
    let gpus = format!(" --gpus \"device={A},{B}\" ");
    let own = "--log-driver local --log-opt max-size=5m --log-opt max-file=2 sha256:";
    for part in [
        &gpus,
        own,
        " --user 1000:1001 --entrypoint /bin/server ",
        " --publish 127.0.0.1:40001:8080/tcp ",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("--device"), "{line}");
}

/// What cannot be enforced is not asked for, since the container would not start; preflight tells.
#[test]
fn limits_without_a_controller_are_left_out_and_selinux_makes_room() {
    let facts = Facts {
        limits_memory: false,
        limits_pids: false,
        selinux: true,
        ..facts(Backend::Podman)
    };
    let line = run(of(Backend::Podman).unwrap(), &facts, &capped(), &spec(&[A], &[])).join(" ");
    assert!(
        !line.contains("--memory") && !line.contains("--pids-limit"),
        "{line}"
    );
    assert!(line.contains("--security-opt label=disable"), "{line}");
}

proptest! {
    /// REQ-CONTAINER-SANDBOX, REQ-CONTAINER-MASK, REQ-CONTAINER-SECRETS: whatever an engine's arguments are, they come
    /// after the image, so the runtime reads none of them as its own.
    #[test]
    fn no_argument_loosens_the_sandbox(
        docker: bool,
        args in proptest::collection::vec("[-a-z=/. ]{0,12}", 0..6),
    ) {
        let backend = if docker { Backend::Docker } else { Backend::Podman };
        let spec = spec(&[A], &args);
        let line = line(backend, &capped(), &spec);
        let image = line.iter().position(|arg| arg.starts_with("sha256:")).unwrap();
        prop_assert_eq!(&line[image + 1..], &args[..]);
        let own = line[..image].join("\n");
        for needed in ["--read-only\n", "--cap-drop\nALL", "--security-opt\nno-new-privileges", "--pids-limit\n512"] {
            prop_assert!(own.contains(needed));
        }
        for forbidden in ["--privileged", "--cap-add", "host", "/var/run", "hunter2", "=all", "0.0.0.0"] {
            prop_assert!(!own.contains(forbidden), "{}", forbidden);
        }
        prop_assert_eq!(own.matches("--publish\n127.0.0.1:").count(), own.matches("--publish").count());
    }

    #[test]
    fn any_answer_is_survived(junk: Vec<u8>) {
        for backend in [Backend::Podman, Backend::Docker] {
            prop_assert!(of(backend).unwrap().read_info(&junk, Path::new("/x")).is_err());
        }
    }
}

const PODMAN_INFO: &str = r#"{"host":{"arch":"amd64","cgroupManager":"systemd","cgroupVersion":"v2",
    "cgroupControllers":["cpu","memory","pids"],"networkBackend":"netavark",
    "ociRuntime":{"name":"crun","path":"/usr/bin/crun","version":"crun version 1.14"},
    "security":{"rootless":true,"selinuxEnabled":false},"serviceIsRemote":false,
    "pasta":{"executable":"/usr/bin/pasta","version":"x"},"slirp4netns":{"executable":"/usr/bin/slirp4netns"}},
    "store":{},"version":{"APIVersion":"5.0.3","Version":"5.0.3"}}"#;

fn podman_facts(info: &str) -> Facts {
    match of(Backend::Podman)
        .unwrap()
        .read_info(info.as_bytes(), Path::new("/x"))
        .unwrap()
    {
        Reading::Facts(facts) => facts,
        other => panic!("{other:?}"),
    }
}

/// REQ-CONTAINER-DETECT.
#[test]
fn podman_is_read() {
    let facts = podman_facts(PODMAN_INFO);
    assert_eq!(facts.version, Version(5, 0, 3));
    assert!(facts.rootless && facts.limits_memory && facts.limits_pids);
    assert_eq!(
        (facts.network, facts.cgroups),
        (Network::Pasta, CgroupVersion::V2)
    );
    assert_eq!((&*facts.oci_runtime, &*facts.cgroup_manager), ("crun", "systemd"));
    let old = podman_facts(&PODMAN_INFO.replace("/usr/bin/pasta", ""));
    assert_eq!(old.network, Network::Slirp4netns);
    let bare = podman_facts(
        &PODMAN_INFO
            .replace("/usr/bin/pasta", "")
            .replace("/usr/bin/slirp4netns", ""),
    );
    assert_eq!(bare.network, Network::Bridge);
    let v1 = podman_facts(&PODMAN_INFO.replace("\"v2\"", "\"v1\""));
    assert!(!v1.limits_memory, "rootless on the old cgroups");
    let without = podman_facts(&PODMAN_INFO.replace("\"memory\",", ""));
    assert!(!without.limits_memory && without.limits_pids);
}

/// REQ-CONTAINER-DETECT.
#[test]
fn a_remote_service_is_not_ours() {
    let remote = PODMAN_INFO.replace("\"serviceIsRemote\":false", "\"serviceIsRemote\":true");
    let reading = of(Backend::Podman)
        .unwrap()
        .read_info(remote.as_bytes(), Path::new("/x"));
    assert!(matches!(reading, Ok(Reading::NotLocal(_))), "{reading:?}");
}

/// REQ-CONTAINER-DETECT.
#[test]
fn docker_is_read() {
    let docker = of(Backend::Docker).unwrap();
    let read = |text: &str| docker.read_info(text.as_bytes(), Path::new("/x")).unwrap();
    let answer = r#"{"ServerVersion":"20.10.24+dfsg1","DefaultRuntime":"runc","CgroupDriver":"cgroupfs","CgroupVersion":"1",
        "MemoryLimit":true,"PidsLimit":true,"SecurityOptions":["name=seccomp,profile=default","name=rootless"],
        "OperatingSystem":"Debian GNU/Linux 12 (bookworm)"}"#;
    let Reading::Facts(facts) = read(answer) else {
        panic!()
    };
    assert_eq!(facts.version, Version(20, 10, 24));
    assert!(facts.rootless && facts.limits_memory && !facts.selinux);
    assert_eq!(facts.cgroups, CgroupVersion::V1);
    let none = read(r#"{"ServerVersion":"","SecurityOptions":null,"ServerErrors":["Cannot connect"]}"#);
    assert_eq!(none, Reading::NoDaemon("Cannot connect".to_owned()));
    let desktop = read(&answer.replace("Debian GNU/Linux 12 (bookworm)", "Docker Desktop"));
    assert!(matches!(desktop, Reading::NotLocal(_)));
    let stand_in = docker.read_info(PODMAN_INFO.as_bytes(), Path::new("/x"));
    assert!(stand_in.is_err(), "Podman's stand-in for docker is not Docker");
}
