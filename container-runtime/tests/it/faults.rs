//! Every way in which a client can fail us, by scripted clients.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use container_runtime::{
    Action, Backend, Cause, Choice, ContainerEnvironment, ContainerId, ContainerSpec, DeviceMask, Error,
    Exit, Home, ImageRef, Limits, Owner, Since, State, detect,
};
use secrecy::SecretString;
use tokio::io::AsyncReadExt;

use crate::fake::{Fakes, LONG, SHORT};

const PODMAN: Choice = Choice::Only(Backend::Podman);
const DOCKER: Choice = Choice::Only(Backend::Docker);
const SECRET: &str = "hunter2-hunter2";

fn digest(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

fn id(digit: char) -> ContainerId {
    ContainerId::parse(&digest(digit)).unwrap()
}

fn home() -> Home {
    Home::of(Path::new("/state"))
}

fn owner(generation: u64) -> Owner {
    Owner {
        home: home(),
        node: "box".parse().unwrap(),
        pool: "chat".parse().unwrap(),
        replica: "r0".parse().unwrap(),
        generation,
    }
}

/// An answer to `image inspect`.
fn image_answer(digits: &[char]) -> String {
    let names: Vec<String> = digits
        .iter()
        .map(|&digit| format!("\"localhost/engine@sha256:{}\"", digest(digit)))
        .collect();
    format!(
        r#"echo '[{{"Id":"{}","RepoDigests":[{}]}}]'"#,
        digest('1'),
        names.join(",")
    )
}

/// An answer to `container inspect`.
fn container_answer(digit: char, state: &str, generation: u64) -> String {
    format!(
        r#"echo '[{{"Id":"{}","Name":"x","State":{state},"Config":{{"Labels":{{"orch.home":"{}","orch.node":"box","orch.pool":"chat",
        "orch.replica":"r0","orch.generation":"{generation}"}}}}}}]'"#,
        digest(digit),
        home()
    )
}

const RUNNING: &str = r#"{"Status":"running","Pid":1}"#;

async fn spec(fakes: &Fakes) -> ContainerSpec {
    let runtime = fakes.runtime(PODMAN, LONG).await;
    let reference = ImageRef::parse(&format!("localhost/engine@sha256:{}", digest('a'))).unwrap();
    let image = runtime.local_image(&reference).await.unwrap().unwrap();
    let limits = Limits {
        memory_bytes: 1 << 30,
        shm_bytes: 1 << 20,
        tmp_bytes: 1 << 20,
        pids: 64,
    };
    let environment = ContainerEnvironment::new([("KEY".to_owned(), SecretString::from(SECRET))]).unwrap();
    ContainerSpec::new(owner(1), image, DeviceMask::parse(["GPU-1"]).unwrap(), limits)
        .unwrap()
        .environment(environment)
}

/// A Podman whose `run` does these commands, and how starting a container with it ended.
async fn failed_run(run: &str, deadline: Duration) -> (Fakes, Error) {
    let fakes = Fakes::new();
    let image = image_answer(&['a']);
    fakes.client("podman", &[("image", &image), ("run", run), ("rm", "")]);
    let spec = spec(&fakes).await;
    let error = fakes
        .runtime(PODMAN, deadline)
        .await
        .run(&spec)
        .await
        .unwrap_err();
    (fakes, error)
}

fn removed(fakes: &Fakes) -> bool {
    let name = owner(1).container_name();
    let removals = fakes.calls("podman");
    removals
        .iter()
        .any(|call| call.starts_with("rm --force") && call.ends_with(&name))
}

/// REQ-CONTAINER-DETECT, REQ-CONTAINER-FAULTS.
/// REQ-FAULT-RUNTIME.
#[tokio::test]
async fn a_podman_that_hangs_gives_way_to_docker_or_is_an_error() {
    let fakes = Fakes::new();
    fakes.client_without_info("podman", &[("info", "sleep 61")]);
    fakes.client("docker", &[]);
    let found = fakes.runtime(Choice::Auto, SHORT).await;
    assert_eq!(found.facts().backend, Backend::Docker);
    let none = detect(&fakes.setup(PODMAN, SHORT)).await.unwrap_err();
    assert!(
        matches!(
            &none.0[..],
            [Error::TimedOut {
                action: Action::Info,
                ..
            }]
        ),
        "{none}"
    );
    assert!(
        none.is_transient() && none.hint().contains("podman info"),
        "{}",
        none.hint()
    );
}

