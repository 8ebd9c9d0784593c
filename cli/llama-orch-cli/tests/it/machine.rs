//! A GPU box for commands that work on their own machine: a configuration, a catalog, GPUs that are not there, and a hub
//! with one repository.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use test_harness_support::fake_nvml::{FakeNvml, library_path};
use test_harness_support::file_server::{FileServer, Resource};
use test_harness_support::gguf::TinyModel;

use crate::process::{Ended, ended};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The first of the GPUs.
pub(crate) const GPU: &str = "GPU-fake0000-0000-4000-8000-000000000000";
/// The reference of the hub's one model.
pub(crate) const MODEL: &str = "hf:org/repo/m.gguf";

pub(crate) struct Machine {
    pub(crate) folder: TempDir,
    pub(crate) hub: FileServer,
    pub(crate) nvml: FakeNvml,
    /// Variables of every command.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Machine {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let hub = FileServer::start().await?;
        let nvml = FakeNvml::reference_box(folder.path().join("nvml.json"))?;
        let (variable, file) = nvml.env();
        let variables = vec![
            ("HF_ENDPOINT", hub.url("")),
            (variable, file.display().to_string()),
        ];
        let machine = Self {
            folder,
            hub,
            nvml,
            variables,
        };
        machine.configure("")?;
        Ok(machine)
    }

    /// With more lines in the configuration. Nobody listens where the daemons would.
    pub(crate) fn configure(&self, more: &str) -> anyhow::Result<()> {
        let root = self.catalog();
        let (orchestratord, node) = (free_port()?, free_port()?);
        let orchestrator = if more.starts_with("[orchestratord]") {
            String::new()
        } else {
            format!("[orchestratord]\naddr = \"{orchestratord}\"\n")
        };
        let config = format!(
            "[catalog]\nroot = {root:?}\nprivate_origins = [{:?}]\n\
             [pool_managerd]\naddr = \"{node}\"\nnvml_library = {:?}\n{orchestrator}{more}",
            self.hub.url(""),
            library_path()?,
        );
        Ok(fs::write(self.folder.path().join("config.toml"), config)?)
    }

    /// The hub serves this as the model.
    pub(crate) fn serve(&self, content: &[u8]) {
        let list = json!({"id": "org/repo", "sha": COMMIT, "siblings": [
            {"rfilename": "m.gguf", "size": content.len(),
             "lfs": {"sha256": hex_digest(content), "size": content.len()}}
        ]});
        self.hub
            .serve("/api/models/org/repo/revision/main", Resource::json(&list));
        self.hub
            .serve(&Self::file(), Resource::new(content.to_vec(), "m"));
    }

    pub(crate) fn file() -> String {
        format!("/org/repo/resolve/{COMMIT}/m.gguf")
    }

    pub(crate) fn catalog(&self) -> PathBuf {
        self.folder.path().join("catalog")
    }

    pub(crate) fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llama-orch"));
        command
            .env_clear()
            .env("LLAMA_ORCH_CONFIG", self.folder.path().join("config.toml"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .args(line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, line: &[&str]) -> anyhow::Result<Ended> {
        ended(&mut self.command(line))
    }

    /// The document that a command writes with `--json`, and its exit.
    pub(crate) fn json(&self, line: &[&str]) -> anyhow::Result<(Value, Option<i32>)> {
        let done = self.run(&[line, &["--json"]].concat())?;
        let document = serde_json::from_str(&done.out);
        let document = document.map_err(|error| anyhow::anyhow!("{error}: {done:?}"))?;
        Ok((document, done.code))
    }
}

/// Of the loopback; nobody had it a moment ago.
fn free_port() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A model file of a few hundred KiB.
pub(crate) fn model() -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("m.gguf");
    let tiny = TinyModel {
        layers: 1,
        ..TinyModel::default()
    };
    tiny.write(&path)?;
    Ok(fs::read(path)?)
}

pub(crate) fn hex_digest(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
