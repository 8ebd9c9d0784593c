//! A real registry on the loopback, with its blobs in a temporary folder.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use container_runtime::{Digest, ImageRef};
use tempfile::TempDir;
use test_harness_support::daemon::{Command, Process};
use test_harness_support::http1::{Call, call};
use test_harness_support::wait::{Look, wait_for};

use super::{PATIENCE, Real};

/// See the module.
pub(crate) struct Registry {
    address: SocketAddr,
    _process: Process,
    dir: TempDir,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            dir.path().join("blobs").display()
        );
        fs::write(&config, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .spawn()
            .unwrap();
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
        .await
        .unwrap();
        Self {
            address,
            _process: process,
            dir,
        }
    }

    /// `127.0.0.1:PORT/NAME`.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub(crate) fn reference(&self, name: &str) -> ImageRef {
        ImageRef::parse(&self.image(name)).unwrap()
    }

    /// Makes an image, pushes it under `name`, and forgets it.
    pub(crate) fn push(&self, real: &Real, name: &str, text: &str) {
        let name = self.image(name);
        real.make_image(&name, text);
        real.client(&["push", &name]);
        real.client(&["image", "rm", "--force", &name]);
    }

    /// The digest that the registry has for a tag, without asking the runtime.
    pub(crate) async fn digest(&self, name: &str, tag: &str) -> Digest {
        let manifest = Call::get(&format!("/v2/{name}/manifests/{tag}")).header(
            "Accept",
            "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json",
        );
        let answer = call(self.address, &manifest).await.unwrap();
        Digest::parse(answer.header("Docker-Content-Digest").unwrap()).unwrap()
    }

    /// Where the registry keeps the bytes of a digest.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.as_str().trim_start_matches("sha256:");
        let folder = self.dir.path().join("blobs/docker/registry/v2/blobs/sha256");
        folder.join(&hex[..2]).join(hex).join("data")
    }
}
