//! Calls of small shell scripts. The shell is the program that is called; none is between.

use std::path::Path;
use std::time::Duration;

use test_harness_support::wait::{Look, wait_for};

use super::*;
use crate::error::Exit;

fn sh() -> Cli {
    Cli {
        name: "podman",
        program: "/bin/sh".into(),
        environment: Environment::of([("PATH", "/usr/bin:/bin"), ("SECRET", "no")]),
        redaction: Redaction::new(["hunter2-hunter2".into()], None),
    }
}

fn call(script: &str) -> Call {
    Call {
        action: Action::Info,
        args: vec!["-c".into(), script.into()],
        stdin: None,
        deadline: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn the_answer_is_what_it_wrote_and_nothing_is_inherited() {
    let answer = sh().answer(call("env | cut -d= -f1 | sort")).await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), "PATH\nPWD\n");
}

/// REQ-CONTAINER-SECRETS.
#[tokio::test]
async fn input_goes_through_a_pipe_and_may_be_left_unread() {
    let with = |script: &str| Call {
        stdin: Some("one\ntwo\n".repeat(20_000).into()),
        ..call(script)
    };
    let answer = sh().answer(with("cat /dev/stdin | wc -l")).await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap().trim(), "40000");
    assert!(sh().answer(with("exit 0")).await.unwrap().is_empty());
}

/// A script that tells its own number and that of what it started, then hangs.
fn hanging(dir: &Path) -> (PathBuf, Call) {
    let pids = dir.join("pids");
    let script = format!(
        "sleep 61 & echo $! $$ > {0}.new; mv {0}.new {0}; wait",
        pids.display()
    );
    (pids, call(&script))
}

/// Waits until all of them are gone, or zombies whom init has not reaped yet.
async fn all_ended(pids: &str) {
    let runs = |pid: &&str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, state)| !state.starts_with('Z'))
    };
    wait_for("the processes' end", Duration::from_secs(30), || async {
        match pids.split_whitespace().find(runs) {
            Some(pid) => Look::NotYet(pid.to_owned()),
            None => Look::Ready(()),
        }
    })
    .await
    .unwrap();
}

async fn content(path: &Path) -> String {
    wait_for("the script's beginning", Duration::from_secs(30), || async {
        match std::fs::read_to_string(path) {
            Ok(text) => Look::Ready(text),
            Err(error) => Look::NotYet(error),
        }
    })
    .await
    .unwrap()
}

/// REQ-CONTAINER-FAULTS.
#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let (pids, call) = hanging(dir.path());
    let deadline = Duration::from_secs(2);
    let cli = sh();
    let (hung, pids) = tokio::join!(cli.run(Call { deadline, ..call }), content(&pids));
    assert!(
        matches!(hung, Err(Error::TimedOut { action: Action::Info, after, .. }) if after == deadline),
        "{hung:?}"
    );
    all_ended(&pids).await;
}

/// REQ-CONTAINER-FAULTS.
#[tokio::test]
async fn a_call_that_nobody_waits_for_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, call) = hanging(dir.path());
    let cli = sh();
    let pids = tokio::select! {
        ended = cli.run(call) => panic!("{ended:?}"),
        pids = content(&path) => pids,
    };
    all_ended(&pids).await;
}

/// REQ-CONTAINER-FAULTS.
#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let endless = sh().run(call("yes")).await;
    assert!(matches!(endless, Err(Error::TooMuchOutput { .. })), "{endless:?}");
}

/// REQ-CONTAINER-FAULTS, REQ-CONTAINER-SECRETS.
#[tokio::test]
async fn a_refusal_is_quoted_bounded_and_redacted() {
    let script = "yes '\x1b[31mnoise\x1b[0m' | head -c 100000 >&2; echo key hunter2-hunter2: no such container >&2; exit 125";
    let refused = sh().answer(call(script)).await.unwrap_err();
    let Error::Failed(failure) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(failure.exit, Exit::Runtime);
    assert_eq!(failure.cause, Some(Cause::NoSuchContainer));
    assert!(failure.stderr.len() < 2_000, "{}", failure.stderr.len());
    assert!(
        failure.stderr.ends_with("key [redacted]: no such container"),
        "{}",
        failure.stderr
    );
    assert!(!failure.stderr.contains('\x1b'));
}

/// A daemon's child that keeps the pipes must not hold up the answer.
#[tokio::test]
async fn what_a_program_leaves_behind_does_not_hold_up_its_answer() {
    let script = "setsid sleep 63 & echo $!";
    let answer = sh().answer(call(script)).await.unwrap();
    let pid = String::from_utf8(answer).unwrap();
    let killed = std::process::Command::new("kill")
        .arg(pid.trim())
        .status()
        .unwrap();
    assert!(killed.success(), "it still ran: it was not of the group");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_that_names_it() {
    let cli = Cli {
        program: "/nowhere/podman".into(),
        ..sh()
    };
    let error = cli.run(call("")).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/podman"), "{error}");
}

#[tokio::test]
async fn a_signal_is_told_from_a_code() {
    let error = sh().answer(call("kill -9 $$")).await.unwrap_err();
    let Error::Failed(failure) = error else {
        panic!("{error:?}")
    };
    assert_eq!(failure.exit, Exit::Signal(9));
}
