//! The programs of a run: each on its core, its output in files, ended when dropped. Touches processes that it started
//! and the folder it is given.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use test_harness_support::wait::{Look, wait_for};

use crate::cpus::{Cpus, Side};

/// Long for a program that only binds a socket, short for a person who waits.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How much of a log an error shows, bytes.
const SHOWN_LOG: usize = 4 << 10;

/// A running program. Its standard streams are files: a pipe would need a reader on a measured core.
#[derive(Debug)]
pub(crate) struct Child {
    name: &'static str,
    process: std::process::Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Child {
    /// Starts `command` as `name`, which names its output files in `folder` too.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        (cpus, side): (&Cpus, Side),
        folder: &Path,
    ) -> Result<Self> {
        let (stdout, stderr) = (
            folder.join(format!("{name}.out")),
            folder.join(format!("{name}.log")),
        );
        command
            .stdin(Stdio::null())
            .stdout(create(&stdout)?)
            .stderr(create(&stderr)?);
        cpus.pin(side)?;
        let process = command.spawn();
        cpus.pin(Side::Load)?;
        let process =
            process.with_context(|| format!("starting {name} ({})", command.get_program().display()))?;
        Ok(Self {
            name,
            process,
            stdout,
            stderr,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The first line that it writes to its standard output.
    ///
    /// # Errors
    /// It ends before, or takes too long.
    pub(crate) async fn first_line(&mut self) -> Result<String> {
        self.wait("its first line", |child| {
            let text = fs::read_to_string(&child.stdout).unwrap_or_default();
            text.split_once('\n').map(|(line, _)| line.to_owned())
        })
        .await
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    /// It ends before, or takes too long.
    pub(crate) async fn accepts(&mut self, address: SocketAddr) -> Result<()> {
        self.wait("its socket", |_| {
            std::net::TcpStream::connect(address).ok().map(drop)
        })
        .await
    }

    async fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        let what = format!("{what}: {}", self.name);
        let found = wait_for(&what, START_LIMIT, || {
            let found = match (look(self), self.process.try_wait()) {
                (Some(found), _) => Look::Ready(Ok(found)),
                (None, Ok(None)) => Look::NotYet("it runs"),
                (None, ended) => Look::Ready(Err(ended)),
            };
            std::future::ready(found)
        });
        match found.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(ended)) => bail!("{} ended ({ended:?}):\n{}", self.name, self.log()),
            Err(late) => bail!("{late}:\n{}", self.log()),
        }
    }

    /// The end of its log.
    fn log(&self) -> String {
        let log = fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(SHOWN_LOG)..]).into_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Each can only fail because it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("creating {}", path.display()))
}

/// A loopback address where nobody listens, for programs that cannot choose one and tell.
///
/// # Errors
/// No port is free.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener =
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, folder: &Path) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Child::start("sh", command, (&Cpus::find().unwrap(), Side::Relay), folder).unwrap()
    }

    #[tokio::test]
    async fn the_first_line_is_read_and_the_program_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sh("echo ready; exec sleep 60", folder.path());
        let pid = child.pid();
        assert_eq!(child.first_line().await.unwrap(), "ready");
        drop(child);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[tokio::test]
    async fn a_program_that_ends_too_early_is_told_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let error = sh("echo no such thing >&2; exit 3", folder.path())
            .first_line()
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("no such thing") && text.contains("sh ended"),
            "{text}"
        );
    }
}
