//! A real registry on the loopback, with its blobs in a temporary folder.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::daemon::{Command, Process};
use crate::http1::{Answer, Call, call};

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
        let address = process.address_behind("listening on ", PATIENCE).await?;
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

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stores bytes in a repository; gives their digest, `sha256:…`.
    ///
    /// # Errors
    /// The registry refuses them.
    pub async fn push_blob(&self, repository: &str, content: &[u8]) -> Result<String> {
        let digest = format!("sha256:{}", hex_of(content));
        let begun = call(
            self.address,
            &Call::post(&format!("/v2/{repository}/blobs/uploads/")),
        )
        .await?;
        let location = begun.header("Location").unwrap_or_default();
        let path = location
            .split_once("://")
            .map_or(location, |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
        let joint = if path.contains('?') { '&' } else { '?' };
        let put = Call::new("PUT", &format!("{path}{joint}digest={digest}"))
            .header("Content-Type", "application/octet-stream")
            .body(content);
        stored(call(self.address, &put).await?)?;
        Ok(digest)
    }

    /// Stores a manifest under a tag; gives its digest, `sha256:…`.
    ///
    /// # Errors
    /// The registry refuses it.
    pub async fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        manifest: &str,
    ) -> Result<String> {
        let put = Call::new("PUT", &format!("/v2/{repository}/manifests/{tag}"))
            .header("Content-Type", media_type)
            .body(manifest);
        stored(call(self.address, &put).await?)?;
        Ok(format!("sha256:{}", hex_of(manifest.as_bytes())))
    }
}

fn stored(answer: Answer) -> Result<()> {
    anyhow::ensure!(
        answer.status == 201,
        "the registry answers {}: {}",
        answer.status,
        answer.text()
    );
    Ok(())
}

fn hex_of(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
