//! The outcome that a failed pull, or a failed look into the catalog, stands for.

use catalog_core::CatalogError;
use downloader::FetchError;
use model_provisioner::ProvisionError;

use super::Exit;

impl Exit {
    pub(crate) fn of_provision(error: &ProvisionError) -> Self {
        match error {
            ProvisionError::NotFetchable { .. }
            | ProvisionError::Ambiguous { .. }
            | ProvisionError::Settings { .. } => Self::Usage,
            ProvisionError::Unauthorized { .. }
            | ProvisionError::Gated { .. }
            | ProvisionError::Forbidden { .. }
            | ProvisionError::Code { .. }
            | ProvisionError::Outside { .. } => Self::Unauthorized,
            ProvisionError::NotFound { .. } | ProvisionError::Model { .. } => Self::Refused,
            ProvisionError::RateLimited { .. } | ProvisionError::Stale { .. } => Self::Overloaded,
            ProvisionError::Malformed { .. } => Self::Server,
            ProvisionError::NoSpace { .. } => Self::Io,
            ProvisionError::Fetch(error) => Self::of_fetch(error),
            ProvisionError::Catalog(error) => Self::of_catalog(error),
        }
    }

    fn of_fetch(error: &FetchError) -> Self {
        match error {
            FetchError::Blocked(_) => Self::Unauthorized,
            FetchError::Status { status, .. } => Self::of_status(*status),
            FetchError::Http(_) | FetchError::Short { .. } | FetchError::Slow { .. } => Self::Unreachable,
            FetchError::Size { .. }
            | FetchError::Changed { .. }
            | FetchError::Digest { .. }
            | FetchError::Protocol { .. } => Self::Server,
            FetchError::Setup(_) => Self::Usage,
            FetchError::DiskFull { .. } | FetchError::Io { .. } => Self::Io,
            FetchError::Stopped => Self::Interrupted,
        }
    }

    pub(crate) const fn of_catalog(error: &CatalogError) -> Self {
        match error {
            CatalogError::Unknown { .. } | CatalogError::Taken { .. } | CatalogError::Entry { .. } => {
                Self::Refused
            }
            CatalogError::Schema { .. }
            | CatalogError::Damaged { .. }
            | CatalogError::DiskFull { .. }
            | CatalogError::Io { .. } => Self::Io,
        }
    }
}
