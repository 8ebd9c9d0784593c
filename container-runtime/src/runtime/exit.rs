//! Waiting for the end of a container's program by its process, so that the runtime need not be asked again and again.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::ContainerRuntime;
use crate::container::{ContainerId, Ending, State};
use crate::error::Error;

/// How long the runtime may need to see what the kernel has shown us, and the pause between two looks.
const LOOKS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn wait(runtime: &ContainerRuntime, id: &ContainerId) -> Result<Option<Ending>, Error> {
    let mut last = String::new();
    for _look in 0..LOOKS {
        match runtime.inspect(id).await?.map(|container| container.state) {
            None => return Ok(None),
            Some(State::Ended(ending)) => return Ok(Some(ending)),
            Some(State::Running { pid }) => {
                process_end(runtime, id, pid).await?;
                last = format!("still running as {pid}, which is gone");
            }
            Some(State::Created) => last = "not started".to_owned(),
            Some(State::Other(status)) => last = status,
        }
        sleep(PAUSE).await;
    }
    let problem = format!("the container's program has ended, yet it is {last}");
    Err(runtime.cli().junk(crate::error::Action::Inspect, problem, &[]))
}

/// Returns when the process has ended. The runtime is asked once more after the process is held, so that a number which
/// was given to another process meanwhile is not waited for.
async fn process_end(runtime: &ContainerRuntime, id: &ContainerId, pid: u32) -> Result<(), Error> {
    let held = Pid::from_raw(pid.cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK));
    let Some(Ok(pidfd)) = held else {
        return Ok(());
    };
    let now = runtime.inspect(id).await?.map(|container| container.state);
    if now != Some(State::Running { pid }) {
        return Ok(());
    }
    readable(pidfd)
        .await
        .map_err(|source| runtime.cli().not_started(source))
}

/// Readable once the process has ended.
#[expect(
    deprecated,
    reason = "its successor is an unsafe fn whose condition (a descriptor that stays open and the same) an OwnedFd meets"
)]
async fn readable(pidfd: OwnedFd) -> io::Result<()> {
    let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
    let _guard = pidfd.readable().await?;
    Ok(())
}
