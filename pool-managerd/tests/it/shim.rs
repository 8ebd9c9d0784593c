//! The shim alone, as the daemon uses it: orders in, answer and files out, and what is left when anything dies.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use owned_folder::OwnedFolder;
use pool_managerd::engine::shim::{
    Answer, Exit, FORMAT, LogFiles, LogLimits, Orders, Place, REFUSAL, Record, Run, SHIM, Start, read_exit,
    read_record,
};
use pool_managerd::facts::Inputs;
use pool_managerd::procfs::{ProcessIdentity, boot_id};
use rustix::process::Signal;
use tempfile::TempDir;
use test_harness_support::wait::{Look, wait_for};

use crate::rig::LIMIT;

const GENERATION: u64 = 4;

/// A shim over a shell script, and the lock of the daemon that it would belong to.
struct Shim {
    dir: TempDir,
    owner: Option<OwnedFolder>,
    start: Start,
    child: Child,
    engine: ProcessIdentity,
}

impl Shim {
    fn run(script: &str) -> Result<Self> {
        Self::with(script, |_| {})
    }

    fn with(script: &str, change: impl FnOnce(&mut Orders)) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let owner = OwnedFolder::open(&dir.path().join("state"), "test")?;
        let mut orders = orders(script, &owner.lock_file())?;
        change(&mut orders);
        let mut child = spawn(dir.path())?;
        serde_json::to_writer(child.stdin.take().context("stdin")?, &orders)?;
        let answer = answer(&mut child)?;
        let Answer::Started(record) = answer else {
            bail!("{answer:?}")
        };
        Ok(Self {
            owner: Some(owner),
            start: orders.record.start,
            engine: record.engine.context("no engine")?,
            child,
            dir,
        })
    }

    fn log(&self) -> Vec<String> {
        LogFiles::new(self.dir.path(), GENERATION).tail(100)
    }

    async fn logged(&self, line: &str) -> Result<()> {
        let found = wait_for(line, LIMIT, || async {
            let lines = self.log();
            match lines.iter().any(|logged| logged == line) {
                true => Look::Ready(()),
                false => Look::NotYet(lines),
            }
        });
        Ok(found.await?)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(ProcessIdentity::of(self.child.id())?.signal(signal)?)
    }

    /// Waits for the shim and tells how the engine ended.
    fn end(&mut self) -> Result<Exit> {
        self.child.wait()?;
        read_exit(self.dir.path(), GENERATION).context("no exit was told")
    }

    async fn nothing_left(&self) -> Result<()> {
        let gone = wait_for("nothing to be left", LIMIT, || async {
            let left = self.start.processes();
            match left.is_empty() {
                true => Look::Ready(()),
                false => Look::NotYet(left),
            }
        });
        Ok(gone.await?)
    }
}

fn spawn(dir: &Path) -> Result<Child> {
    Ok(Command::new(env!("CARGO_BIN_EXE_pool-managerd"))
        .arg(SHIM)
        .arg(dir)
        .env("LEAKED", "from the daemon")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?)
}

fn answer(child: &mut Child) -> Result<Answer> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut line)?;
    serde_json::from_str(&line).with_context(|| format!("answered {line:?}"))
}

fn orders(script: &str, lock: &Path) -> Result<Orders> {
    Ok(Orders {
        run: Run::Program("/bin/sh".into()),
        args: vec!["-c".into(), script.into()],
        env: vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("ONLY".into(), "this".into()),
        ],
        secrets: vec!["a-secret-of-the-engine".into()],
        log: LogLimits { file_bytes: 10_000 },
        grace_ms: 20_000,
        owner_lock: lock.to_owned(),
        adopt_within_ms: 600_000,
        record: Record {
            format: FORMAT,
            boot_id: boot_id()?,
            generation: GENERATION,
            start: Start::new(Place::Host(None)),
            fingerprint: "f".into(),
            port: 1,
            inputs: Inputs::default(),
            weights: 0,
            started_unix_ms: 1,
            shim: None,
            engine: None,
        },
    })
}

/// Waits in a way that ends with the test, even if the test fails: nothing here needs that long.
const SLEEP: &str = "sleep 600";

#[tokio::test]
async fn an_engine_gets_its_own_environment_and_no_secret_is_logged() -> Result<()> {
    let mut shim = Shim::run("env; echo a-secret-of-the-engine; exit 7")?;
    let exit = shim.end()?;
    assert_eq!(exit.status().code(), Some(7));
    let lines = shim.log();
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(&"ONLY") && !names.contains(&"LEAKED"), "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("[redacted]"));
    Ok(())
}

/// The record names both processes while they run, and outlives them: generations go on from it.
#[tokio::test]
async fn what_a_later_daemon_needs_is_in_the_record() -> Result<()> {
    let mut shim = Shim::run("read never")?;
    shim.child.wait()?;
    let mut shim = Shim::run(SLEEP)?;
    let record = read_record(shim.dir.path()).context("no record")?;
    assert_eq!(record.engine, Some(shim.engine));
    assert_eq!(record.shim, Some(ProcessIdentity::of(shim.child.id())?));
    assert!(shim.engine.is_running());
    assert_eq!(read_exit(shim.dir.path(), GENERATION), None);
    shim.signal(Signal::INT)?;
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&shim.end()?.status()),
        Some(9)
    );
    assert!(!shim.engine.is_running());
    Ok(())
}

