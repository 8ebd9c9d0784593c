//! What can go wrong with a download, by what a caller does about it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api_types::Sha256Digest;
use http::StatusCode;
use http_util::{BuildError, HttpError};

/// Something that the policy does not let be connected to. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// Downloads are off.
    #[error("downloads are off (downloads = \"off\")")]
    Off,
    /// Not among the hosts that are named.
    #[error("{host} is not among allowed_hosts")]
    Host {
        /// The host.
        host: String,
    },
    /// An address that is none of the public internet.
    #[error("{host} is at {address}, which is not public; name it in private_origins if it is meant")]
    Address {
        /// The host, as it was asked for.
        host: String,
        /// Its address.
        address: IpAddr,
    },
    /// A text that URL parsers read in different ways, or no URL.
    #[error("the URL {rule}")]
    Url {
        /// What it breaks.
        rule: &'static str,
    },
    /// Another port than HTTPS has.
    #[error("{host} is asked for at port {port}; 443 is allowed, others only through private_origins")]
    Port {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// More hops than anybody needs.
    #[error("more than {most} redirects")]
    Redirects {
        /// The bound.
        most: u32,
    },
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The policy does not allow it.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// The server refuses: its answer has another status than 200 or 206.
    #[error("{host} answers {status}{}", detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default())]
    Status {
        /// The server that said so.
        host: String,
        /// The status.
        status: StatusCode,
        /// Its own word for it, from a header or the start of the body, redacted.
        detail: Option<String>,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The connection or the exchange failed.
    #[error("the download broke off")]
    Http(#[source] HttpError),
    /// The client cannot be built.
    #[error("no request can be made")]
    Setup(#[from] BuildError),
    /// The body ended early, also after tries.
    #[error("{name}: {found} bytes came, {expected} were announced")]
    Short {
        /// Which file.
        name: String,
        /// Announced.
        expected: u64,
        /// Came.
        found: u64,
    },
    /// The server announces another size than is known.
    #[error("{name} has {expected} bytes, the server announces {found}")]
    Size {
        /// Which file.
        name: String,
        /// Known.
        expected: u64,
        /// Announced.
        found: u64,
    },
    /// What the server has changed between two parts.
    #[error("{name} changed on the server while it was downloaded")]
    Changed {
        /// Which file.
        name: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{name}: its bytes have the digest {found}, not {expected}")]
    Digest {
        /// Which file.
        name: String,
        /// Asked for.
        expected: Sha256Digest,
        /// Came.
        found: Sha256Digest,
    },
    /// The server sends too slowly to go on.
    #[error("{host} sends fewer than {floor} bytes per second")]
    Slow {
        /// The server.
        host: String,
        /// The bound.
        floor: u64,
    },
    /// An answer that is none.
    #[error("{host} answers {what}")]
    Protocol {
        /// The server.
        host: String,
        /// What is wrong with it.
        what: String,
    },
    /// The disk has no room.
    #[error("the disk of {} is full", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The disk fails.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
}

impl FetchError {
    /// For `map_err`: what could not be used.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| {
            if owned_folder::is_full(&source) {
                Self::DiskFull { path }
            } else {
                Self::Io { path, source }
            }
        }
    }

    /// Finds out whether it was our own guard that let no connection be made.
    pub(crate) fn of_http(error: HttpError) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(cause) = source {
            if let Some(blocked) = cause.downcast_ref::<Blocked>() {
                return Self::Blocked(blocked.clone());
            }
            source = cause.source();
        }
        Self::Http(error)
    }

    /// Whether the same request may do better soon.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Http(error) => {
                http_util::retry::is_retriable(error)
                    || matches!(error, HttpError::Reset { .. } | HttpError::IdleTimeout { .. })
            }
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Self::Short { .. } | Self::Slow { .. } => true,
            Self::Blocked(_)
            | Self::Setup(_)
            | Self::Size { .. }
            | Self::Changed { .. }
            | Self::Digest { .. }
            | Self::Protocol { .. }
            | Self::DiskFull { .. }
            | Self::Io { .. }
            | Self::Stopped => false,
        }
    }

    /// How long the server asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
