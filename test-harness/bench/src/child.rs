//! The programs of a run: each on its core, its output in files, ended when dropped. Touches processes that it started
//! and the folder it is given.

use std::cell::RefCell;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use test_harness_support::wait::{Look, wait_for};

use crate::cpus::{Cpus, Side};
use crate::http::Connection;

/// Long for a program that only binds a socket, short for a person who waits.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How much of a log an error shows, bytes.
const SHOWN_LOG: usize = 4 << 10;

/// A running program. Its standard streams are files: a pipe would need a reader on a measured core.
#[derive(Debug)]
pub(crate) struct Child {
    name: &'static str,
    process: RefCell<std::process::Child>,
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
            process: RefCell::new(process),
            stdout,
            stderr,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.borrow().id()
    }

    /// The first line that it writes to its standard output.
    ///
    /// # Errors
    /// It ends before, or takes too long.
    pub(crate) async fn first_line(&self) -> Result<String> {
        let read = async || {
            let text = fs::read_to_string(&self.stdout).unwrap_or_default();
            text.split_once('\n').map(|(line, _)| line.to_owned())
        };
        self.wait("its first line", read).await
    }

    /// Waits until it answers `GET /health` well: a server may accept connections before it is ready.
    ///
    /// # Errors
    /// It ends before, or takes too long.
    pub(crate) async fn answers(&self, address: SocketAddr) -> Result<()> {
        self.wait("its first answer", async || healthy(address).await.ok())
            .await
    }

    async fn wait<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> Result<T> {
        let what = format!("{what}: {}", self.name);
        match wait_for(&what, START_LIMIT, || self.look(&look)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(ended)) => bail!("{} ended ({ended}):\n{}", self.name, self.log()),
            Err(late) => bail!("{late}:\n{}", self.log()),
        }
    }

    async fn look<T>(&self, look: &impl AsyncFn() -> Option<T>) -> Look<Result<T, ExitStatus>, &'static str> {
        if let Some(found) = look().await {
            return Look::Ready(Ok(found));
        }
        match self.process.borrow_mut().try_wait() {
            Ok(Some(status)) => Look::Ready(Err(status)),
            Ok(None) | Err(_) => Look::NotYet("it runs"),
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
        let _ = self.process.get_mut().kill();
        let _ = self.process.get_mut().wait();
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("creating {}", path.display()))
}

async fn healthy(address: SocketAddr) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    let head = connection.get("/health").await?;
    connection.whole(&head, 200).await.map(drop)
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
        let child = sh("echo ready; exec sleep 60", folder.path());
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
