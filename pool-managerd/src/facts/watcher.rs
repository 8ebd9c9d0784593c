//! The two loops of a watched file: one looks whether it is there, the other computes the digest of each new
//! version.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api_types::pool::ModelFetch;
use narration_core::wall;
use rustix::fs::{Access, access};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Digest, DigestCache, DigestError, FileIdentity, Location, Presence, Role};
use crate::changes::Changes;
use crate::fetches::{FetchState, Fetched};

/// Between two looks: an operator who puts a file in place sees the pool start within this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of a file, always the latest.
#[derive(Debug, Clone)]
pub struct WatchedFile {
    presence: watch::Receiver<Presence>,
    digest: watch::Receiver<Option<Digest>>,
    looks: Arc<Looks>,
    fetched: Option<Fetched>,
}

/// When a file was looked at, and who wants it looked at.
#[derive(Debug, Default)]
struct Looks {
    /// When the latest one began, milliseconds since 1970.
    begun_ms: AtomicU64,
    wanted: Notify,
}

impl WatchedFile {
    /// When the latest look began, milliseconds since 1970; 0 before the first.
    #[must_use]
    pub fn looked_ms(&self) -> u64 {
        self.looks.begun_ms.load(Ordering::Acquire)
    }

    /// A pool is to serve it: what has to be fetched is fetched.
    pub fn want(&self) {
        if let Some(fetched) = &self.fetched {
            fetched.want();
        }
    }

    /// How far it is, while it is fetched.
    #[must_use]
    pub fn fetch(&self) -> Option<ModelFetch> {
        self.fetched.as_ref().and_then(Fetched::progress)
    }

    /// Has it looked at soon; its end is announced, whatever it shows.
    pub fn look_again(&self) {
        self.looks.wanted.notify_one();
    }

    /// Whether it can be used.
    #[must_use]
    pub fn presence(&self) -> Presence {
        self.presence.borrow().clone()
    }

    /// Which version is there now.
    #[must_use]
    pub fn identity(&self) -> Option<FileIdentity> {
        match &*self.presence.borrow() {
            Presence::Present { identity, .. } => Some(*identity),
            Presence::Unknown | Presence::Missing(_) | Presence::Coming(_) => None,
        }
    }

    /// What of it has to be on GPUs at least, bytes, where its header tells.
    #[must_use]
    pub fn weights(&self) -> Option<u64> {
        match &*self.presence.borrow() {
            Presence::Present { weights, .. } => *weights,
            Presence::Unknown | Presence::Missing(_) | Presence::Coming(_) => None,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match &*self.presence.borrow() {
            Presence::Present { path, .. } => Some(path.clone()),
            Presence::Unknown | Presence::Missing(_) | Presence::Coming(_) => None,
        }
    }

    /// The digest of a version, once computed.
    #[must_use]
    pub fn digest_of(&self, identity: FileIdentity) -> Option<String> {
        let digest = self.digest.borrow();
        digest
            .as_ref()
            .filter(|digest| digest.identity == identity)
            .map(|digest| digest.sha256.clone())
    }
}

/// The watching side, before it runs.
#[derive(Debug)]
pub struct FileWatcher {
    location: Location,
    role: Role,
    presence: watch::Sender<Presence>,
    digest: watch::Sender<Option<Digest>>,
    looks: Arc<Looks>,
}

impl FileWatcher {
    /// A watcher of one file, and what it will know.
    #[must_use]
    pub fn new(location: Location, role: Role) -> (Self, WatchedFile) {
        let (presence, seen) = watch::channel(Presence::Unknown);
        let (digest, computed) = watch::channel(None);
        let looks = Arc::new(Looks::default());
        let fetched = match &location {
            Location::Fetched { model, .. } => Some(model.clone()),
            _ => None,
        };
        let watcher = Self {
            location,
            role,
            presence,
            digest,
            looks: Arc::clone(&looks),
        };
        let file = WatchedFile {
            presence: seen,
            digest: computed,
            looks,
            fetched,
        };
        (watcher, file)
    }

    /// Runs both loops until `stop`.
    pub async fn run(self, digests: Arc<DigestCache>, changes: Changes, stop: CancellationToken) {
        let versions = self.presence.subscribe();
        let Self {
            location,
            role,
            presence,
            digest,
            looks,
        } = self;
        let looking = look_again((location, role), presence, &looks, &changes);
        let hashing = hash_versions(versions, digest, &digests, &changes, &stop);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = async { tokio::join!(looking, hashing); } => {}
        }
    }
}