/// REQ-CONTAINER-DETECT.
#[tokio::test]
async fn podman_is_preferred_and_none_at_all_says_so() {
    let fakes = Fakes::new();
    let none = detect(&fakes.setup(Choice::Auto, LONG)).await.unwrap_err();
    assert!(
        matches!(
            &none.0[..],
            [
                Error::Missing { program: "podman" },
                Error::Missing { program: "docker" }
            ]
        ),
        "{none}"
    );
    assert!(!none.is_transient() && none.hint().contains("install podman"));
    fakes.client("docker", &[]);
    fakes.client("podman", &[]);
    let found = fakes.runtime(Choice::Auto, LONG).await;
    assert_eq!(found.facts().backend, Backend::Podman);
    let docker = fakes.runtime(DOCKER, LONG).await;
    assert_eq!(docker.facts().backend, Backend::Docker);
}

/// REQ-CONTAINER-DETECT, REQ-CONTAINER-FAULTS.
#[tokio::test]
async fn a_podman_that_is_too_old_or_talks_nonsense_is_told_from_the_others() {
    let fakes = Fakes::new();
    let old = crate::fake::PODMAN_INFO.replace("4.3.1", "3.4.4");
    fakes.client_without_info("podman", &[("info", &format!("cat <<'END'\n{old}\nEND"))]);
    let none = detect(&fakes.setup(PODMAN, LONG)).await.unwrap_err();
    assert!(matches!(&none.0[..], [Error::TooOld { .. }]), "{none}");
    for junk in [
        "echo hello",
        "true",
        "echo '{}'",
        "cat /dev/urandom | head -c 10000",
    ] {
        fakes.client_without_info("podman", &[("info", junk)]);
        let none = detect(&fakes.setup(PODMAN, LONG)).await.unwrap_err();
        assert!(
            matches!(
                &none.0[..],
                [Error::Junk {
                    action: Action::Info,
                    ..
                }]
            ),
            "{junk}: {none}"
        );
        assert!(none.to_string().len() < 4_000);
    }
    fakes.client_without_info("podman", &[("info", "yes")]);
    let none = detect(&fakes.setup(PODMAN, LONG)).await.unwrap_err();
    assert!(matches!(&none.0[..], [Error::TooMuchOutput { .. }]), "{none}");
}

