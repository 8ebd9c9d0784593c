//! The room of traces: an append-only log in segments, one frame per trace, one `write(2)` each. The oldest segment goes
//! when all together exceed their bound.

mod frame;
mod recover;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_types::ArtifactId;

use crate::catalog::{Catalog, Filter};
use crate::error::{GetError, OpenError, PutError};
use crate::files;
use crate::meta::{Meta, id_of};
use crate::store::Put;
use recover::{numbers, path_of, recover};

/// Segments are small beside the bound of all, so that dropping one frees a small part.
const SEGMENTS: u64 = 16;

#[derive(Debug)]
pub(crate) struct Packs {
    folder: PathBuf,
    max_bytes: u64,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    catalog: Catalog<Place>,
    file: Arc<File>,
    current: Segment,
    /// Oldest first.
    older: VecDeque<Segment>,
    /// Written and not synced.
    dirty: Vec<Arc<File>>,
    /// The name of the current segment is not synced.
    unnamed: bool,
    /// Segments that nobody needs any more and whose files are still there: removing one takes longer than an append may.
    doomed: Vec<u64>,
    /// Half a frame is at the end of the current segment and cannot be cut off.
    torn: bool,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u64,
    at: u64,
    len: usize,
}

#[derive(Debug, Default)]
struct Segment {
    number: u64,
    size: u64,
    traces: Vec<u64>,
}

impl Packs {
    /// Reads the segments, cuts off a torn end, and begins a new one: what was there before is only read.
    pub(crate) fn open(folder: &Path, max_bytes: u64) -> Result<Self, OpenError> {
        files::folder(folder).map_err(OpenError::at(folder))?;
        let mut catalog = Catalog::default();
        let mut older = VecDeque::new();
        for number in numbers(folder).map_err(OpenError::at(folder))? {
            let path = path_of(folder, number);
            let segment = recover(&path, number, &mut catalog).map_err(OpenError::at(&path))?;
            older.push_back(segment);
        }
        let number = older.back().map_or(0, |last| last.number + 1);
        let mut log = Log {
            catalog,
            file: begin(folder, number).map_err(OpenError::at(folder))?,
            current: Segment {
                number,
                ..Segment::default()
            },
            older,
            dirty: Vec::new(),
            unnamed: true,
            doomed: Vec::new(),
            torn: false,
            buffer: Vec::new(),
        };
        log.make_room(max_bytes);
        log.drop_empty();
        let packs = Self {
            folder: folder.to_owned(),
            max_bytes,
            log: Mutex::new(log),
        };
        packs.sync();
        Ok(packs)
    }

    pub(crate) fn append(&self, meta: Meta, content: &[u8]) -> Result<Put, PutError> {
        let mut log = self.log();
        if let Some((known, _)) = log.catalog.get(&meta.info.id) {
            return Ok(Put {
                meta: known.clone(),
                created: false,
                evicted: 0,
            });
        }
        let mut buffer = std::mem::take(&mut log.buffer);
        let head = frame::write(&mut buffer, &meta, content).map_err(io::Error::from)?;
        let written = log.write(&buffer, &self.folder, self.max_bytes / SEGMENTS);
        // One large trace must not hold its room for ever.
        if buffer.capacity() <= 1 << 20 {
            log.buffer = buffer;
        }
        let (segment, at) = written?;
        let place = Place {
            segment,
            at: at + head as u64,
            len: content.len(),
        };
        log.current.traces.push(meta.seq);
        log.catalog.insert(meta.clone(), place);
        let evicted = log.make_room(self.max_bytes);
        Ok(Put {
            meta,
            created: true,
            evicted,
        })
    }

    pub(crate) fn get(&self, id: &ArtifactId) -> Result<Option<(Meta, Vec<u8>)>, GetError> {
        let Some((meta, place)) = self.log().catalog.get(id).cloned() else {
            return Ok(None);
        };
        let mut content = vec![0; place.len];
        let read = File::open(path_of(&self.folder, place.segment))
            .and_then(|file| file.read_exact_at(&mut content, place.at));
        match read {
            Ok(()) if id_of(&content) == *id => Ok(Some((meta, content))),
            Ok(()) => Err(GetError::Damaged { id: *id }),
            // Removed in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(GetError::Damaged { id: *id }),
            Err(source) => Err(GetError::Io { id: *id, source }),
        }
    }

