//! A real registry on the loopback, with its blobs in a temporary folder.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::daemon::{Command, Process};
use crate::http1::{Call, call};
use crate::wait::{Look, wait_for};

/// Longer than its start takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub struct Registry {
    address: SocketAddr,
    _process: Process,
    dir: TempDir,
}

impl Registry {
    /// Starts Debian's `docker-registry` on a free port.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            dir.path().join("blobs").display()
        );
        fs::write(&config, text)?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .spawn()?;
        let address = wait_for("the registry", PATIENCE, || async {
            let logs = process.logs();
            let word = logs
                .split("listening on ")
                .nth(1)
                .and_then(|rest| rest.split(['"', ' ', '\n']).next());
            match word.and_then(|word| word.parse().ok()) {
                Some(address) => Look::Ready(address),
                None => Look::NotYet(logs),
            }
        })
        .await?;
        Ok(Self {
            address,
            _process: process,
            dir,
        })
    }

    /// `127.0.0.1:PORT/NAME`.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The digest, `sha256:…`, that the registry has for a tag, without asking a runtime.
    ///
    /// # Errors
    /// It does not answer, or has no such tag.
    pub async fn digest(&self, name: &str, tag: &str) -> Result<String> {
        let manifest = Call::get(&format!("/v2/{name}/manifests/{tag}")).header(
            "Accept",
            "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json",
        );
        let answer = call(self.address, &manifest).await?;
        let digest = answer.header("Docker-Content-Digest");
        Ok(digest.context("no digest")?.to_owned())
    }

    /// Where the registry keeps the bytes of a digest.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let folder = self.dir.path().join("blobs/docker/registry/v2/blobs/sha256");
        folder.join(&hex[..2]).join(hex).join("data")
    }
}
