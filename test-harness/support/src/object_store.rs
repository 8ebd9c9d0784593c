//! An object store that speaks S3 (moto's server) on loopback. Runs python3 and pip, which may use the network.

use std::net::SocketAddr;
use std::time::Duration;

use crate::daemon::{Command, Process};
use crate::http1::{Call, call};
use crate::python_tool::{self, Package};

/// The package and its version.
const PACKAGE: &str = "moto[server,s3]==5.2.5";
/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server; it ends with this value.
pub struct ObjectStore {
    address: SocketAddr,
    _process: Process,
}

impl ObjectStore {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// It cannot be installed, or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let venv = tokio::task::spawn_blocking(|| {
            python_tool::environment(Package {
                name: "moto",
                requirement: PACKAGE,
                with_dependencies: true,
            })
        })
        .await??;
        let process = Command::new(venv.join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", "0"])
            .spawn()?;
        let address = process.address_behind("Running on http://", PATIENCE).await?;
        Ok(Self {
            address,
            _process: process,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a bucket, or stores an object: `path` is `/bucket` or `/bucket/key`.
    ///
    /// # Errors
    /// The store refuses it.
    pub async fn put(&self, path: &str, content: &[u8], headers: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut put = Call::new("PUT", path).body(content);
        // The store takes whoever says something for somebody.
        put = put.header(
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none",
        );
        if content.is_empty() {
            put = put.header("Content-Length", "0");
        }
        for (name, value) in headers {
            put = put.header(name, value);
        }
        let answer = call(self.address, &put).await?;
        anyhow::ensure!(
            answer.status == 200,
            "the store answers {}: {}",
            answer.status,
            answer.text()
        );
        Ok(())
    }
}
