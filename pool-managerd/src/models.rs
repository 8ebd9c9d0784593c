//! The models that pools can serve: from a reference to a watched file of this node. Pools that name the same file share
//! its watcher. May touch: the configured models, the node's model folder, and the folders of `model_dirs`.

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
use crate::facts::{DigestCache, FileWatcher, Location, Role, WatchedFile};
use crate::fetches::Fetches;

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
    fetches: Fetches,
    tasks: TaskTracker,
    stop: CancellationToken,
    known: Arc<Mutex<Vec<(Location, Role, WatchedFile)>>>,
}

impl Files {
    /// Watches until `stop`, in `tasks`.
    #[must_use]
    pub fn new(
        digests: DigestCache,
        fetches: Fetches,
        changes: Changes,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            digests: Arc::new(digests),
            fetches,
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

    /// Where a model is, or comes to; looked after until `stop` where it has to be fetched.
    fn model(&self, model: &ModelRef, root: &Path, stop: CancellationToken) -> Location {
        match model.kind() {
            ModelRefKind::File => Location::Path(PathBuf::from(model.file_path().unwrap_or_default())),
            // Cannot leave the root: references have no `..`, no leading slash and no backslash.
            ModelRefKind::Relative => Location::Path(root.join(model.as_str())),
            ModelRefKind::Catalog => Location::Fetched {
                model: self.fetches.of(model, stop),
                // A bare name may be a file's.
                otherwise: Some(Box::new(Location::Path(root.join(model.as_str())))),
            },
            ModelRefKind::Hub | ModelRefKind::Https | ModelRefKind::S3 | ModelRefKind::Oci => {
                Location::Fetched {
                    model: self.fetches.of(model, stop),
                    otherwise: None,
                }
            }
        }
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
    named: Arc<Mutex<VecDeque<Named>>>,
}

/// A model that only an operation has named.
#[derive(Debug)]
struct Named {
    model: Arc<ServedModel>,
    stop: CancellationToken,
}

impl Models {
    /// Those of a pool's configuration; `root` is where relative references lie, and with `dirs` it is what operations
    /// may take others from.
    #[must_use]
    pub fn new(config: &PoolConfig, files: &Files, root: &Path, dirs: &[PathBuf]) -> Self {
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
                file: files.watch(files.model(model_ref, root, files.stop.clone()), Role::Model),
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
            file: self.files.watch_until(
                self.location(&choice.model_ref, stop.clone()),
                Role::Model,
                stop.clone(),
            ),
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

    fn location(&self, model_ref: &ModelRef, stop: CancellationToken) -> Location {
        let configured = self
            .configured
            .iter()
            .any(|model| model.choice.model_ref == *model_ref);
        let location = self.files.model(model_ref, &self.roots[0], stop);
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
