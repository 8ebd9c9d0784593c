//! Where models come from: each source turns a reference into files, pinned, and says how each file is asked for.

pub(crate) mod hub;
pub(crate) mod local;
pub(crate) mod manifest;
pub(crate) mod oci;
pub(crate) mod s3;
pub(crate) mod web;

use downloader::{Downloader, FetchError};
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::error::ProvisionError;
use crate::plan::PlannedFile;
use crate::settings::Settings;

/// What sources work with.
pub(crate) struct Context<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) downloader: &'a Downloader,
    pub(crate) stop: &'a CancellationToken,
}

/// A reference as it is right now.
pub(crate) struct Resolved {
    /// With the commit, digest or validator it was resolved to.
    pub(crate) pinned: String,
    /// The files of the model.
    pub(crate) files: Vec<PlannedFile>,
}

/// What a refusal means to a user, where the source has no words of its own for it.
pub(crate) fn explain(source: &str, what: &str, hint: &str, error: FetchError) -> ProvisionError {
    let FetchError::Status {
        status,
        detail,
        retry_after,
        ..
    } = &error
    else {
        return error.into();
    };
    let (source_name, what) = (source.to_owned(), what.to_owned());
    match *status {
        StatusCode::UNAUTHORIZED => ProvisionError::Unauthorized {
            source_name,
            what,
            hint: hint.to_owned(),
        },
        StatusCode::FORBIDDEN => ProvisionError::Forbidden {
            source_name,
            what,
            detail: detail.clone(),
        },
        StatusCode::NOT_FOUND | StatusCode::GONE => ProvisionError::NotFound { source_name, what },
        StatusCode::TOO_MANY_REQUESTS => ProvisionError::RateLimited {
            source_name,
            retry_after: *retry_after,
        },
        _ => error.into(),
    }
}
