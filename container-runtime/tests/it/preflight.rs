//! The findings of preflight, by scripted tools.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use container_runtime::{
    Backend, Choice, DeviceMask, Needs, Preflight, Problem, Severity, Version, preflight,
};

use crate::fake::{Fakes, LONG, SHORT};

const UUID: &str = "GPU-6f1f0d8e-0000-0000-0000-000000000000";

/// A machine where everything is as it should be.
fn healthy() -> Fakes {
    let fakes = Fakes::new();
    fakes.client("podman", &[]);
    fakes.client("docker", &[]);
    fakes.program(
        "nvidia-ctk",
        "echo NVIDIA Container Toolkit CLI version 1.18.0; echo commit: x",
    );
    fakes.program("nvidia-container-runtime-hook", "");
    let spec = format!(r#"{{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[{{"name":"{UUID}"}}]}}"#);
    std::fs::write(fakes.path().join("nvidia.json"), spec).unwrap();
    fakes
}

async fn look(fakes: &Fakes, backend: Backend, port: Option<u16>) -> Preflight {
    look_within(fakes, backend, port, LONG).await
}

async fn look_within(fakes: &Fakes, backend: Backend, port: Option<u16>, deadline: Duration) -> Preflight {
    let devices = DeviceMask::parse([UUID]).unwrap();
    let needs = Needs {
        devices,
        driver: Some("550.54.15".to_owned()),
        port,
        paths: vec![PathBuf::from("/")],
        cdi_dirs: vec![fakes.path().to_owned()],
    };
    preflight(&fakes.setup(Choice::Only(backend), deadline), &needs).await
}

/// REQ-CONTAINER-PREFLIGHT.
#[tokio::test]
async fn a_machine_that_is_as_it_should_be_has_no_refusals() {
    let fakes = healthy();
    let podman = look(&fakes, Backend::Podman, None).await;
    assert!(podman.findings.is_empty(), "{:?}", podman.findings);
    let docker = look(&fakes, Backend::Docker, None).await;
    assert!(docker.refusal().is_none(), "{:?}", docker.findings);
    assert!(
        matches!(docker.findings[..], [ref one] if matches!(one.problem, Problem::Rootful(Backend::Docker))),
        "{:?}",
        docker.findings
    );
}

/// REQ-CONTAINER-PREFLIGHT: whatever is wrong is named with what helps.
#[tokio::test]
async fn each_trouble_of_the_toolkit_is_a_refusal_of_its_own() {
    let fakes = healthy();
    fakes.program("nvidia-ctk", "echo NVIDIA Container Toolkit CLI version 1.17.7");
    let found = look(&fakes, Backend::Podman, None).await;
    let refusal = found.refusal().unwrap();
    assert!(
        matches!(refusal.problem, Problem::ToolkitTooOld(Version(1, 17, 7))),
        "{refusal}"
    );
    assert!(refusal.to_string().contains("1.17.8"), "{refusal}");
    fakes.program("nvidia-ctk", "exit 3");
    let found = look(&fakes, Backend::Podman, None).await;
    assert!(matches!(
        found.refusal().unwrap().problem,
        Problem::ToolkitBroken(_)
    ));
    std::fs::remove_file(fakes.path().join("nvidia-ctk")).unwrap();
    let found = look(&fakes, Backend::Podman, None).await;
    assert!(matches!(
        found.refusal().unwrap().problem,
        Problem::ToolkitMissing
    ));
    std::fs::remove_file(fakes.path().join("nvidia-container-runtime-hook")).unwrap();
    let found = look(&fakes, Backend::Docker, None).await;
    let hook = found
        .findings
        .iter()
        .any(|one| matches!(one.problem, Problem::HookMissing));
    assert!(hook, "{:?}", found.findings);
}

/// REQ-CONTAINER-PREFLIGHT.
#[tokio::test]
async fn a_missing_runtime_a_missing_specification_and_a_taken_port_are_told() {
    let fakes = healthy();
    std::fs::remove_file(fakes.path().join("nvidia.json")).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let found = look(&fakes, Backend::Podman, Some(port)).await;
    assert!(
        matches!(
            &found.findings[..],
            [one, two] if matches!(one.problem, Problem::CdiMissing { .. }) && matches!(two.problem, Problem::PortTaken { .. })
        ),
        "{:?}",
        found.findings
    );
    std::fs::remove_file(fakes.path().join("podman")).unwrap();
    let found = look(&fakes, Backend::Podman, None).await;
    assert!(found.runtime.is_none());
    let refusal = found.refusal().unwrap();
    assert!(refusal.to_string().contains("install podman"), "{refusal}");
}

/// REQ-CONTAINER-PREFLIGHT: less protection than there could be is a warning.
#[tokio::test]
async fn rootful_containers_and_limits_without_controllers_warn() {
    let fakes = healthy();
    let info = crate::fake::PODMAN_INFO
        .replace("\"rootless\":true", "\"rootless\":false")
        .replace("\"memory\",\"pids\"", "\"io\"");
    fakes.client_without_info("podman", &[("info", &format!("cat <<'END'\n{info}\nEND"))]);
    let found = look(&fakes, Backend::Podman, None).await;
    assert!(found.refusal().is_none());
    assert_eq!(found.findings.len(), 2, "{:?}", found.findings);
    for finding in &found.findings {
        assert_eq!(finding.severity, Severity::Warning);
        assert!(!finding.problem.hint().is_empty());
    }
}

/// REQ-CONTAINER-PREFLIGHT, REQ-CONTAINER-FAULTS: a file that nobody ever writes holds up whoever opens it, but not us.
#[tokio::test]
async fn files_that_hang_are_a_refusal() {
    let fakes = healthy();
    let fifo = fakes.path().join("hanging.yaml");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let found = look_within(&fakes, Backend::Podman, None, SHORT).await;
    assert!(
        matches!(found.refusal().unwrap().problem, Problem::FilesHang { after } if after == SHORT),
        "{:?}",
        found.findings
    );
    // Lets the thread go that waits.
    drop(std::fs::File::options().write(true).open(fifo).unwrap());
}