/// REQ-CONTAINER-FAULTS: a daemon that restarts is an error that passes.
#[tokio::test]
async fn a_daemon_that_is_away_is_an_error_that_passes() {
    let fakes = Fakes::new();
    let away =
        "echo 'Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?' >&2; exit 1";
    fakes.client("docker", &[("ps", away), ("run", away)]);
    let runtime = fakes.runtime(DOCKER, LONG).await;
    let error = runtime.list(&home()).await.unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { .. }) && error.is_transient(),
        "{error}"
    );
    fakes.client_without_info(
        "docker",
        &[("info", r#"echo '{"ServerVersion":"","ServerErrors":["x"]}'"#)],
    );
    let none = detect(&fakes.setup(DOCKER, LONG)).await.unwrap_err();
    assert!(matches!(&none.0[..], [Error::Unreachable { .. }]), "{none}");
}

/// REQ-CONTAINER-FAULTS.
#[tokio::test]
async fn the_three_codes_of_a_failed_start_are_told_apart_and_nothing_is_left() {
    for (code, exit) in [
        (125, Exit::Runtime),
        (126, Exit::CannotExecute),
        (127, Exit::NotFound),
        (1, Exit::Code(1)),
    ] {
        let (fakes, error) = failed_run(&format!("echo no such luck >&2; exit {code}"), LONG).await;
        let Error::Failed(failure) = &error else {
            panic!("{error:?}")
        };
        assert_eq!((failure.exit, failure.action), (exit, Action::Run));
        assert_eq!(failure.stderr, "no such luck");
        assert!(!error.is_transient() && removed(&fakes));
    }
}

/// REQ-CONTAINER-FAULTS.
/// REQ-FAULT-RUNTIME.
#[tokio::test]
async fn a_start_that_hangs_or_answers_nonsense_leaves_nothing() {
    let (fakes, error) = failed_run("sleep 61", SHORT).await;
    assert!(
        matches!(
            error,
            Error::TimedOut {
                action: Action::Run,
                ..
            }
        ),
        "{error}"
    );
    assert!(removed(&fakes));
    let (fakes, error) = failed_run("echo done", LONG).await;
    assert!(
        matches!(
            error,
            Error::Junk {
                action: Action::Run,
                ..
            }
        ),
        "{error}"
    );
    assert!(removed(&fakes));
}

/// REQ-CONTAINER-FAULTS: the container that has the name is another's, and stays.
#[tokio::test]
async fn a_container_of_the_same_name_is_not_removed() {
    let run = "echo 'Error: the container name \"x\" is already in use by y' >&2; exit 125";
    let (fakes, error) = failed_run(run, LONG).await;
    assert_eq!(error.cause(), Some(Cause::NameTaken));
    assert!(!removed(&fakes), "{:?}", fakes.calls("podman"));
}

/// REQ-CONTAINER-SECRETS.
#[tokio::test]
async fn a_secret_goes_through_the_pipe_and_nowhere_else() {
    let fakes = Fakes::new();
    let seen = fakes.path().join("seen");
    let run = format!(
        "cat /dev/stdin > {0}; cat /proc/$$/environ >> {0}.environ; echo {SECRET} >&2; echo KEY={SECRET}; exit 125",
        seen.display()
    );
    fakes.client(
        "podman",
        &[("image", &image_answer(&['a'])), ("run", &run), ("rm", "")],
    );
    let spec = spec(&fakes).await;
    let error = fakes.runtime(PODMAN, LONG).await.run(&spec).await.unwrap_err();
    assert_eq!(fs::read_to_string(&seen).unwrap(), format!("KEY={SECRET}\n"));
    let environ = fs::read(fakes.path().join("seen.environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environ).contains(SECRET));
    assert!(!fakes.calls("podman").iter().any(|call| call.contains(SECRET)));
    let shown = format!("{error} {error:?} {spec:?}");
    assert!(shown.contains("[redacted]") && !shown.contains(SECRET), "{shown}");
}

/// REQ-CONTAINER-DIGEST.
#[tokio::test]
async fn what_is_pulled_must_be_what_was_asked_for() {
    let fakes = Fakes::new();
    let pinned = ImageRef::parse(&format!("localhost/engine@sha256:{}", digest('a'))).unwrap();
    fakes.client(
        "podman",
        &[("pull", "echo pulled"), ("image", &image_answer(&['b']))],
    );
    let runtime = fakes.runtime(PODMAN, LONG).await;
    let error = runtime.pull(&pinned).await.unwrap_err();
    assert!(
        matches!(&error, Error::DigestMismatch { found, .. } if found.len() == 1),
        "{error}"
    );
    let unknown = "echo 'Error: localhost/engine: image not known' >&2; exit 125";
    fakes.client("podman", &[("pull", "echo pulled"), ("image", unknown)]);
    assert_eq!(runtime.local_image(&pinned).await.unwrap(), None);
    let error = runtime.pull(&pinned).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Junk {
                action: Action::Pull,
                ..
            }
        ),
        "{error}"
    );
}

/// REQ-CONTAINER-DIGEST.
#[tokio::test]
async fn a_pinned_image_that_is_here_is_not_pulled_again_and_a_tag_always_is() {
    let fakes = Fakes::new();
    fakes.client(
        "podman",
        &[("pull", "echo pulled"), ("image", &image_answer(&['a']))],
    );
    let runtime = fakes.runtime(PODMAN, LONG).await;
    let pinned = ImageRef::parse(&format!("localhost/engine@sha256:{}", digest('a'))).unwrap();
    assert_eq!(runtime.ensure_image(&pinned).await.unwrap().warning, None);
    let pulls = |fakes: &Fakes| {
        fakes
            .calls("podman")
            .iter()
            .filter(|call| call.contains("pull"))
            .count()
    };
    assert_eq!(pulls(&fakes), 0);
    let tagged = ImageRef::parse("localhost/engine:1").unwrap();
    assert!(runtime.ensure_image(&tagged).await.unwrap().warning.is_some());
    assert_eq!(pulls(&fakes), 1);
}

/// REQ-CONTAINER-SWEEP, REQ-CONTAINER-FAULTS: a container that goes meanwhile is no error, one that stays is told.
#[tokio::test]
async fn a_sweep_goes_on_where_containers_vanish_or_stay() {
    let fakes = Fakes::new();
    let list = format!(
        "echo {}; echo {}; echo {}; echo {}",
        digest('a'),
        digest('b'),
        digest('c'),
        digest('d')
    );
    let inspect = format!(
        "case $3 in a*) {};; b*) echo 'Error: no such container' >&2; exit 125;; c*) {};; d*) {};; esac",
        container_answer('a', RUNNING, 1),
        container_answer('c', RUNNING, 2),
        container_answer('d', RUNNING, 3)
    );
    let rm = "case $* in *ccc) echo 'Error: container is stuck' >&2; exit 125;; esac";
    fakes.client("podman", &[("ps", &list), ("inspect", &inspect), ("rm", rm)]);
    let runtime = fakes.runtime(PODMAN, LONG).await;
    let swept = runtime.sweep(&home(), &BTreeSet::from([owner(1)])).await.unwrap();
    let removed: Vec<&ContainerId> = swept.removed.iter().map(|container| &container.id).collect();
    assert_eq!(removed, [&id('d')]);
    assert_eq!(swept.left.len(), 1, "{swept:?}");
    assert_eq!(swept.left[0].0.id, id('c'));
    let removals: Vec<String> = fakes
        .calls("podman")
        .into_iter()
        .filter(|call| call.starts_with("rm"))
        .collect();
    assert!(
        removals.iter().all(|call| !call.ends_with(&digest('a'))),
        "{removals:?}"
    );
}

/// REQ-CONTAINER-FAULTS.
#[tokio::test]
async fn a_list_or_a_description_of_nonsense_is_an_error() {
    let fakes = Fakes::new();
    fakes.client(
        "podman",
        &[("ps", "echo WARN"), ("inspect", "echo '[{\"Id\":1}]'")],
    );
    let runtime = fakes.runtime(PODMAN, LONG).await;
    let error = runtime.list(&home()).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Junk {
                action: Action::List,
                ..
            }
        ),
        "{error}"
    );
    let error = runtime.inspect(&id('a')).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Junk {
                action: Action::Inspect,
                ..
            }
        ),
        "{error}"
    );
}