/// I9: what left the engine's group and session ends with it all the same.
/// REQ-FAULT-ZOMBIE.
#[tokio::test]
async fn no_descendant_survives_an_engine() -> Result<()> {
    let script = format!("setsid sh -c '{SLEEP} & echo deep; {SLEEP}' & while :; do sleep 0.02; done");
    let mut shim = Shim::run(&script)?;
    shim.logged("deep").await?;
    assert!(shim.start.processes().len() >= 3);
    shim.engine.signal(Signal::KILL)?;
    shim.end()?;
    assert_eq!(shim.start.processes(), []);
    Ok(())
}

#[tokio::test]
async fn sigterm_is_polite_and_sigint_is_not() -> Result<()> {
    let polite = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done";
    let mut shim = Shim::run(polite)?;
    shim.logged("up").await?;
    shim.signal(Signal::TERM)?;
    assert_eq!(shim.end()?.status().code(), Some(3));
    assert_eq!(shim.log().last().map(String::as_str), Some("bye"));

    let mut shim = Shim::run(polite)?;
    shim.logged("up").await?;
    shim.signal(Signal::INT)?;
    assert_eq!(shim.end()?.status().code(), None);
    assert!(!shim.log().contains(&"bye".to_owned()));
    Ok(())
}

#[tokio::test]
async fn an_engine_that_ignores_sigterm_is_killed_after_its_grace() -> Result<()> {
    let script = "trap '' TERM; echo up; while :; do sleep 0.02; done";
    let mut shim = Shim::with(script, |orders| orders.grace_ms = 50)?;
    shim.logged("up").await?;
    shim.signal(Signal::TERM)?;
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&shim.end()?.status()),
        Some(9)
    );
    Ok(())
}

/// The kernel ends the engine, and the mark finds what hid from it.
#[tokio::test]
async fn a_killed_shim_takes_its_engine_along() -> Result<()> {
    let mut shim = Shim::run(&format!("setsid {SLEEP} & echo up; exec {SLEEP}"))?;
    shim.logged("up").await?;
    shim.signal(Signal::KILL)?;
    shim.child.wait()?;
    let gone = wait_for("the engine to be gone", LIMIT, || async {
        match shim.engine.is_running() {
            false => Look::Ready(()),
            true => Look::NotYet(shim.engine),
        }
    });
    gone.await?;
    assert_eq!(read_exit(shim.dir.path(), GENERATION), None);
    pool_managerd::engine::shim::end_remains(&shim.start)?;
    shim.nothing_left().await
}

#[tokio::test]
async fn an_engine_without_a_daemon_ends_itself_in_time() -> Result<()> {
    let mut shim = Shim::with("trap 'exit 3' TERM; while :; do sleep 0.02; done", |orders| {
        orders.adopt_within_ms = 50;
    })?;
    let alive = shim.child.try_wait()?;
    assert_eq!(alive, None, "ended while its daemon was there");
    shim.owner = None;
    assert_eq!(shim.end()?.status().code(), Some(3));
    Ok(())
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_says_so_in_the_log() -> Result<()> {
    let mut shim = Shim::with("", |orders| {
        orders.run = Run::Program("/nonexistent/llama-server".into());
    })?;
    assert_eq!(shim.end()?.status().code(), Some(127));
    let log = shim.log();
    assert!(
        log[0].starts_with(REFUSAL) && log[0].contains("No such file"),
        "{log:?}"
    );
    Ok(())
}

/// A daemon that dies between fork and orders leaves nothing.
#[tokio::test]
async fn half_an_order_starts_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut child = spawn(dir.path())?;
    let text = serde_json::to_vec(&orders(SLEEP, &dir.path().join("lock"))?)?;
    std::io::Write::write_all(&mut child.stdin.take().context("stdin")?, &text[..text.len() / 2])?;
    assert!(matches!(answer(&mut child)?, Answer::Refused(_)));
    assert!(!child.wait()?.success());
    assert_eq!(fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}

/// Output is drained however much there is, and bounded on disk.
#[tokio::test]
async fn a_flood_of_output_never_stops_an_engine() -> Result<()> {
    let mut shim = Shim::with("yes flood | head -c 50000000; echo; echo end; exit 5", |orders| {
        orders.log = LogLimits { file_bytes: 5_000 };
    })?;
    assert_eq!(shim.end()?.status().code(), Some(5));
    assert_eq!(shim.log().last().map(String::as_str), Some("end"));
    let bytes: u64 = fs::read_dir(shim.dir.path())?
        .filter_map(|entry| {
            Some(entry.ok()?).filter(|entry| entry.file_name().to_string_lossy().contains(".log"))
        })
        .map(|entry| entry.metadata().map_or(0, |meta| meta.len()))
        .sum();
    assert!(bytes < 30_000, "{bytes} bytes of log");
    Ok(())
}
