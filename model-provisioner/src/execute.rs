//! The provisioner: plans, and carries plans out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api_types::{Lifecycle, ModelEntry, ModelId, ModelRef, ModelRefParts, Sha256Digest};
use catalog_core::Catalog;
use downloader::{Downloader, FetchError, Guard, Origin, Transport, Wanted};
use owned_folder::Turn;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::entry::{Staged, register};
use crate::error::ProvisionError;
use crate::identity::{identity, is_loose, key_of};
use crate::meter::{Meter, Notice, Reporter};
use crate::naming::name_for;
use crate::plan::{Place, Plan, PlannedFile};
use crate::settings::Settings;
use crate::sources::{Context, Resolved, hub, local, oci, s3, web};
use crate::{publish, space};

/// Files of one model that are downloaded at once; each has connections of its own.
const FILES_AT_ONCE: usize = 2;
/// Between two looks at a lock that somebody else has.
const LOOK: Duration = Duration::from_millis(50);

/// Plans and executes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Provisioner {
    settings: Arc<Settings>,
    downloader: Downloader,
    catalog: Arc<Catalog>,
    /// The wall clock, ms since 1970.
    now: fn() -> u64,
}

impl Provisioner {
    /// With these settings. `now` is the wall clock, ms since 1970.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn new(settings: Settings, now: fn() -> u64) -> Result<Self, ProvisionError> {
        let transport = Transport::new(Guard::new(settings.policy.clone()), settings.timeouts)?;
        Ok(Self {
            downloader: Downloader::new(transport, settings.effort),
            catalog: Arc::new(Catalog::at(&settings.cache_root)),
            settings: Arc::new(settings),
            now,
        })
    }

    /// The catalog that models are registered in.
    #[must_use]
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The wall clock, ms since 1970.
    pub(crate) fn now(&self) -> u64 {
        (self.now)()
    }

    /// Asks the source what there is, and says what will be done. Writes nothing. `id` is what the model will be called,
    /// else a name is made of the reference; `sha256` is the digest that its one file must have.
    ///
    /// # Errors
    /// [`ProvisionError`].
    pub async fn plan(
        &self,
        reference: &ModelRef,
        id: Option<ModelId>,
        sha256: Option<Sha256Digest>,
        stop: &CancellationToken,
    ) -> Result<Plan, ProvisionError> {
        let Resolved { pinned, mut files } = self.resolve(reference, stop).await?;
        if let Some(sha256) = sha256 {
            pin(&mut files, sha256)?;
        }
        let id = match id {
            Some(id) => id,
            None => name_for(reference)?,
        };
        let root = &self.settings.cache_root;
        for file in &mut files {
            let known = file
                .sha256
                .and_then(|digest| publish::blob(root, &digest, file.bytes));
            file.cached |= known.is_some();
        }
        let download_bytes = files
            .iter()
            .filter(|file| !file.cached)
            .fold(0, |sum: u64, file| {
                sum.saturating_add(file.bytes.unwrap_or_default())
            });
        let free_bytes = space::free(root).map_err(FetchError::at(root))?;
        let present = self.known(&id, &pinned, &files)?.is_some();
        if !present {
            space::check(root, download_bytes, free_bytes, self.settings.spare_percent)?;
        }
        Ok(Plan {
            id,
            source: reference.without_query(),
            resolved: pinned,
            files,
            download_bytes,
            free_bytes,
            present,
        })
    }

    /// Does what the plan says: afterwards the model is in the catalog, `Active`. Any number of executions of one plan may
    /// run at once, in any processes: one works, the others wait and find it done.
    ///
    /// # Errors
    /// [`ProvisionError`]: nothing of it is in the catalog; what came stays for the next try.
    pub async fn execute(
        &self,
        plan: &Plan,
        reporter: Arc<dyn Reporter>,
        stop: &CancellationToken,
    ) -> Result<ModelEntry, ProvisionError> {
        let total = plan
            .files
            .iter()
            .try_fold(0_u64, |sum, file| sum.checked_add(file.bytes?));
        let meter = Arc::new(Meter::new(reporter, total));
        let key = key_of(&["pull", plan.id.as_str(), &plan.resolved]);
        let turn = self.turn(&key, plan.id.as_str(), &meter, stop).await?;
        let entry = match self.known(&plan.id, &plan.resolved, &plan.files)? {
            Some(known) => self.activate(&known)?,
            None => self.work(plan, &key, &meter, stop).await?,
        };
        drop(turn);
        meter.notice(Notice::Registered { id: entry.id.clone() });
        Ok(entry)
    }

    async fn resolve(
        &self,
        reference: &ModelRef,
        stop: &CancellationToken,
    ) -> Result<Resolved, ProvisionError> {
        let context = Context {
            settings: &self.settings,
            downloader: &self.downloader,
            stop,
        };
        match reference.parts() {
            ModelRefParts::Hub { repo, revision, file } => hub::resolve(&context, repo, revision, file).await,
            ModelRefParts::Https { url, sha256 } => web::resolve(&context, url, sha256).await,
            ModelRefParts::S3 { bucket, key } => s3::resolve(&context, bucket, key).await,
            ModelRefParts::Oci {
                registry,
                repository,
                reference,
            } => oci::resolve(&context, registry, repository, reference).await,
            ModelRefParts::File { path } => self.local(PathBuf::from(path)).await,
            ModelRefParts::Relative { path } => match self.settings.model_roots.first() {
                Some(root) => self.local(root.join(path)).await,
                None => Err(ProvisionError::Settings {
                    field: "model_roots",
                    rule: "a relative reference needs one".to_owned(),
                }),
            },
            ModelRefParts::Catalog { id } => Err(ProvisionError::NotFetchable {
                reference: id.to_owned(),
            }),
        }
    }

    async fn local(&self, path: PathBuf) -> Result<Resolved, ProvisionError> {
        let settings = Arc::clone(&self.settings);
        blocking(move || local::resolve(&path, &settings.model_roots)).await
    }

    /// The entry, if it is this model and whole.
    fn known(
        &self,
        id: &ModelId,
        resolved: &str,
        files: &[PlannedFile],
    ) -> Result<Option<ModelEntry>, ProvisionError> {
        let Some(located) = self.catalog.locate(&ModelRef::from(id))? else {
            return Ok(None);
        };
        let entry = &located.entry;
        let same = |planned: &PlannedFile| {
            let known = entry.files.iter().find(|known| known.name == planned.name);
            known.is_some_and(|known| {
                planned.bytes.is_none_or(|bytes| bytes == known.bytes)
                    && planned.sha256.is_none_or(|digest| digest == known.sha256)
            })
        };
        // A file of this machine has no version in its name: its size tells a change, and a new hash the rest.
        let pinned = !files
            .iter()
            .any(|file| matches!(file.place, Place::Local(_)) || is_loose(file));
        let is_it = pinned
            && entry.resolved == resolved
            && entry.files.len() == files.len()
            && files.iter().all(same);
        Ok((is_it && located.missing.is_empty()).then(|| located.entry.clone()))
    }

    fn activate(&self, known: &ModelEntry) -> Result<ModelEntry, ProvisionError> {
        match known.state {
            Lifecycle::Active => Ok(known.clone()),
            Lifecycle::Retired => {
                let entry = self
                    .catalog
                    .set_model_state(&known.id, Lifecycle::Active, self.now())?;
                Ok(entry)
            }
        }
    }

    async fn work(
        &self,
        plan: &Plan,
        key: &Sha256Digest,
        meter: &Arc<Meter>,
        stop: &CancellationToken,
    ) -> Result<ModelEntry, ProvisionError> {
        let root = self.settings.cache_root.clone();
        // Others have downloaded since the plan was made.
        let free = space::free(&root).map_err(FetchError::at(&root))?;
        space::check(&root, self.still_to_come(plan), free, self.settings.spare_percent)?;
        let staged = self.stage(plan, key, meter, stop).await?;
        let now = self.now();
        let work = {
            let (plan, root) = (plan.clone(), root.clone());
            move || register(&plan, &root, staged, now)
        };
        let entry = blocking(work).await?;
        meter.notice(Notice::Published { id: plan.id.clone() });
        let entry = self.catalog.register_model(entry, now)?.into_entry();
        let folder = root.join(catalog_core::layout::partial(key));
        blocking(move || Ok(publish::clear(&folder)?)).await?;
        Ok(entry)
    }

    fn still_to_come(&self, plan: &Plan) -> u64 {
        let missing = |file: &&PlannedFile| {
            let is_local = matches!(file.place, Place::Local(_));
            let here = file
                .sha256
                .and_then(|digest| publish::blob(&self.settings.cache_root, &digest, file.bytes));
            !is_local && here.is_none()
        };
        let files = plan.files.iter().filter(missing);
        files.fold(0, |sum: u64, file| {
            sum.saturating_add(file.bytes.unwrap_or_default())
        })
    }

    /// Brings every file here, some at once; the first failure ends all.
    async fn stage(
        &self,
        plan: &Plan,
        key: &Sha256Digest,
        meter: &Arc<Meter>,
        stop: &CancellationToken,
    ) -> Result<Vec<Staged>, ProvisionError> {
        let places = Arc::new(Semaphore::new(FILES_AT_ONCE));
        let stop = stop.child_token();
        let mut tasks = JoinSet::new();
        for (order, file) in plan.files.iter().cloned().enumerate() {
            let (this, key, meter) = (self.clone(), *key, Arc::clone(meter));
            let (stop, places) = (stop.clone(), Arc::clone(&places));
            tasks.spawn(async move {
                let _place = places
                    .acquire_owned()
                    .await
                    .map_err(|_closed| FetchError::Stopped)?;
                this.file(&file, &key, &meter, &stop)
                    .await
                    .map(|staged| (order, staged))
            });
        }
        let (mut staged, mut failed) = (Vec::new(), None);
        while let Some(done) = tasks.join_next().await {
            match done.unwrap_or_else(|_panicked| Err(FetchError::Stopped.into())) {
                Ok(done) => staged.push(done),
                Err(error) => {
                    stop.cancel();
                    failed.get_or_insert(error);
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        staged.sort_by_key(|(order, _)| *order);
        Ok(staged.into_iter().map(|(_, staged)| staged).collect())
    }

    async fn file(
        &self,
        file: &PlannedFile,
        key: &Sha256Digest,
        meter: &Arc<Meter>,
        stop: &CancellationToken,
    ) -> Result<Staged, ProvisionError> {
        let staged = match &file.place {
            Place::Local(path) => self.hashed(file, path.clone(), meter, stop).await?,
            Place::Hub(_) | Place::Web(_) | Place::S3 { .. } | Place::Blob { .. } => {
                self.fetched(file, key, meter, stop).await?
            }
        };
        meter.notice(Notice::Verified {
            name: staged.file.to_string(),
            sha256: staged.sha256,
        });
        Ok(staged)
    }

    async fn hashed(
        &self,
        file: &PlannedFile,
        path: PathBuf,
        meter: &Arc<Meter>,
        stop: &CancellationToken,
    ) -> Result<Staged, ProvisionError> {
        let (meter, stop, name, wanted) = (Arc::clone(meter), stop.clone(), file.name.clone(), file.sha256);
        blocking(move || {
            let (sha256, bytes) = local::hash(&path, &stop, |bytes| meter.add(bytes))?;
            if let Some(expected) = wanted.filter(|expected| *expected != sha256) {
                let (name, found) = (name.to_string(), sha256);
                return Err(FetchError::Digest {
                    name,
                    expected,
                    found,
                }
                .into());
            }
            Ok(Staged {
                file: name,
                bytes,
                sha256,
                at: path,
                external: true,
            })
        })
        .await
    }

    /// Downloads a file, unless its content is here; while this works, nobody else does on the same content.
    async fn fetched(
        &self,
        file: &PlannedFile,
        key: &Sha256Digest,
        meter: &Arc<Meter>,
        stop: &CancellationToken,
    ) -> Result<Staged, ProvisionError> {
        let content = file.sha256.unwrap_or_else(|| identity(file));
        let turn = self.turn(&content, file.name.as_str(), meter, stop).await?;
        let root = self.settings.cache_root.clone();
        let here = file
            .sha256
            .and_then(|digest| Some((publish::blob(&root, &digest, file.bytes)?, digest)));
        let (blob, bytes, sha256) = match here {
            Some(((blob, bytes), digest)) => {
                meter.skip(bytes);
                (blob, bytes, digest)
            }
            None => self.downloaded(file, &content, meter, stop).await?,
        };
        let at = publish::staging(&root, key).join(file.name.as_path());
        let (from, to) = (blob, at.clone());
        // From here on the pull has a name of its own for it, which no removal of another model takes away.
        blocking(move || Ok(publish::name(&from, &to)?)).await?;
        drop(turn);
        Ok(Staged {
            file: file.name.clone(),
            bytes,
            sha256,
            at,
            external: false,
        })
    }

    async fn downloaded(
        &self,
        file: &PlannedFile,
        content: &Sha256Digest,
        meter: &Arc<Meter>,
        stop: &CancellationToken,
    ) -> Result<(PathBuf, u64, Sha256Digest), ProvisionError> {
        let wanted = Wanted {
            name: file.name.to_string(),
            bytes: file.bytes,
            sha256: file.sha256,
        };
        let root = self.settings.cache_root.clone();
        let folder = root.join(catalog_core::layout::partial(content));
        let origin = self.origin(file)?;
        let observer = Arc::clone(meter);
        let complete = self
            .downloader
            .download(&wanted, origin, &folder, observer, stop)
            .await;
        let complete = complete.map_err(|error| self.explain(file, error))?;
        let (data, digest) = (complete.path, complete.sha256);
        let blob = blocking(move || {
            let blob = publish::keep(&root, &digest, &data)?;
            publish::clear(&folder)?;
            Ok(blob)
        })
        .await?;
        Ok((blob, complete.bytes, complete.sha256))
    }

    fn origin(&self, file: &PlannedFile) -> Result<Arc<dyn Origin>, ProvisionError> {
        Ok(match &file.place {
            Place::Hub(url) => Arc::new(hub::HubFile {
                url: url.clone(),
                token: self.settings.hub.token.clone(),
            }),
            Place::Web(url) => Arc::new(web::WebFile { url: url.clone() }),
            Place::S3 { bucket, key } => Arc::new(s3::Object::new(&self.settings.s3, bucket, key)?),
            Place::Blob { registry, repository } => {
                let session = oci::Session::new(&self.settings, &self.downloader, registry, repository)?;
                let digest = file
                    .sha256
                    .ok_or_else(|| ProvisionError::malformed(registry.as_str(), "a blob has a digest"))?;
                Arc::new(oci::Blob {
                    session: Arc::new(session),
                    digest,
                })
            }
            Place::Local(path) => {
                return Err(ProvisionError::malformed(
                    path.display().to_string(),
                    "it is here already",
                ));
            }
        })
    }

    /// The words of the source for an error of its server.
    fn explain(&self, file: &PlannedFile, error: FetchError) -> ProvisionError {
        match &file.place {
            Place::Hub(url) => match hub::endpoint(&self.settings.hub) {
                Ok(endpoint) => hub::refused(
                    &endpoint,
                    &hub::repo_of(&endpoint, url),
                    file.name.as_str(),
                    error,
                ),
                Err(_) => error.into(),
            },
            Place::Web(url) => web::refused(url, error),
            Place::S3 { bucket, key } => s3::refused(bucket, key, error),
            Place::Blob { registry, .. } => oci::refused(registry, file.name.as_str(), error),
            Place::Local(_) => error.into(),
        }
    }

    /// Waits for the turn on a content.
    async fn turn(
        &self,
        key: &Sha256Digest,
        name: &str,
        meter: &Arc<Meter>,
        stop: &CancellationToken,
    ) -> Result<Turn, ProvisionError> {
        let mut told = false;
        loop {
            if stop.is_cancelled() {
                return Err(FetchError::Stopped.into());
            }
            if let Some(turn) = self.catalog.content_turn(key)? {
                return Ok(turn);
            }
            if !std::mem::replace(&mut told, true) {
                meter.notice(Notice::Waiting {
                    name: name.to_owned(),
                });
            }
            if stop.run_until_cancelled(sleep(LOOK)).await.is_none() {
                return Err(FetchError::Stopped.into());
            }
        }
    }
}

fn pin(files: &mut [PlannedFile], sha256: Sha256Digest) -> Result<(), ProvisionError> {
    let [file] = files else {
        return Err(ProvisionError::Settings {
            field: "sha256",
            rule: format!("a digest is of one file, and this model has {}", files.len()),
        });
    };
    match file.sha256 {
        Some(known) if known != sha256 => Err(FetchError::Digest {
            name: file.name.to_string(),
            expected: sha256,
            found: known,
        }
        .into()),
        _ => {
            file.sha256 = Some(sha256);
            Ok(())
        }
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProvisionError> + Send + 'static,
) -> Result<T, ProvisionError> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|_panicked| Err(FetchError::Stopped.into()))
}
