//! The room of what clients store: `blobs/sha256/<2>/<hex>` for the bytes, `meta/<2>/<hex>.json` for what is known of
//! them. An artifact is there when its meta file is; a blob without one is what a crash has left, and goes at the next
//! start (mark and sweep: nothing counts references).

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use api_types::ArtifactId;
use api_types::artifact::MAX_TAGS;

use crate::catalog::{Catalog, Filter};
use crate::error::{GetError, OpenError, PutError};
use crate::files::{self, Placed, Scratch};
use crate::meta::{Meta, New, Stamp, id_of};
use crate::store::Put;

/// What a file takes on a disk beside its bytes, and what its bytes are rounded up to.
const BLOCK: u64 = 4096;

#[derive(Debug)]
pub(crate) struct Loose {
    blobs: PathBuf,
    meta: PathBuf,
    scratch: Scratch,
    max_bytes: u64,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    catalog: Catalog<()>,
    /// What the artifacts take on the disk.
    bytes: u64,
}

impl Loose {
    /// Opens the folders and sweeps what a crash has left.
    pub(crate) fn open(root: &Path, max_bytes: u64) -> Result<Self, OpenError> {
        let (blobs, meta) = (root.join("blobs/sha256"), root.join("meta"));
        for folder in [&blobs, &meta] {
            files::folder(folder).map_err(OpenError::at(folder))?;
        }
        let scratch = root.join("tmp");
        let (scratch, unfinished) = Scratch::open(scratch.clone()).map_err(OpenError::at(&scratch))?;
        let loose = Self {
            blobs,
            meta,
            scratch,
            max_bytes,
            shelf: Mutex::default(),
        };
        let marked = loose.read_meta().map_err(OpenError::at(&loose.meta))?;
        let unmarked = loose.sweep_blobs(&marked).map_err(OpenError::at(&loose.blobs))?;
        if unfinished + unmarked > 0 {
            tracing::info!(
                unfinished,
                unmarked,
                "artifact files that a crash has left are removed"
            );
        }
        Ok(loose)
    }

    /// Fills the catalog; tells which blobs are named by a meta file, also by one that cannot be read: it may be of
    /// another version, and what it names is not ours to remove.
    fn read_meta(&self) -> io::Result<HashSet<String>> {
        let mut marked = HashSet::new();
        let mut shelf = self.shelf();
        for path in files::files_of(&self.meta)? {
            let Some(hex) = path.file_stem().and_then(|name| name.to_str()) else {
                continue;
            };
            let meta = Meta::parse(&fs::read(&path)?).filter(|meta| meta.info.id.hex() == hex);
            let whole = |meta: &Meta| {
                fs::metadata(self.blob(&meta.info.id)).is_ok_and(|blob| blob.len() == meta.info.bytes)
            };
            match meta {
                Some(meta) if whole(&meta) => {
                    shelf.bytes += taken(&meta);
                    shelf.catalog.insert(meta, ());
                }
                Some(_) => {
                    tracing::warn!(artifact = hex, "an artifact has lost its content and is removed");
                    fs::remove_file(&path)?;
                    continue;
                }
                None => tracing::warn!(
                    artifact = hex,
                    "what is known of an artifact cannot be read; it is not served"
                ),
            }
            marked.insert(hex.to_owned());
        }
        Ok(marked)
    }

