//! The models that pools can serve: from a reference to a watched file of this node. Pools that name the same file share
//! its watcher. May touch: the configured models, the node's model folder, the folders of `model_dirs`, and the catalog, for
//! reading.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use api_types::ModelRef;
use api_types::model_ref::ModelRefKind;
use api_types::operation::ModelChoice;
use config_schema::Pool as PoolConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::changes::Changes;
use crate::facts::{DigestCache, FileWatcher, Location, Role, Shelf, WatchedFile};

/// Most models that are watched only because operations have named them; beyond, the longest unused are forgotten.
const MAX_NAMED: usize = 64;

/// A model and its file.
#[derive(Debug)]
pub struct ServedModel {
    /// Which one, and how clients call it.
    pub choice: ModelChoice,
    /// `sha256:…` that its file must have, where the configuration says so.
    pub sha256: Option<String>,
    /// Its file.
    pub file: WatchedFile,
}

impl PartialEq for ServedModel {
    fn eq(&self, other: &Self) -> bool {
        self.choice == other.choice
    }
}

impl Eq for ServedModel {}

/// Watches files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Files {
    digests: Arc<DigestCache>,
    changes: Changes,
    tasks: TaskTracker,
    stop: CancellationToken,
    known: Arc<Mutex<Vec<(Location, Role, WatchedFile)>>>,
}

impl Files {
    /// Watches until `stop`, in `tasks`.
    #[must_use]
    pub fn new(digests: DigestCache, changes: Changes, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            digests: Arc::new(digests),
            changes,
            tasks,
            stop,
            known: Arc::default(),
        }
    }

    /// The file there, for as long as the daemon runs.
    #[must_use]
    pub fn watch(&self, location: Location, role: Role) -> WatchedFile {
        // No code under the lock panics or waits.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.iter().find(|(at, of, _)| *at == location && *of == role);
        if let Some((.., file)) = same {
            return file.clone();
        }
        let file = self.watch_until(location.clone(), role, self.stop.clone());
        known.push((location, role, file.clone()));
        file
    }

    fn watch_until(&self, location: Location, role: Role, stop: CancellationToken) -> WatchedFile {
        let (watcher, file) = FileWatcher::new(location, role);
        let watching = watcher.run(Arc::clone(&self.digests), self.changes.clone(), stop);
        self.tasks.spawn(watching);
        file
    }
}

/// The models of one pool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Models {
    configured: Arc<[Arc<ServedModel>]>,
    files: Files,
    roots: Arc<[PathBuf]>,
    shelf: Shelf,
    named: Arc<Mutex<VecDeque<Named>>>,
}

/// A model that only an operation has named.
#[derive(Debug)]
struct Named {
    model: Arc<ServedModel>,
    stop: CancellationToken,
}

impl Models {
    /// Those of a pool's configuration. `root` is where relative references lie; with `dirs` and the catalog it is what
    /// operations may take others from.
    #[must_use]
    pub fn new(config: &PoolConfig, files: &Files, root: &Path, dirs: &[PathBuf], shelf: &Shelf) -> Self {
        let first = (&config.model, &config.model_id, &config.model_sha256);
        let more = config.models.iter();
        let more = more.map(|model| (&model.model, &model.model_id, &model.model_sha256));
        let configured = std::iter::once(first).chain(more);
        let configured = configured.map(|(model_ref, model_id, sha256)| {
            let choice = ModelChoice {
                model_ref: model_ref.clone(),
                model_id: model_id.clone(),
            };
            Arc::new(ServedModel {
                file: files.watch(location(model_ref, root, shelf), Role::Model),
                choice,
                sha256: sha256.as_ref().map(ToString::to_string),
            })
        });
        Self {
            configured: configured.collect(),
            files: files.clone(),
            roots: std::iter::once(root.to_owned())
                .chain(dirs.iter().cloned())
                .collect(),
            shelf: shelf.clone(),
            named: Arc::default(),
        }
    }

    /// Those of the configuration; the first is the pool's own.
    #[must_use]
    pub fn configured(&self) -> &[Arc<ServedModel>] {
        &self.configured
    }

    /// The pool's own model.
    #[must_use]
    pub fn first(&self) -> &ModelChoice {
        &self.configured[0].choice
    }