async fn look_again(
    (location, role): (Location, Role),
    presence: watch::Sender<Presence>,
    looks: &Looks,
    changes: &Changes,
) {
    let mut wanted = false;
    loop {
        let (target, before) = (location.clone(), presence.borrow().clone());
        let begun_ms = wall::unix_ms();
        // A look that hangs in the kernel holds up this loop only; a second one is never started beside it.
        let seen = spawn_blocking(move || weighed(look(&target, role), &before, role)).await;
        let seen = seen.unwrap_or_else(|error| Presence::Missing(format!("the look at it failed: {error}")));
        let differs = publish(&presence, seen);
        looks.begun_ms.store(begun_ms, Ordering::Release);
        if differs || wanted {
            changes.announce();
        }
        wanted = timeout(LOOK_INTERVAL, looks.wanted.notified()).await.is_ok();
    }
}

async fn hash_versions(
    mut versions: watch::Receiver<Presence>,
    computed: watch::Sender<Option<Digest>>,
    digests: &Arc<DigestCache>,
    changes: &Changes,
    stop: &CancellationToken,
) {
    // Ends when the other loop does.
    while versions.changed().await.is_ok() {
        let Presence::Present { path, identity, .. } = versions.borrow_and_update().clone() else {
            continue;
        };
        match digests.digest(&path, identity, stop.clone()).await {
            Ok(digest) => {
                if publish(&computed, Some(digest)) {
                    changes.announce();
                }
            }
            Err(DigestError::Cancelled) => return,
            Err(error) => tracing::warn!(path = %path.display(), %error, "no digest"),
        }
    }
}

fn publish<T: PartialEq>(channel: &watch::Sender<T>, value: T) -> bool {
    channel.send_if_modified(|present| {
        let differs = *present != value;
        *present = value;
        differs
    })
}

/// Adds what a model weighs; its header is read once per version. Blocking.
fn weighed(mut seen: Presence, before: &Presence, role: Role) -> Presence {
    if let (
        Presence::Present {
            path,
            identity,
            weights,
        },
        Role::Model,
    ) = (&mut seen, role)
    {
        *weights = match before {
            Presence::Present {
                identity: known,
                weights,
                ..
            } if known == identity => *weights,
            // What is no model the engine will refuse, with its reasons.
            _ => model_files::gguf::offloaded_bytes(path).ok(),
        };
    }
    seen
}

/// Looks for the file. Blocking.
fn look(location: &Location, role: Role) -> Presence {
    match location {
        Location::Path(path) => look_at(path, role).unwrap_or_else(Presence::Missing),
        Location::Fetched { model, otherwise } => look_at_fetched(&model.state(), otherwise.as_deref(), role),
        Location::Below { path, roots } => {
            let inside = inside(path, roots).and_then(|path| look_at(&path, role));
            inside.unwrap_or_else(Presence::Missing)
        }
        Location::Search { name, folders } => {
            let mut found = folders
                .iter()
                .filter_map(|folder| look_at(&folder.join(name), role).ok());
            found
                .next()
                .unwrap_or_else(|| Presence::Missing(format!("{} is in no folder of PATH", name.display())))
        }
    }
}

fn look_at_fetched(state: &FetchState, otherwise: Option<&Location>, role: Role) -> Presence {
    match state {
        FetchState::Unknown => Presence::Unknown,
        FetchState::Absent => Presence::Coming("the model is fetched when it is needed".to_owned()),
        FetchState::Coming(fetch) => Presence::Coming(progress(*fetch)),
        FetchState::Failed(why) => match otherwise.map(|otherwise| look(otherwise, role)) {
            Some(present @ Presence::Present { .. }) => present,
            _ => Presence::Missing(why.clone()),
        },
        FetchState::Here(path) => look_at(path, role).unwrap_or_else(Presence::Missing),
    }
}

fn progress(fetch: ModelFetch) -> String {
    match fetch.total_bytes {
        Some(total) => format!(
            "the model is being fetched: {} of {total} bytes are here",
            fetch.bytes
        ),
        None => "the model is being fetched".to_owned(),
    }
}

/// The path without links, if it stays in one of the folders. What lies outside is not told from what is not there.
fn inside(path: &Path, roots: &[PathBuf]) -> Result<PathBuf, String> {
    let outside = || {
        format!(
            "{} is in no folder that models may be taken from (pool_managerd.model_dirs)",
            path.display()
        )
    };
    let real = path.canonicalize().map_err(|_error| outside())?;
    let mut roots = roots.iter().filter_map(|root| root.canonicalize().ok());
    if roots.any(|root| real.starts_with(root)) {
        Ok(real)
    } else {
        Err(outside())
    }
}

