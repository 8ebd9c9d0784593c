//! A shim's life: orders in, engine started, output drained, end told, nothing left behind.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::setsid;
use rustix::thread::set_name;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::engine::{Engine, Outcome};
use super::log::{LogFiles, LogWriter, drain};
use super::orders::{Answer, Exit, Orders, Run};
use super::orphan::abandoned;
use super::remains::{end_all, end_remains};
use crate::engine::ending::oom_kills;
use crate::procfs::ProcessIdentity;

/// This program, even when its file has been replaced meanwhile.
pub const PROGRAM: &str = "/proc/self/exe";

/// How long a container's output is read on by its client, which has to notice the end itself.
const LAST_WORDS_BY_A_CLIENT: Duration = Duration::from_secs(10);

/// How long the output of an ended engine is read on. Nothing of it runs any more; only a process that hides from
/// both group and mark can still hold the pipe.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the shim of the replica with that folder. Orders come on standard input, the answer goes to standard output.
pub(super) fn main(dir: Option<OsString>) -> ExitCode {
    let done = dir
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        .and_then(|dir| run(Path::new(&dir)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            answer(&Answer::Refused(error.into()));
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &Path) -> io::Result<()> {
    // A session of its own: no terminal and no group signal of the daemon's reaches it. It has one already when a
    // person tries it from a shell.
    let _own_session_or_leader_already = setsid();
    set_name(c"engine-shim")?;
    let mut orders: Orders = serde_json::from_reader(io::stdin().lock())?;
    orders.record.shim = Some(ProcessIdentity::of(std::process::id())?);
    orders.record.write(dir)?;
    // One thread: the engine is started by the thread that lives as long as the shim.
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(supervise(dir, orders))
}

/// The daemon may be gone already; then a later one reads the record.
fn answer(answer: &Answer) {
    let told = serde_json::to_string(answer).map(|text| writeln!(io::stdout(), "{text}"));
    let _told_or_gone = told;
}

async fn supervise(dir: &Path, mut orders: Orders) -> io::Result<()> {
    // Before the engine is there: a signal must never find the shim without its handlers.
    let mut end = Ends::new(&orders)?;
    let (generation, before) = (orders.record.generation, oom_kills());
    let files = LogFiles::new(dir, generation);
    let secrets = std::mem::take(&mut orders.secrets);
    let log = match orders.run {
        Run::Program(_) | Run::Container(..) => LogWriter::new(files, orders.log, secrets),
        Run::Held(_) => LogWriter::resumed(files, orders.log, secrets),
    };
    let log = RefCell::new(log);
    let mut engine = match Engine::start(&mut orders).await {
        Ok(engine) => engine,
        Err(refused) => {
            answer(&Answer::Refused(refused));
            return Ok(());
        }
    };
    orders.record.write(dir)?;
    answer(&Answer::Started(Box::new(orders.record.clone())));

    let (stdout, stderr) = engine.streams().await;
    let mut words = pin!(async { tokio::join!(drain_some(stdout, &log), drain_some(stderr, &log)) });
    let mut life = pin!(end.wait(&mut engine));
    let mut complete = false;
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut life => break outcome?,
            _ = &mut words, if !complete => complete = true,
        }
    };
    if !complete {
        let by_client = orders.run.client().is_some();
        let last = if by_client {
            LAST_WORDS_BY_A_CLIENT
        } else {
            LAST_WORDS
        };
        let _complete_or_cut = timeout(last, words).await;
    }
    // The exit is told even when something of the engine cannot be ended: the daemon finds it by its record.
    let left = remove(&orders).await;
    let exit = Exit {
        generation,
        wait_status: outcome.wait_status,
        oom_killed: before.and_then(|before| Some(oom_kills()? > before || outcome.oom_killed)),
        removed: left.is_ok(),
    };
    exit.write(dir)?;
    left
}

/// Nothing of the start is left after this.
async fn remove(orders: &Orders) -> io::Result<()> {
    match orders.run.client() {
        None => end_remains(&orders.record.start),
        Some(client) => end_all(&orders.record.start, client).await,
    }
}

async fn drain_some(pipe: Option<impl tokio::io::AsyncRead + Unpin>, log: &RefCell<LogWriter>) {
    if let Some(pipe) = pipe {
        drain(pipe, log).await;
    }
}

/// What ends an engine besides itself.
struct Ends {
    polite: tokio::signal::unix::Signal,
    at_once: tokio::signal::unix::Signal,
    grace: Duration,
    owner_lock: std::path::PathBuf,
    adopt_within: Duration,
}

impl Ends {
    fn new(orders: &Orders) -> io::Result<Self> {
        Ok(Self {
            polite: signal(SignalKind::terminate())?,
            at_once: signal(SignalKind::interrupt())?,
            grace: Duration::from_millis(orders.grace_ms),
            owner_lock: orders.owner_lock.clone(),
            adopt_within: Duration::from_millis(orders.adopt_within_ms),
        })
    }

    /// Until the engine has ended, by itself or by what ends it.
    async fn wait(&mut self, engine: &mut Engine) -> io::Result<Outcome> {
        let manner = tokio::select! {
            biased;
            ended = engine.ended() => return ended,
            manner = self.due() => manner,
        };
        if matches!(manner, Manner::Politely) {
            tokio::select! {
                biased;
                _ = self.at_once.recv() => {}
                ended = engine.stop(self.grace) => if let Some(ended) = ended? {
                    return Ok(ended);
                },
            }
        }
        engine.kill().await;
        engine.ended().await
    }

    async fn due(&mut self) -> Manner {
        tokio::select! {
            biased;
            _ = self.at_once.recv() => Manner::AtOnce,
            _ = self.polite.recv() => Manner::Politely,
            () = abandoned(&self.owner_lock, self.adopt_within) => Manner::Politely,
        }
    }
}

/// How an engine is to be ended.
enum Manner {
    AtOnce,
    Politely,
}
