//! One generation of an engine from start to end: starts the process, drains it, looks at its health, waits
//! for it, classifies its end. Owns the process; tells the actor and never waits for it beyond the channel.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use api_types::pool::UnreadyCause;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Process;
use crate::engine::command::{EngineSpec, LaunchParams, llama_server};
use crate::engine::ending::{self, EVIDENCE_LINES, Ending};
use crate::engine::output::Output;
use crate::engine::probe::{LOADING_INTERVAL, LOOPBACK, Look, Prober};
use crate::engine::process::{EngineProcess, Pipes};
use crate::state_dir::write_key;

/// Answers in a row that must fail before a serving engine counts as unhealthy: one lost answer is no reason
/// to end running streams.
const UNHEALTHY_AFTER: u32 = 3;

/// How long the output of an ended engine is read on. Its whole group is dead; only a process that left the
/// group can still hold the pipe.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Everything one start needs.
pub(super) struct Launch {
    pub spec: EngineSpec,
    pub program: PathBuf,
    pub model: PathBuf,
    pub dir: PathBuf,
    pub health_interval: Duration,
    pub grace: Duration,
    pub client: http_util::Client,
    pub output: Arc<Output>,
    /// End it, with grace.
    pub stop: CancellationToken,
    /// End it at once.
    pub kill: CancellationToken,
}

/// What the monitor tells.
#[derive(Debug)]
pub(super) enum News {
    /// The process runs.
    Started(Process),
    /// It was looked at; only what differs from the look before.
    Looked(Look),
    /// It served and does no longer.
    Unhealthy(String),
    /// It is gone, or never came to be. Always the last.
    Ended(Ending),
}

/// Runs one generation to its end.
pub(super) async fn run(launch: Launch, news: mpsc::Sender<News>) {
    let key_file = key_file(&launch.dir, launch.output.generation());
    let ending = match start(&launch, key_file.clone()).await {
        Ok(started) => live(started, &launch, &news).await,
        Err(error) => not_started(&error),
    };
    launch.output.close(ending.how.clone());
    // A key that cannot be removed is of no use to anybody once its engine is gone.
    let _removed_or_useless = std::fs::remove_file(key_file);
    // The actor listens until this news; when it is gone, so is the reason to tell it.
    let _told_or_gone = news.send(News::Ended(ending)).await;
}

struct Started {
    process: EngineProcess,
    pipes: Pipes,
    port: u16,
    oom_kills: Option<u64>,
}

async fn start(launch: &Launch, key_file: PathBuf) -> io::Result<Started> {
    let spec = launch.spec.clone();
    let (program, model, dir) = (launch.program.clone(), launch.model.clone(), launch.dir.clone());
    let output = Arc::clone(&launch.output);
    spawn_blocking(move || {
        write_key(&key_file, output.key())?;
        let port = free_port()?;
        let params = LaunchParams {
            program,
            model,
            dir,
            port,
            key_file,
        };
        let oom_kills = ending::oom_kills();
        let (process, pipes) = EngineProcess::spawn(&llama_server(&spec, &params))?;
        Ok(Started {
            process,
            pipes,
            port,
            oom_kills,
        })
    })
    .await
    .map_err(io::Error::other)?
}

fn key_file(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("api-key.{generation}"))
}

/// A port that was free a moment ago. Whoever takes it meanwhile makes this start fail, and the next one asks
/// again.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((LOOPBACK, 0))?.local_addr()?.port())
}

fn not_started(error: &io::Error) -> Ending {
    let missing = matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    );
    Ending {
        cause: if missing {
            UnreadyCause::EngineMissing
        } else {
            UnreadyCause::EngineExited
        },
        how: format!("not started: {error}"),
        last_error: None,
    }
}

/// From the first breath to the last word.
async fn live(started: Started, launch: &Launch, news: &mpsc::Sender<News>) -> Ending {
    let Started {
        mut process,
        pipes,
        port,
        oom_kills,
    } = started;
    let output = &*launch.output;
    let mut words = pin!(async {
        tokio::join!(output.drain(pipes.stdout), output.drain(pipes.stderr));
    });
    let mut life = pin!(supervise(&mut process, port, launch, news));
    let mut complete = false;
    let status = loop {
        tokio::select! {
            biased;
            status = &mut life => break status,
            () = &mut words, if !complete => complete = true,
        }
    };
    if !complete {
        // Nothing is lost by giving up but words of a process that is not the engine's.
        let _complete_or_cut = timeout(LAST_WORDS, words).await;
    }
    match status {
        Ok(status) => ending::classify(status, &output.tail(EVIDENCE_LINES), oom_since(oom_kills)),
        Err(error) => Ending {
            cause: UnreadyCause::EngineExited,
            how: format!("lost: {error}"),
            last_error: ending::quote(&output.tail(EVIDENCE_LINES)),
        },
    }
}

fn oom_since(before: Option<u64>) -> Option<bool> {
    Some(ending::oom_kills()? > before?)
}

async fn supervise(
    process: &mut EngineProcess,
    port: u16,
    launch: &Launch,
    news: &mpsc::Sender<News>,
) -> io::Result<ExitStatus> {
    let pid = process.pid();
    let watching = async {
        tell(news, News::Started(Process { pid, port })).await;
        match Prober::new(&launch.client, port, pid, &launch.spec, launch.output.key()) {
            Ok(prober) => watch_health(&prober, launch.health_interval, news).await,
            Err(error) => {
                tell(news, News::Looked(Look::Wrong(error.to_string()))).await;
                std::future::pending().await
            }
        }
    };
    tokio::select! {
        biased;
        status = process.wait() => status,
        () = launch.kill.cancelled() => process.terminate(Duration::ZERO).await,
        () = launch.stop.cancelled() => end_politely(process, launch).await,
        never = watching => match never {},
    }
}

async fn end_politely(process: &mut EngineProcess, launch: &Launch) -> io::Result<ExitStatus> {
    tokio::select! {
        biased;
        () = launch.kill.cancelled() => process.terminate(Duration::ZERO).await,
        status = process.terminate(launch.grace) => status,
    }
}

async fn watch_health(prober: &Prober, interval: Duration, news: &mpsc::Sender<News>) -> Infallible {
    let mut before = Look::Silent;
    while !matches!(before, Look::Serving(_)) {
        sleep(LOADING_INTERVAL).await;
        let look = prober.look().await;
        if look != before {
            tell(news, News::Looked(look.clone())).await;
        }
        before = look;
    }
    let mut misses = 0;
    loop {
        sleep(interval).await;
        match prober.still_serves().await {
            Ok(()) => misses = 0,
            Err(what) => {
                misses += 1;
                if misses == UNHEALTHY_AFTER {
                    tell(news, News::Unhealthy(what)).await;
                }
            }
        }
    }
}

async fn tell(news: &mpsc::Sender<News>, what: News) {
    // The actor is gone only when the whole daemon goes; the process is ended by then.
    let _told_or_gone = news.send(what).await;
}
