//! Runs the built `xtask` as a user would, in a small workspace of its own.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on has failed the test"
)]

use std::path::Path;
use std::process::{Command, Output};

/// One test that does what the environment says.
const CRATE: &str = r#"//! A crate with one test.
#[cfg(test)]
mod tests {
    #[test]
    fn does_what_it_is_told() {
        match std::env::var("FIXTURE").unwrap().as_str() {
            "pass" => assert!(std::env::var("LLAMA_ORCH_BIN_DIR").unwrap().ends_with("target/debug")),
            "fail" => panic!("as told"),
            "crash" => std::process::abort(),
            "leave" => drop(std::process::Command::new("sleep").arg("30").spawn().unwrap()),
            "orphan" => assert!(std::process::Command::new("sh").args(["-c", "sleep 30 &"]).status().unwrap().success()),
            other => panic!("unknown {other}"),
        }
    }
}
"#;

struct Fixture {
    root: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let package = "[package]\nname = \"fixture\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
        std::fs::write(root.path().join("Cargo.toml"), package).unwrap();
        let lock = "version = 4\n\n[[package]]\nname = \"fixture\"\nversion = \"0.1.0\"\n";
        std::fs::write(root.path().join("Cargo.lock"), lock).unwrap();
        std::fs::create_dir(root.path().join("src")).unwrap();
        std::fs::write(root.path().join("src/lib.rs"), CRATE).unwrap();
        Self { root }
    }

    fn xtask(&self, args: &[&str], told: &str) -> Run {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(args)
            .current_dir(self.root.path())
            .env("FIXTURE", told)
            .env_remove("CARGO_TARGET_DIR")
            .output()
            .unwrap();
        Run::from(output)
    }
}

#[derive(Debug)]
struct Run {
    success: bool,
    text: String,
    errors: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            text: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    fn last_line(&self) -> &str {
        self.text.lines().last().unwrap_or_default()
    }

    /// What the table says of a step.
    fn result_of(&self, step: &str) -> &str {
        let rows = self.text.lines().filter_map(|line| line.trim().split_once("  "));
        rows.filter(|(name, _)| *name == step)
            .map(|(_, rest)| rest.trim())
            .next_back()
            .unwrap_or_default()
    }

    /// The processes that the run says it ended.
    fn left_behind(&self) -> Vec<&str> {
        let listed = self
            .text
            .lines()
            .skip_while(|line| !line.contains("behind, ended"));
        listed.skip(1).take_while(|line| line.starts_with("  ")).collect()
    }
}

#[test]
fn the_last_line_counts_test_cases_and_the_exit_status_tells_the_result() {
    let fixture = Fixture::new();
    let passed = fixture.xtask(&["test", "--only", "test"], "pass");
    assert!(passed.success, "{passed:?}");
    assert_eq!(passed.last_line(), "1 passed, 0 failed");
    for (told, last_line) in [("fail", "0 passed, 1 failed"), ("crash", "0 passed, 1 failed")] {
        let failed = fixture.xtask(&["test", "--only", "test"], told);
        assert!(!failed.success, "{failed:?}");
        assert_eq!(failed.last_line(), last_line, "{told}");
    }
}

#[test]
fn a_process_left_behind_fails_the_step_and_is_ended() {
    let fixture = Fixture::new();
    for told in ["leave", "orphan"] {
        let run = fixture.xtask(&["test", "--only", "test"], told);
        assert!(!run.success, "{run:?}");
        assert_eq!(run.last_line(), "1 passed, 0 failed");
        let [process] = run.left_behind()[..] else {
            panic!("one process is left: {run:?}")
        };
        let (pid, command) = process.trim().split_once(' ').unwrap();
        assert_eq!(command, "sleep 30");
        assert!(!Path::new("/proc").join(pid).exists(), "{process}");
    }
}

#[test]
fn a_failed_step_stops_the_run_unless_told_to_go_on() {
    let fixture = Fixture::new();
    std::fs::write(
        fixture.root.path().join("src/lib.rs"),
        "//! Badly formatted.\nfn  a( ){}",
    )
    .unwrap();
    let stopped = fixture.xtask(&["test", "--only", "test", "--only", "fmt"], "");
    assert!(!stopped.success, "{stopped:?}");
    assert!(stopped.result_of("fmt").starts_with("FAILED"), "{stopped:?}");
    assert_eq!(stopped.result_of("test"), "not run", "{stopped:?}");
    let went_on = fixture.xtask(&["test", "--only", "test", "--only", "fmt", "--keep-going"], "");
    assert!(!went_on.success, "{went_on:?}");
    assert!(went_on.result_of("test").starts_with("passed"), "{went_on:?}");
}

#[test]
fn steps_are_listed_and_an_unknown_one_is_refused() {
    let fixture = Fixture::new();
    let list = fixture.xtask(&["test", "--list"], "");
    let names: Vec<&str> = list
        .text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names.first(), Some(&"packages"));
    assert!(
        names.contains(&"test") && names.contains(&"demo-real-engine"),
        "{names:?}"
    );
    let unknown = fixture.xtask(&["test", "--only", "everything"], "");
    assert!(
        !unknown.success && unknown.errors.contains("`everything`"),
        "{unknown:?}"
    );
}