    pub(crate) fn meta(&self, id: &ArtifactId) -> Option<Meta> {
        self.log().catalog.get(id).map(|(meta, _)| meta.clone())
    }

    pub(crate) fn list(&self, filter: &Filter, limit: usize) -> Vec<Meta> {
        if filter
            .kind
            .is_some_and(|kind| kind != api_types::ArtifactKind::Trace)
        {
            return Vec::new();
        }
        self.log().catalog.list(filter, limit)
    }

    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.log().catalog.last_seq()
    }

    pub(crate) fn len(&self) -> usize {
        self.log().catalog.len()
    }

    /// Forgets what is kept since `until_ms` or longer; a segment goes with the last of its traces, at the next
    /// [`sync`](Self::sync).
    pub(crate) fn expire(&self, until_ms: u64) -> usize {
        let mut log = self.log();
        let old = log.catalog.kept_until(until_ms);
        for &seq in &old {
            log.catalog.remove(seq);
        }
        log.drop_empty();
        old.len()
    }

    pub(crate) fn has_unsynced(&self) -> bool {
        let log = self.log();
        !log.dirty.is_empty() || !log.doomed.is_empty()
    }

    /// A failed sync is told and not repeated: a second one may succeed without the data.
    pub(crate) fn sync(&self) {
        let mut log = self.log();
        let (files, doomed) = (std::mem::take(&mut log.dirty), std::mem::take(&mut log.doomed));
        let unnamed = std::mem::take(&mut log.unnamed);
        drop(log);
        let named = if unnamed {
            files::sync_folder(&self.folder)
        } else {
            Ok(())
        };
        let synced = files.iter().try_for_each(|file| file.sync_data());
        if let Err(error) = named.and(synced) {
            tracing::warn!(%error, "traces cannot be synced; a power cut may lose more than the last second");
        }
        for number in doomed {
            remove(&self.folder, number);
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // Every change is complete when the lock is released.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Appends a frame whole or not at all; tells where.
    fn write(&mut self, frame: &[u8], folder: &Path, segment_bytes: u64) -> io::Result<(u64, u64)> {
        let full = self.current.size > 0 && self.current.size + frame.len() as u64 > segment_bytes;
        if full || self.torn {
            self.next_segment(folder)?;
        }
        if let Err(error) = (&*self.file).write_all(frame) {
            // Half a frame would hide every frame after it.
            self.torn = self.file.set_len(self.current.size).is_err();
            return Err(error);
        }
        let at = self.current.size;
        self.current.size += frame.len() as u64;
        if !self.dirty.iter().any(|file| Arc::ptr_eq(file, &self.file)) {
            self.dirty.push(Arc::clone(&self.file));
        }
        Ok((self.current.number, at))
    }

    fn next_segment(&mut self, folder: &Path) -> io::Result<()> {
        let number = self.current.number + 1;
        self.file = begin(folder, number)?;
        self.torn = false;
        self.unnamed = true;
        let next = Segment {
            number,
            ..Segment::default()
        };
        self.older.push_back(std::mem::replace(&mut self.current, next));
        Ok(())
    }

    /// Drops the oldest segments until the rest fits; tells how many traces went.
    fn make_room(&mut self, max_bytes: u64) -> usize {
        let total = |log: &Self| log.current.size + log.older.iter().map(|segment| segment.size).sum::<u64>();
        let mut evicted = 0;
        while total(self) > max_bytes
            && let Some(oldest) = self.older.pop_front()
        {
            let gone = oldest.traces.iter().filter_map(|&seq| self.catalog.remove(seq));
            evicted += gone.count();
            self.doomed.push(oldest.number);
        }
        evicted
    }

    fn drop_empty(&mut self) {
        let (catalog, doomed) = (&self.catalog, &mut self.doomed);
        self.older.retain(|segment| {
            let needed = segment.traces.iter().any(|&seq| catalog.contains(seq));
            if !needed {
                doomed.push(segment.number);
            }
            needed
        });
    }
}

fn remove(folder: &Path, number: u64) {
    if let Err(error) = fs::remove_file(path_of(folder, number)) {
        tracing::warn!(%error, segment = number, "a segment of traces cannot be removed");
    }
}

fn begin(folder: &Path, number: u64) -> io::Result<Arc<File>> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(owned_folder::PRIVATE_FILE)
        .open(path_of(folder, number))?;
    Ok(Arc::new(file))
}

#[cfg(test)]
mod tests;
