//! An engine in a container, as its shim holds it. The container is the runtime's child, not the shim's: it is found by its
//! owner's labels, held by its first process, and its output is read by the runtime's client.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use container_runtime::{ContainerId, ContainerRuntime, Ending, Logs, Since, State};
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::engine::{Outcome, Streams};
use super::orders::Record;
use super::remains::{Place, RunningContainer};
use crate::engine::container::{Client, ContainerRun, NotStarted};
use crate::engine::listener::sockets_on;
use crate::procfs::{self, ProcessIdentity, watched};

/// How often a runtime is asked how a container has ended, and the pause between: it may be restarting.
const ASKED: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// A container that was started.
pub(super) struct ContainedEngine {
    runtime: ContainerRuntime,
    id: ContainerId,
    /// Its first process; absent when that had ended before it was seen.
    held: Option<(ProcessIdentity, AsyncFd<OwnedFd>)>,
    /// Kept until the end: dropping it ends the client that reads.
    logs: Option<Logs>,
    /// From where on they are read.
    since: Since,
}

impl ContainedEngine {
    pub(super) async fn start(
        run: &ContainerRun,
        client: &Client,
        args: &[OsString],
        env: &[(String, String)],
        record: &mut Record,
    ) -> Result<Self, NotStarted> {
        let Place::Container(contained) = &mut record.start.place else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        };
        let runtime = client.runtime(contained.backend).await?;
        let id = run.start(&runtime, contained.owner.clone(), args, env).await?;
        let held = match hold(&runtime, &id).await {
            Ok(held) => held,
            Err(error) => {
                // The first error is the one that tells; what cannot be removed now is the daemon's to remove.
                let _removed_or_later = runtime.remove(&id).await;
                return Err(error);
            }
        };
        let pid = held.as_ref().map(|(process, _)| process.pid);
        contained.running = Some(RunningContainer {
            id: id.to_string(),
            pid_namespace: pid.and_then(procfs::pid_namespace),
            sockets: sockets_on(run.host_port)?,
        });
        record.engine = held.as_ref().map(|(process, _)| *process);
        Ok(Self {
            runtime,
            id,
            held,
            logs: None,
            since: Since::Start,
        })
    }

    /// The container of a record, which runs without a shim: the same one by its labels, and by the number and the start of
    /// its first process.
    pub(super) async fn found(client: &Client, record: &Record) -> Result<Self, NotStarted> {
        let not = |what: &str| io::Error::other(format!("its container cannot be held again: {what}"));
        let unrecorded = || not("it was not recorded");
        let contained = record.start.contained().ok_or_else(unrecorded)?;
        let running = contained.running.as_ref().ok_or_else(unrecorded)?;
        let id = ContainerId::parse(&running.id).ok_or_else(unrecorded)?;
        let runtime = client.runtime(contained.backend).await?;
        let container = runtime.inspect(&id).await?;
        let held = hold(&runtime, &id).await?;
        let owner = container.and_then(|container| container.owner);
        if owner.as_ref() != Some(&contained.owner) {
            return Err(not("its labels are another start's").into());
        }
        match held.as_ref().map(|(process, _)| *process) {
            None => return Err(not("it has ended").into()),
            alive if alive != record.engine => return Err(not("its first process is another one").into()),
            Some(_) => {}
        }
        Ok(Self {
            runtime,
            id,
            held,
            logs: None,
            since: Since::Now,
        })
    }

    pub(super) async fn streams(&mut self) -> Streams {
        // Without its output an engine still serves; its end is told without its last words.
        let Ok(Some(mut logs)) = self.runtime.logs(&self.id, self.since).await else {
            return (None, None);
        };
        let streams = logs.take_streams().ok();
        self.logs = Some(logs);
        streams.map_or((None, None), |(stdout, stderr)| (Some(stdout), Some(stderr)))
    }

    /// Waits for the end of its first process, without asking the runtime meanwhile. Cancel safe.
    pub(super) async fn ended(&mut self) -> io::Result<Outcome> {
        if let Some((_, ended)) = &self.held {
            let _readable = ended.readable().await?;
        }
        let mut told = self.runtime.wait(&self.id).await;
        for _ in 1..ASKED {
            if told.is_ok() {
                break;
            }
            sleep(PAUSE).await;
            told = self.runtime.wait(&self.id).await;
        }
        Ok(outcome(told.map_err(io::Error::other)?))
    }

    /// By the runtime, which asks and kills after the grace; a runtime that does not answer is gone round.
    pub(super) async fn stop(&self, grace: Duration) {
        if self.runtime.stop(&self.id, grace).await.is_err() {
            self.signal(Signal::TERM);
        }
    }

    /// The kernel ends all of a container's processes with its first one. Where that is not ours to kill, the runtime
    /// does it.
    pub(super) async fn kill(&self) {
        if !self.signal(Signal::KILL) {
            // What cannot be killed is told by the wait that follows.
            let _killed_or_told = self.runtime.kill(&self.id).await;
        }
    }

    fn signal(&self, signal: Signal) -> bool {
        let process = self.held.as_ref().map(|(process, _)| *process);
        process.is_none_or(|process| process.signal(signal).is_ok())
    }
}

/// Holds the first process of a container; `None` when it has ended.
async fn hold(
    runtime: &ContainerRuntime,
    id: &ContainerId,
) -> Result<Option<(ProcessIdentity, AsyncFd<OwnedFd>)>, NotStarted> {
    let state = runtime.inspect(id).await?.map(|container| container.state);
    let Some(State::Running { pid }) = state else {
        return Ok(None);
    };
    let Ok(process) = ProcessIdentity::of(pid) else {
        return Ok(None);
    };
    let Some(handle) = process.open()? else {
        return Ok(None);
    };
    Ok(Some((process, watched(handle)?)))
}

/// In wait(2)'s terms. A container that is gone was removed, and its program killed, by somebody else.
fn outcome(ending: Option<Ending>) -> Outcome {
    let Some(ending) = ending else {
        return Outcome {
            wait_status: Signal::KILL.as_raw(),
            oom_killed: false,
        };
    };
    Outcome {
        wait_status: ending.signal().unwrap_or(ending.code << 8),
        oom_killed: ending.oom_killed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    #[test]
    fn codes_of_containers_are_signals_where_they_say_so() {
        let of = |code, oom_killed| {
            let outcome = outcome(Some(Ending { code, oom_killed }));
            let status = ExitStatus::from_raw(outcome.wait_status);
            (status.code(), status.signal(), outcome.oom_killed)
        };
        assert_eq!(of(0, false), (Some(0), None, false));
        assert_eq!(of(3, false), (Some(3), None, false));
        assert_eq!(of(137, true), (None, Some(9), true));
        assert_eq!(of(139, false), (None, Some(11), false));
        let gone = ExitStatus::from_raw(outcome(None).wait_status);
        assert_eq!(gone.signal(), Some(9));
    }
}
