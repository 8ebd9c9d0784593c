//! What the configuration says.

use std::path::PathBuf;

use downloader::{Effort, Policy, Timeouts};
use secrecy::SecretString;
use url::Url;

/// Everything that a provisioner needs to be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cache root, which the catalog owns.
    pub cache_root: PathBuf,
    /// Folders that `file:` and relative references may lead into; relative ones lie below the first.
    pub model_roots: Vec<PathBuf>,
    /// What may be downloaded from where.
    pub policy: Policy,
    /// How hard to try.
    pub effort: Effort,
    /// Limits on waiting.
    pub timeouts: Timeouts,
    /// The model hub.
    pub hub: HubSettings,
    /// Object storage.
    pub s3: S3Settings,
    /// Who is asking registries.
    pub registries: Vec<RegistryLogin>,
    /// Kept free on the disk beyond what a download needs, percent of it.
    pub spare_percent: u64,
}

impl Settings {
    /// Defaults, for a cache root.
    #[must_use]
    pub fn new(cache_root: PathBuf) -> Self {
        Self {
            cache_root,
            model_roots: Vec::new(),
            policy: Policy::default(),
            effort: Effort::default(),
            timeouts: Timeouts::default(),
            hub: HubSettings::default(),
            s3: S3Settings::default(),
            registries: Vec::new(),
            spare_percent: 5,
        }
    }
}

/// The model hub.
#[derive(Debug, Clone, Default)]
pub struct HubSettings {
    /// Its address; `https://huggingface.co` unless said otherwise.
    pub endpoint: Option<Url>,
    /// Proves who is asking.
    pub token: Option<SecretString>,
}

/// Object storage.
#[derive(Debug, Clone, Default)]
pub struct S3Settings {
    /// Another service than Amazon's; its buckets are asked for by path.
    pub endpoint: Option<Url>,
    /// `us-east-1` unless said otherwise.
    pub region: Option<String>,
    /// Without a key, requests are not signed.
    pub access_key: Option<String>,
    /// Belongs to the key.
    pub secret_key: Option<SecretString>,
    /// Of temporary keys.
    pub session_token: Option<SecretString>,
}

/// Who is asking a registry.
#[derive(Debug, Clone)]
pub struct RegistryLogin {
    /// `host[:port]`.
    pub registry: String,
    /// The name.
    pub user: String,
    /// The password or token.
    pub password: SecretString,
}
