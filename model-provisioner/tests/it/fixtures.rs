//! A provisioner that may reach scripted servers, a hub of its own, and small models.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api_types::{Lifecycle, ModelEntry, ModelRef, Sha256Digest};
use downloader::{Downloads, Effort, Policy};
use http_util::retry::RetryPolicy;
use model_provisioner::{
    HubSettings, Notice, Plan, ProvisionError, Provisioner, Reporter, Settings, Unreported,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use test_harness_support::file_server::{FileServer, Resource};
use test_harness_support::gguf::TinyModel;
use tokio_util::sync::CancellationToken;

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// 2026-01-01, so that entries have a time that is plain to see.
pub(crate) const NOW: u64 = 1_767_225_600_000;

/// A model file that can be read.
pub(crate) fn model(seed: u64) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let tiny = TinyModel {
        seed,
        layers: 1,
        embedding: 32,
        feed_forward: 32,
        heads: 2,
        heads_kv: 1,
        ..TinyModel::default()
    };
    tiny.write(&path).unwrap();
    std::fs::read(path).unwrap()
}

pub(crate) fn digest(content: &[u8]) -> Sha256Digest {
    Sha256Digest::new(Sha256::digest(content).into())
}

pub(crate) fn settings(folder: &TempDir, private: &[String]) -> Settings {
    Settings {
        policy: Policy {
            downloads: Downloads::Allowlist,
            allowed_hosts: Vec::new(),
            private_origins: private.iter().map(|origin| origin.parse().unwrap()).collect(),
        },
        effort: Effort {
            segment: 16 << 10,
            retry: RetryPolicy {
                attempts: 4,
                base_delay: Duration::from_millis(1),
                max_delay: Duration::from_millis(4),
            },
            ..Effort::default()
        },
        ..Settings::new(folder.path().join("cache"))
    }
}

pub(crate) fn provisioner(settings: Settings) -> Provisioner {
    Provisioner::new(settings, || NOW).unwrap()
}

/// Keeps what it is told.
#[derive(Clone, Default)]
pub(crate) struct Ear(Arc<Mutex<Vec<Notice>>>);

impl Ear {
    pub(crate) fn told(&self) -> Vec<Notice> {
        self.0.lock().unwrap().clone()
    }
}

impl Reporter for Ear {
    fn notice(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

/// A hub with one repository.
pub(crate) struct Hub {
    pub(crate) server: FileServer,
    pub(crate) folder: TempDir,
    siblings: Vec<Value>,
}

pub(crate) const REPO: &str = "org/repo";
pub(crate) const LIST: &str = "/api/models/org/repo/revision/main";

impl Hub {
    pub(crate) async fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let mut hub = Self {
            server: FileServer::start().await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
            siblings: Vec::new(),
        };
        for (name, content) in files {
            hub.file(name, content.clone());
        }
        hub
    }

    /// Adds a file. Small ones have no digest in the list, as on the real hub.
    fn file(&mut self, name: &str, content: Vec<u8>) {
        let mut sibling = json!({"rfilename": name, "size": content.len()});
        if content.len() > 1_000 {
            sibling["lfs"] = json!({"sha256": digest(&content).hex(), "size": content.len()});
        }
        self.siblings.push(sibling);
        self.server.serve(&Self::path(name), Resource::new(content, name));
        let list = json!({"id": REPO, "sha": COMMIT, "siblings": self.siblings});
        self.server.serve(LIST, Resource::json(&list));
    }

    pub(crate) fn path(name: &str) -> String {
        format!("/{REPO}/resolve/{COMMIT}/{name}")
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            hub: HubSettings {
                endpoint: Some(self.server.url("").parse().unwrap()),
                token: None,
            },
            ..settings(&self.folder, &[self.server.url("")])
        }
    }

    pub(crate) fn provisioner(&self) -> Provisioner {
        provisioner(self.settings())
    }

    pub(crate) async fn plan(&self, reference: &str) -> Result<Plan, ProvisionError> {
        plan(&self.provisioner(), reference).await
    }

    pub(crate) async fn pull(&self, reference: &str) -> Result<ModelEntry, ProvisionError> {
        pull(&self.provisioner(), reference).await
    }
}

pub(crate) async fn plan(with: &Provisioner, reference: &str) -> Result<Plan, ProvisionError> {
    let reference: ModelRef = reference.parse().unwrap();
    with.plan(&reference, None, None, &CancellationToken::new()).await
}

pub(crate) async fn pull(with: &Provisioner, reference: &str) -> Result<ModelEntry, ProvisionError> {
    let plan = plan(with, reference).await?;
    carry_out(with, &plan).await
}

pub(crate) async fn carry_out(with: &Provisioner, plan: &Plan) -> Result<ModelEntry, ProvisionError> {
    with.execute(plan, Arc::new(Unreported), &CancellationToken::new())
        .await
}

/// The model is in the catalog, active, and each of its files has the bytes that its digest names.
pub(crate) fn is_whole(with: &Provisioner, entry: &ModelEntry) {
    let located = with
        .catalog()
        .locate(&ModelRef::from(&entry.id))
        .unwrap()
        .unwrap();
    assert_eq!((&located.entry, located.missing.len()), (entry, 0));
    assert_eq!(entry.state, Lifecycle::Active);
    for (file, path) in entry.files.iter().zip(&located.paths) {
        assert_eq!(
            digest(&std::fs::read(path).unwrap()),
            file.sha256,
            "{}",
            file.name
        );
    }
}

/// No model is shown, and no file has the name of one.
pub(crate) fn is_empty(with: &Provisioner) {
    let page = with.catalog().models(catalog_core::Filter::default(), 9).unwrap();
    assert_eq!(page.entries, []);
    assert!(
        !with.catalog().root().join("models").exists(),
        "nothing partial is visible"
    );
}