fn look_at(path: &Path, role: Role) -> Result<Presence, String> {
    let cannot = |what: &str, error: io::Error| format!("{} cannot be {what}: {error}", path.display());
    let metadata = match role {
        Role::Model => {
            let file = File::open(path).map_err(|error| cannot("read", error))?;
            file.metadata().map_err(|error| cannot("read", error))?
        }
        Role::Engine => {
            access(path, Access::EXEC_OK).map_err(|error| cannot("executed", error.into()))?;
            path.metadata().map_err(|error| cannot("executed", error))?
        }
    };
    if !metadata.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    Ok(Presence::Present {
        path: path.to_owned(),
        identity: identity(&metadata),
        weights: None,
    })
}

/// The version of the file that is there. Blocking.
///
/// # Errors
/// It cannot be read.
pub fn identity_at(path: &Path) -> io::Result<FileIdentity> {
    Ok(identity(&File::open(path)?.metadata()?))
}

/// The version that a file's metadata shows.
pub(super) fn identity(metadata: &Metadata) -> FileIdentity {
    FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified_s: metadata.mtime(),
        modified_ns: metadata.mtime_nsec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn missing(presence: Presence) -> String {
        match presence {
            Presence::Missing(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_a_usable_file_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let absent = Location::Path(folder.path().join("absent.gguf"));
        assert!(missing(look(&absent, Role::Model)).contains("absent.gguf cannot be read"));
        let directory = Location::Path(folder.path().to_owned());
        assert!(missing(look(&directory, Role::Model)).contains("is not a file"));
        let plain = folder.path().join("plain");
        fs::write(&plain, "x").unwrap();
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
        let plain = Location::Path(plain);
        assert!(missing(look(&plain, Role::Engine)).contains("cannot be executed"));
        assert!(matches!(look(&plain, Role::Model), Presence::Present { .. }));
    }

    #[test]
    fn no_path_and_no_link_leads_out_of_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        let [root, elsewhere] = ["root", "elsewhere"].map(|name| folder.path().join(name));
        for dir in [&root, &elsewhere] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("m.gguf"), "x").unwrap();
        }
        std::os::unix::fs::symlink(elsewhere.join("m.gguf"), root.join("link.gguf")).unwrap();
        std::os::unix::fs::symlink(root.join("m.gguf"), root.join("kept.gguf")).unwrap();
        let seen = |path: PathBuf| {
            let roots = vec![folder.path().join("absent"), root.clone()];
            look(&Location::Below { path, roots }, Role::Model)
        };
        for inside in [root.join("m.gguf"), root.join("kept.gguf")] {
            assert!(matches!(seen(inside), Presence::Present { path, .. } if path == root.join("m.gguf")));
        }
        for outside in [
            elsewhere.join("m.gguf"),
            root.join("link.gguf"),
            root.join("../elsewhere/m.gguf"),
            root.join("absent.gguf"),
        ] {
            assert!(missing(seen(outside)).contains("model_dirs"));
        }
    }

    #[test]
    fn bare_names_are_found_in_the_search_path_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
        for dir in [&first, &second] {
            fs::create_dir(dir).unwrap();
        }
        let paths = format!("{}:{}", first.display(), second.display());
        let location = Location::in_search_path(Path::new("server"), &paths);
        assert!(missing(look(&location, Role::Engine)).contains("server is in no folder"));
        for dir in [&second, &first] {
            let program = dir.join("server");
            fs::write(&program, "").unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            let Presence::Present { path, .. } = look(&location, Role::Engine) else {
                panic!("not found")
            };
            assert_eq!(path, program);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_appears_is_seen_and_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let (watcher, mut file) = FileWatcher::new(Location::Path(path.clone()), Role::Model);
        let (changes, stop) = (Changes::default(), CancellationToken::new());
        let digests = Arc::new(DigestCache::open(folder.path().join("digests.json")));
        let watching = watcher.run(digests, changes, stop.clone());
        let checking = async {
            file.presence.changed().await.unwrap();
            assert!(matches!(file.presence(), Presence::Missing(_)));
            fs::write(&path, "abc").unwrap();
            file.digest.changed().await.unwrap();
            let digest = file.digest_of(file.identity().unwrap()).unwrap();
            assert_eq!(
                digest,
                "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            );
            stop.cancel();
        };
        tokio::join!(watching, checking);
    }
}
