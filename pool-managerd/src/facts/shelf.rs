//! Models of this machine's catalog: where one is, and whether it may be loaded. Reads the catalog's index, writes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api_types::{Lifecycle, ModelRef};
use catalog_core::{Catalog, CatalogError, Located};

/// The catalog, for looking. Cheap to clone; two of the same folder are the same.
#[derive(Debug, Clone)]
pub struct Shelf(Arc<Catalog>);

impl PartialEq for Shelf {
    fn eq(&self, other: &Self) -> bool {
        self.0.root() == other.0.root()
    }
}

impl Eq for Shelf {}

impl Shelf {
    /// The catalog below this folder, which need not be there yet.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self(Arc::new(Catalog::at(root)))
    }

    /// The file that an engine is given; `None` where the catalog has no such model. Blocking.
    ///
    /// # Errors
    /// Why a model that is there cannot be loaded, or why the catalog cannot be read.
    pub(super) fn find(&self, model: &ModelRef) -> Result<Option<PathBuf>, String> {
        match self.0.locate(model) {
            Ok(Some(located)) => usable(&located).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(unreadable(&error)),
        }
    }
}

fn usable(located: &Located) -> Result<PathBuf, String> {
    let id = &located.entry.id;
    if located.entry.state == Lifecycle::Retired {
        return Err(format!(
            "{id} is retired: `llama-orch models activate {id}` lets it be used again"
        ));
    }
    if let Some(missing) = located.missing.first() {
        return Err(format!(
            "{missing} of {id} is not there with its size: `llama-orch models verify {id}` tells more"
        ));
    }
    let first = located.first().map(Path::to_owned);
    first.ok_or_else(|| format!("{id} has no files"))
}

fn unreadable(error: &CatalogError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!(
        "the catalog cannot be read: {error}{}",
        source.unwrap_or_default()
    )
}
