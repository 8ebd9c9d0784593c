//! Why a model is not there, by what a user does about it.

use std::path::PathBuf;
use std::time::Duration;

use catalog_core::CatalogError;
use downloader::FetchError;
use model_files::ReadError;

/// A model that was not provisioned. Nothing of it is in the catalog.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The reference is a catalog id: there is nothing to fetch.
    #[error("{reference} is a catalog id, and no model of the catalog has it")]
    NotFetchable {
        /// The reference.
        reference: String,
    },
    /// The source has no such thing.
    #[error("{source_name} has no {what}")]
    NotFound {
        /// The source.
        source_name: String,
        /// What was asked for.
        what: String,
    },
    /// The source wants to know who is asking, or does not know them.
    #[error("{source_name} wants a credential for {what}: {hint}")]
    Unauthorized {
        /// The source.
        source_name: String,
        /// What was asked for.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The makers want their terms to be accepted first.
    #[error("{repo} is gated: accept its terms at {url}, and set HF_TOKEN to a token of that account")]
    Gated {
        /// The repository.
        repo: String,
        /// Where.
        url: String,
    },
    /// The source knows who is asking and refuses.
    #[error("{source_name} refuses {what}{}", detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Forbidden {
        /// The source.
        source_name: String,
        /// What was asked for.
        what: String,
        /// Its own words.
        detail: Option<String>,
    },
    /// The source has had enough requests.
    #[error("{source_name} has had too many requests{}", retry_after.map(|wait| format!("; it wants to be asked again in {wait:?}")).unwrap_or_default())]
    RateLimited {
        /// The source.
        source_name: String,
        /// When to come again.
        retry_after: Option<Duration>,
    },
    /// There are several models, or none, where one is asked for.
    #[error("{what} names no single model: {hint}")]
    Ambiguous {
        /// The reference.
        what: String,
        /// What to choose from.
        hint: String,
    },
    /// Loading the file would run code.
    #[error(
        "{name} is a format that carries code, and such formats are not fetched; ask for GGUF or safetensors"
    )]
    Code {
        /// The file.
        name: String,
    },
    /// An answer of the source that cannot be used.
    #[error("{source_name}: {what}")]
    Malformed {
        /// The source.
        source_name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The file is outside the folders that may be used.
    #[error("{} is in none of the folders of models ({})", path.display(), roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", "))]
    Outside {
        /// The file, without links.
        path: PathBuf,
        /// The folders.
        roots: Vec<PathBuf>,
    },
    /// The disk has too little room.
    #[error("{} needs {needs} bytes and {spare} to spare, and has {free} free", path.display())]
    NoSpace {
        /// The cache root.
        path: PathBuf,
        /// What is still to be downloaded.
        needs: u64,
        /// What is kept free beyond.
        spare: u64,
        /// What there is.
        free: u64,
    },
    /// The plan is older than what is there now.
    #[error("{name} changed since the plan was made; plan again")]
    Stale {
        /// The file.
        name: String,
    },
    /// Settings that cannot be used.
    #[error("{field}: {rule}")]
    Settings {
        /// Which.
        field: &'static str,
        /// What it must satisfy.
        rule: String,
    },
    /// The download failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The files are no model that can be believed.
    #[error("{name} is no model that can be used")]
    Model {
        /// Which model.
        name: String,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The catalog cannot take it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl ProvisionError {
    pub(crate) fn malformed(source: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Malformed {
            source_name: source.into(),
            what: what.into(),
        }
    }
}