    fn sweep_blobs(&self, marked: &HashSet<String>) -> io::Result<usize> {
        let mut swept = 0;
        for path in files::files_of(&self.blobs)? {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| !marked.contains(name)) {
                fs::remove_file(&path)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    pub(crate) fn put(&self, new: &New<'_>, stamp: Stamp, seq: &AtomicU64) -> Result<Put, PutError> {
        let id = id_of(new.content);
        if self.shelf().catalog.get(&id).is_some() {
            return self.put_again(id, new, stamp, seq);
        }
        let draft = self.scratch.write(new.content)?;
        let written = ArtifactId::of_digest(draft.digest());
        if written != id {
            return Err(PutError::Io(io::Error::other(
                "the content changed while it was written",
            )));
        }
        let blob = self.blob(&id);
        if let Some(folder) = blob.parent() {
            files::folder(folder)?;
        }
        let mut shelf = self.shelf();
        if shelf.catalog.get(&id).is_some() {
            drop(shelf);
            return self.put_again(id, new, stamp, seq);
        }
        // Taken without being known: what a failed attempt has left.
        if draft.place(&blob)? == Placed::Taken {
            self.scratch.write(new.content)?.replace(&blob)?;
        }
        let meta = Meta::new(id, new, seq.fetch_add(1, Ordering::Relaxed), stamp);
        if let Err(error) = self.write_meta(&meta) {
            let _without_meta_it_goes_at_the_next_start = fs::remove_file(&blob);
            return Err(error.into());
        }
        shelf.bytes += taken(&meta);
        shelf.catalog.insert(meta.clone(), ());
        let evicted = self.make_room(&mut shelf, meta.seq);
        Ok(Put {
            meta,
            created: true,
            evicted,
        })
    }

    /// The content is there: its tags are joined, and its age counts from now on.
    fn put_again(
        &self,
        id: ArtifactId,
        new: &New<'_>,
        stamp: Stamp,
        seq: &AtomicU64,
    ) -> Result<Put, PutError> {
        let mut shelf = self.shelf();
        let Some((known, ())) = shelf.catalog.get(&id) else {
            // Removed in between.
            drop(shelf);
            return self.put(new, stamp, seq);
        };
        let mut meta = known.clone();
        if meta.info.kind != new.kind {
            return Err(PutError::other_kind(meta.info.kind));
        }
        if meta.info.media_type != new.media_type {
            return Err(PutError::Differs {
                field: "media_type",
                known: meta.info.media_type,
            });
        }
        meta.info.tags.extend(new.tags.iter().cloned());
        meta.info.tags.sort_unstable();
        meta.info.tags.dedup();
        let tags = meta.info.tags.len();
        if tags > MAX_TAGS {
            return Err(PutError::TooManyTags { tags, max: MAX_TAGS });
        }
        meta.kept_from_ms = meta.kept_from_ms.max(stamp.now_ms);
        if matches!(self.read(&meta), Ok(None) | Err(GetError::Damaged { .. })) {
            self.scratch.write(new.content)?.replace(&self.blob(&id))?;
        }
        self.write_meta(&meta)?;
        shelf.catalog.insert(meta.clone(), ());
        Ok(Put {
            meta,
            created: false,
            evicted: 0,
        })
    }

    fn write_meta(&self, meta: &Meta) -> io::Result<()> {
        let path = self.meta_file(&meta.info.id);
        if let Some(folder) = path.parent() {
            files::folder(folder)?;
        }
        self.scratch.write(&serde_json::to_vec(meta)?)?.replace(&path)
    }

    pub(crate) fn get(&self, id: &ArtifactId) -> Result<Option<(Meta, Vec<u8>)>, GetError> {
        let Some(meta) = self.meta(id) else {
            return Ok(None);
        };
        Ok(self.read(&meta)?.map(|content| (meta, content)))
    }

    pub(crate) fn meta(&self, id: &ArtifactId) -> Option<Meta> {
        self.shelf().catalog.get(id).map(|(meta, ())| meta.clone())
    }

    /// `None` when it was removed in between.
    fn read(&self, meta: &Meta) -> Result<Option<Vec<u8>>, GetError> {
        let id = meta.info.id;
        match fs::read(self.blob(&id)) {
            Ok(content) if id_of(&content) == id => Ok(Some(content)),
            Ok(_) => Err(GetError::Damaged { id }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(GetError::Io { id, source }),
        }
    }

    pub(crate) fn list(&self, filter: &Filter, limit: usize) -> Vec<Meta> {
        self.shelf().catalog.list(filter, limit)
    }

    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.shelf().catalog.last_seq()
    }

    pub(crate) fn len(&self) -> usize {
        self.shelf().catalog.len()
    }

    /// Removes what is kept since `until_ms` or longer.
    pub(crate) fn expire(&self, until_ms: u64) -> usize {
        let mut shelf = self.shelf();
        let old = shelf.catalog.kept_until(until_ms);
        old.iter().filter(|&&seq| self.remove(&mut shelf, seq)).count()
    }

    /// Removes the oldest until the rest fits; never the newest.
    fn make_room(&self, shelf: &mut Shelf, newest: u64) -> usize {
        let mut evicted = 0;
        while shelf.bytes > self.max_bytes {
            match shelf.catalog.oldest().filter(|&seq| seq != newest) {
                Some(seq) => evicted += usize::from(self.remove(shelf, seq)),
                None => break,
            }
        }
        evicted
    }

    /// Its name first: a blob without one is swept, a name without a blob would be a lie.
    fn remove(&self, shelf: &mut Shelf, seq: u64) -> bool {
        let Some((meta, ())) = shelf.catalog.remove(seq) else {
            return false;
        };
        shelf.bytes -= taken(&meta);
        let (id, path) = (meta.info.id, self.meta_file(&meta.info.id));
        let removed = fs::remove_file(&path)
            .and_then(|()| path.parent().map_or(Ok(()), files::sync_folder))
            .and_then(|()| fs::remove_file(self.blob(&id)));
        if let Err(error) = removed {
            tracing::warn!(%error, artifact = %id, "an artifact cannot be removed whole");
        }
        true
    }

    fn blob(&self, id: &ArtifactId) -> PathBuf {
        let hex = id.hex();
        self.blobs.join(&hex[..2]).join(hex)
    }

    fn meta_file(&self, id: &ArtifactId) -> PathBuf {
        let hex = id.hex();
        self.meta.join(&hex[..2]).join(format!("{hex}.json"))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // The catalog is changed after the disk, in steps that each leave it whole.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn taken(meta: &Meta) -> u64 {
    meta.info.bytes.next_multiple_of(BLOCK) + BLOCK
}
