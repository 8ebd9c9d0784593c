//! The launcher of daemons: what it waits for, what it keeps, what it leaves behind (nothing).

use std::time::Duration;

use test_harness_support::binaries::bin_path;
use test_harness_support::daemon::{Command, Signal, StartError};
use test_harness_support::wait::{Look, wait_for};

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Command {
    Command::new("/bin/sh").args(["-c", script])
}

#[tokio::test]
async fn a_daemon_is_started_when_it_says_where_it_listens() {
    let daemon = shell("echo listening http://127.0.0.1:4711; echo more; exec sleep 60")
        .start()
        .await
        .unwrap();
    assert_eq!(daemon.base_url(), "http://127.0.0.1:4711");
    assert_eq!(daemon.exit_status(), None);
    daemon.signal(Signal::TERM).unwrap();
    assert!(!daemon.wait(SOON).await.unwrap().success());
}

#[tokio::test]
async fn a_daemon_that_ends_is_reported_with_its_output() {
    let error = shell("echo the reason >&2; exit 3").start().await.unwrap_err();
    let StartError::NotListening { seen, logs, .. } = error else {
        panic!("{error}")
    };
    assert!(seen.contains("exit status: 3"), "{seen}");
    assert!(logs.contains("the reason"), "{logs}");
}

#[tokio::test]
async fn output_is_drained_and_bounded() {
    let process = shell("yes 0123456789 | head -c 8000000; echo end")
        .spawn()
        .unwrap();
    assert!(process.wait(SOON).await.unwrap().success());
    let text = process.stdout();
    assert!(
        text.ends_with("end\n") && text.len() <= 2 << 20,
        "{} bytes",
        text.len()
    );
}

#[tokio::test]
async fn a_program_sees_little_of_the_testers_environment() {
    let process = shell("env").env("GIVEN", "1").spawn().unwrap();
    process.wait(SOON).await.unwrap();
    let environment = process.stdout();
    assert!(environment.contains("GIVEN=1"), "{environment}");
    assert!(
        environment.contains("PATH=") && !environment.contains("CARGO"),
        "{environment}"
    );
}

#[tokio::test]
async fn dropping_leaves_nothing_not_even_what_changed_its_group() {
    let process = shell("setsid sleep 1001 & echo $!; wait").spawn().unwrap();
    let pid = process.first_line(SOON).await.unwrap();
    let alive = format!("/proc/{}/cmdline", pid.trim());
    assert!(std::fs::read(&alive).is_ok());
    drop(process);
    wait_for("the end of the grandchild", SOON, || async {
        // An entry without a command line is a process that has ended and waits for its parent.
        let line = std::fs::read_to_string(&alive).unwrap_or_default();
        if line.is_empty() {
            Look::Ready(())
        } else {
            Look::NotYet(line)
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_programs_children_that_outlive_it_are_ended_too() {
    let process = shell("setsid sleep 1002 & echo $!; wait").spawn().unwrap();
    let pid = process.first_line(SOON).await.unwrap();
    process.kill().unwrap();
    process.wait(SOON).await.unwrap();
    let alive = format!("/proc/{}/cmdline", pid.trim());
    assert!(
        std::fs::read(&alive).is_ok_and(|line| !line.is_empty()),
        "a crash does not end its children"
    );
    drop(process);
    wait_for("the end of the orphan", SOON, || async {
        let line = std::fs::read_to_string(&alive).unwrap_or_default();
        if line.is_empty() {
            Look::Ready(())
        } else {
            Look::NotYet(line)
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_a_program_starts_after_it_was_told_to_stop_is_ended_too() {
    let last_act = "sleep 1003 >/dev/null 2>&1 & echo $!; exit 0";
    let script = format!("trap '{last_act}' TERM; echo up; while :; do sleep 0.02; done");
    let process = shell(&script).spawn().unwrap();
    assert_eq!(process.first_line(SOON).await.as_deref(), Some("up"));
    process.signal(Signal::TERM).unwrap();
    assert!(process.wait(SOON).await.unwrap().success());
    let alive = format!("/proc/{}/cmdline", process.stdout().lines().nth(1).unwrap());
    assert!(
        std::fs::read(&alive).is_ok_and(|line| !line.is_empty()),
        "{}",
        process.logs()
    );
    drop(process);
    let line = std::fs::read_to_string(&alive).unwrap_or_default();
    assert_eq!(line, "", "an orphan lives");
}

#[test]
fn a_program_that_is_not_there_cannot_be_started() {
    let error = Command::new("/no/such/program").spawn().unwrap_err();
    assert!(matches!(error, StartError::Spawn { .. }), "{error}");
}

#[test]
fn the_workspaces_programs_are_found_and_no_others() {
    let found = bin_path("scripted-engine").unwrap();
    assert!(found.is_file(), "{}", found.display());
    assert!(
        bin_path("no-such-program")
            .unwrap_err()
            .to_string()
            .contains("no-such-program")
    );
}