    /// The model of a choice: a configured one, else one that has to lie in the folders operations may take from.
    #[must_use]
    pub fn get(&self, choice: &ModelChoice) -> Arc<ServedModel> {
        let configured = self.configured.iter().find(|model| model.choice == *choice);
        configured.cloned().unwrap_or_else(|| self.named(choice))
    }

    fn named(&self, choice: &ModelChoice) -> Arc<ServedModel> {
        // No code under the lock panics or waits.
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = named.iter().find(|named| named.model.choice == *choice) {
            return Arc::clone(&known.model);
        }
        if named.len() >= MAX_NAMED {
            forget_one(&mut named);
        }
        let stop = self.files.stop.child_token();
        let model = Arc::new(ServedModel {
            file: self
                .files
                .watch_until(self.location(&choice.model_ref), Role::Model, stop.clone()),
            choice: choice.clone(),
            sha256: self.sha256_of(&choice.model_ref),
        });
        named.push_back(Named {
            model: Arc::clone(&model),
            stop,
        });
        model
    }

    /// A configured model under another name has to be the same file.
    fn sha256_of(&self, model_ref: &ModelRef) -> Option<String> {
        let configured = self.configured.iter();
        let mut same = configured.filter(|model| model.choice.model_ref == *model_ref);
        same.find_map(|model| model.sha256.clone())
    }

    fn location(&self, model_ref: &ModelRef) -> Location {
        let configured = self
            .configured
            .iter()
            .any(|model| model.choice.model_ref == *model_ref);
        let location = location(model_ref, &self.roots[0], &self.shelf);
        if configured {
            location
        } else {
            location.confined(&self.roots)
        }
    }
}

/// The oldest that nothing serves or is to serve.
fn forget_one(named: &mut VecDeque<Named>) {
    let unused = named
        .iter()
        .position(|named| Arc::strong_count(&named.model) == 1);
    if let Some(forgotten) = unused.and_then(|index| named.remove(index)) {
        forgotten.stop.cancel();
    }
}

fn location(model: &ModelRef, root: &Path, shelf: &Shelf) -> Location {
    let otherwise = match model.kind() {
        ModelRefKind::File => return Location::Path(PathBuf::from(model.file_path().unwrap_or_default())),
        // Neither can leave the root: references have no `..`, no leading slash and no backslash.
        ModelRefKind::Relative => return Location::Path(root.join(model.as_str())),
        ModelRefKind::Catalog => Location::Path(root.join(model.as_str())),
        ModelRefKind::Hub | ModelRefKind::Https | ModelRefKind::S3 | ModelRefKind::Oci => {
            // A query may be a credential.
            let asked = model.without_query();
            let asked = asked.as_str();
            Location::Unfetched(format!(
                "{asked} is not in the catalog: `llama-orch models pull {asked}` fetches it"
            ))
        }
    };
    Location::Catalog {
        shelf: shelf.clone(),
        model: model.clone(),
        otherwise: Box::new(otherwise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(text: &str) -> Location {
        let shelf = Shelf::at(Path::new("/catalog"));
        location(&text.parse().unwrap(), Path::new("/state/models"), &shelf)
    }

    #[test]
    fn models_are_files_of_this_node_or_in_its_catalog() {
        let path = |text: &str| Location::Path(PathBuf::from(text));
        assert_eq!(located("file:/data/m.gguf"), path("/data/m.gguf"));
        assert_eq!(located("qwen/m.gguf"), path("/state/models/qwen/m.gguf"));
        let otherwise = |text: &str| match located(text) {
            Location::Catalog { otherwise, .. } => *otherwise,
            other => panic!("{other:?}"),
        };
        assert_eq!(otherwise("m.gguf"), path("/state/models/m.gguf"));
        assert!(matches!(
            otherwise("https://host/m.gguf?sig=secret"),
            Location::Unfetched(why) if why.contains("models pull https://host/m.gguf`")
        ));
    }

    #[test]
    fn what_only_an_operation_names_stays_in_the_folders_or_the_catalog() {
        let roots = [PathBuf::from("/state/models")];
        let below = Location::Below {
            path: "/state/models/m.gguf".into(),
            roots: roots.to_vec(),
        };
        let Location::Catalog { otherwise, .. } = located("m.gguf").confined(&roots) else {
            panic!("not in the catalog")
        };
        assert_eq!(*otherwise, below);
        assert!(matches!(
            located("file:/data/m.gguf").confined(&roots),
            Location::Below { .. }
        ));
    }
}
