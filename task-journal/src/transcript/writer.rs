//! The segment that is written, those before it, and which of them are still needed.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use api_types::TaskId;
use owned_folder::PRIVATE_FILE;

use super::recover::path_of;

/// Segments are small beside the bound of all, so that dropping one frees a small part.
const SEGMENTS: u64 = 16;

#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    max_bytes: u64,
    file: Arc<File>,
    number: u64,
    size: u64,
    /// Number and size of the segments before, oldest first.
    older: VecDeque<(u64, u64)>,
    /// The oldest segment that each task needs.
    needed: HashMap<TaskId, u64>,
}

impl Writer {
    /// Begins a new segment: what was there before is only read.
    pub(super) fn new(
        folder: PathBuf,
        max_bytes: u64,
        segments: Vec<(u64, u64)>,
        needed: HashMap<TaskId, u64>,
    ) -> io::Result<Self> {
        let number = segments.last().map_or(0, |(number, _)| number + 1);
        let mut writer = Self {
            file: segment(&folder, number)?,
            folder,
            max_bytes,
            number,
            size: 0,
            older: segments.into(),
            needed,
        };
        writer.drop_segments();
        Ok(writer)
    }

    /// Appends a frame whole or not at all.
    pub(super) fn append(&mut self, task: TaskId, frame: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + frame.len() as u64 > self.max_bytes / SEGMENTS {
            self.next_segment()?;
        }
        if let Err(error) = (&*self.file).write_all(frame) {
            // Half a frame would hide every frame after it.
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size += frame.len() as u64;
        self.needed.entry(task).or_insert(self.number);
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    pub(super) fn forget(&mut self, task: &TaskId) {
        let oldest = self.older.front().map(|(number, _)| *number);
        if self.needed.remove(task) == oldest {
            self.drop_segments();
        }
    }

    fn next_segment(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let file = segment(&self.folder, self.number + 1)?;
        self.older.push_back((self.number, self.size));
        self.number += 1;
        self.size = 0;
        self.file = file;
        self.drop_segments();
        Ok(())
    }

    fn drop_segments(&mut self) {
        let needed = self.needed.values().min().copied().unwrap_or(self.number);
        let mut total: u64 = self.size + self.older.iter().map(|(_, size)| size).sum::<u64>();
        while let Some(&(number, size)) = self.older.front() {
            let too_much = total > self.max_bytes;
            if number >= needed && !too_much {
                break;
            }
            if number >= needed {
                tracing::warn!(
                    segment = number,
                    "transcripts exceed their bound; the oldest are dropped"
                );
                self.needed.retain(|_, first| *first != number);
            }
            if let Err(error) = fs::remove_file(path_of(&self.folder, number)) {
                tracing::warn!(%error, segment = number, "a transcript segment cannot be removed");
            }
            self.older.pop_front();
            total -= size;
        }
    }
}

fn segment(folder: &std::path::Path, number: u64) -> io::Result<Arc<File>> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(PRIVATE_FILE)
        .open(path_of(folder, number))?;
    File::open(folder)?.sync_all()?;
    Ok(Arc::new(file))
}