/// REQ-CONTAINER-STOP, REQ-CONTAINER-FAULTS.
#[tokio::test]
async fn a_stop_that_hangs_becomes_a_kill() {
    let fakes = Fakes::new();
    let ended = r#"{"Status":"exited","ExitCode":137}"#;
    let inspect = container_answer('a', ended, 1);
    fakes.client(
        "podman",
        &[("stop", "sleep 61"), ("kill", ""), ("inspect", &inspect)],
    );
    let runtime = fakes.runtime(PODMAN, SHORT).await;
    let state = runtime.stop(&id('a'), Duration::ZERO).await.unwrap().unwrap();
    let State::Ended(ending) = state else {
        panic!("{state:?}")
    };
    assert_eq!(ending.signal(), Some(9));
    assert!(
        fakes
            .calls("podman")
            .iter()
            .any(|call| call.starts_with("kill --signal KILL"))
    );
}

/// REQ-CONTAINER-STOP.
#[tokio::test]
async fn ending_what_is_gone_is_no_error() {
    let fakes = Fakes::new();
    let gone = "echo 'Error: no container with name or ID \"x\" found: no such container' >&2; exit 125";
    let answers = ["stop", "kill", "rm", "inspect", "logs"].map(|command| (command, gone));
    fakes.client("podman", &answers);
    let runtime = fakes.runtime(PODMAN, LONG).await;
    let id = id('a');
    assert_eq!(runtime.stop(&id, Duration::ZERO).await.unwrap(), None);
    runtime.kill(&id).await.unwrap();
    runtime.remove(&id).await.unwrap();
    assert_eq!(runtime.inspect(&id).await.unwrap(), None);
    assert_eq!(runtime.wait(&id).await.unwrap(), None);
    assert!(runtime.logs(&id, Since::Start).await.unwrap().is_none());
}

/// REQ-CONTAINER-LOGS, REQ-CONTAINER-FAULTS.
#[tokio::test]
async fn the_failure_of_a_log_is_typed_and_its_words_are_in_it() {
    let fakes = Fakes::new();
    let inspect = container_answer('a', RUNNING, 1);
    let fails = ("logs", "echo 'Error: disk on fire' >&2; exit 125");
    fakes.client("podman", &[("inspect", &inspect), fails]);
    let runtime = fakes.runtime(PODMAN, LONG).await;
    let mut logs = runtime.logs(&id('a'), Since::Now).await.unwrap().unwrap();
    let (mut stdout, mut stderr) = logs.take_streams().unwrap();
    assert!(logs.take_streams().is_err());
    let (mut out, mut err) = (String::new(), String::new());
    stdout.read_to_string(&mut out).await.unwrap();
    stderr.read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("", "Error: disk on fire\n"));
    let error = logs.end().await.unwrap_err();
    assert!(
        matches!(&error, Error::Failed(failure) if failure.action == Action::Logs),
        "{error}"
    );
    let calls = fakes.calls("podman");
    let asked = calls.iter().find(|call| call.starts_with("logs")).unwrap();
    assert!(asked.starts_with("logs --follow --tail 0 "), "{asked}");
}
