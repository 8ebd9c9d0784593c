//! A downloader that may reach scripted servers, and what it tells.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api_types::Sha256Digest;
use async_trait::async_trait;
use downloader::{
    Ask, Complete, Credential, Downloader, Downloads, Effort, Event, FetchError, Guard, Observer, Origin,
    Policy, Timeouts, Transport, Wanted,
};
use http_util::retry::RetryPolicy;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use test_harness_support::file_server::{FileServer, Resource};
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) const PATH: &str = "/m.gguf";

/// Bytes that differ everywhere, so that a part in the wrong place is seen.
pub(crate) fn content(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

pub(crate) fn digest(content: &[u8]) -> Sha256Digest {
    Sha256Digest::new(Sha256::digest(content).into())
}

/// Impatient: tests have nothing to wait for.
pub(crate) fn effort() -> Effort {
    Effort {
        connections: 3,
        segment: 8 << 10,
        retry: RetryPolicy {
            attempts: 4,
            base_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(4),
        },
        ..Effort::default()
    }
}

pub(crate) fn policy(private: &[&FileServer]) -> Policy {
    Policy {
        downloads: Downloads::On,
        allowed_hosts: Vec::new(),
        private_origins: private
            .iter()
            .map(|server| server.url("").parse().unwrap())
            .collect(),
    }
}

pub(crate) fn transport(policy: Policy) -> Transport {
    let timeouts = Timeouts {
        idle: Duration::from_millis(300),
        ..Timeouts::default()
    };
    Transport::new(Guard::new(policy), timeouts).unwrap()
}

/// What a download has told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) resumed: u64,
    pub(crate) received: u64,
    pub(crate) discarded: u64,
    pub(crate) retries: Vec<String>,
}

#[derive(Default, Clone)]
pub(crate) struct Ear(pub(crate) Arc<Mutex<Told>>);

impl Observer for Ear {
    fn event(&self, _name: &str, event: Event<'_>) {
        let mut told = self.0.lock().unwrap();
        match event {
            Event::Resumed { bytes } => told.resumed += bytes,
            Event::Received { bytes } => told.received += bytes,
            Event::Discarded { bytes, .. } => told.discarded += bytes,
            Event::Retrying { error, .. } => told.retries.push(error.to_string()),
        }
    }
}

struct At(Url, Option<Credential>);

#[async_trait]
impl Origin for At {
    async fn ask(&self, _again: bool) -> Result<Ask, FetchError> {
        Ok(Ask::new(self.0.clone()).with_credential(self.1.clone()))
    }
}

/// One file on one server, and the folder it is downloaded to.
pub(crate) struct Scene {
    pub(crate) server: FileServer,
    pub(crate) content: Vec<u8>,
    pub(crate) wanted: Wanted,
    pub(crate) ear: Ear,
    pub(crate) effort: Effort,
    pub(crate) folder: TempDir,
}

impl Scene {
    pub(crate) async fn new(bytes: usize) -> Self {
        let server = FileServer::start().await.unwrap();
        let content = content(bytes);
        server.serve(PATH, Resource::new(content.clone(), "one"));
        Self {
            server,
            wanted: Wanted {
                name: "m.gguf".to_owned(),
                bytes: Some(bytes as u64),
                sha256: Some(digest(&content)),
            },
            content,
            ear: Ear::default(),
            effort: effort(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Without anything known of the file beforehand.
    pub(crate) fn unknown(mut self) -> Self {
        (self.wanted.bytes, self.wanted.sha256) = (None, None);
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("partial")
    }

    pub(crate) async fn download(&self) -> Result<Complete, FetchError> {
        self.download_until(&CancellationToken::new()).await
    }

    pub(crate) async fn download_until(&self, stop: &CancellationToken) -> Result<Complete, FetchError> {
        let downloader = Downloader::new(transport(policy(&[&self.server])), self.effort);
        let url = self.server.url(PATH).parse().unwrap();
        let origin = Arc::new(At(url, None));
        downloader
            .download(
                &self.wanted,
                origin,
                &self.path(),
                Arc::new(self.ear.clone()),
                stop,
            )
            .await
    }

    /// The download succeeds, and what is there is what the server has.
    pub(crate) async fn arrives(&self) {
        let complete = self.download().await.unwrap();
        assert_eq!(std::fs::read(&complete.path).unwrap(), self.content);
        assert_eq!(complete.sha256, digest(&self.content));
        assert_eq!(complete.bytes, self.content.len() as u64);
    }

    pub(crate) fn requests(&self) -> usize {
        self.server.seen().len()
    }

    pub(crate) fn told<T>(&self, of: impl FnOnce(&Told) -> T) -> T {
        of(&self.ear.0.lock().unwrap())
    }
}
