//! The folder of a download that is not complete: the bytes, and which of them are there. Blocking.
//!
//! ```text
//! data          the file, with holes
//! state.json    which bytes are there, by which validator; never claims bytes that are not synced
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::FetchError;
use crate::intervals::Intervals;

/// Another one is not resumed.
const SCHEMA: u32 = 1;

/// What is known of the bytes in the folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    schema: u32,
    /// Size of the whole file.
    pub(crate) bytes: Option<u64>,
    /// Validator of the server that the bytes came from.
    pub(crate) etag: Option<String>,
    /// Which are there.
    pub(crate) there: Intervals,
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Partial {
    folder: PathBuf,
    data: File,
    /// Parts that end at once note it one after the other.
    saving: Mutex<()>,
}

impl Partial {
    /// Opens the folder, makes it where it is not there yet, and reads how far it is. What cannot be trusted is begun anew:
    /// without a digest to check the whole by, only bytes of a known validator are.
    pub(crate) fn open(
        folder: &Path,
        bytes: Option<u64>,
        verified: bool,
    ) -> Result<(Self, State), FetchError> {
        owned_folder::private_dir(folder).map_err(FetchError::at(folder))?;
        let path = folder.join("data");
        let data = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(owned_folder::PRIVATE_FILE)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(FetchError::at(&path))?;
        let partial = Self {
            folder: folder.to_owned(),
            data,
            saving: Mutex::new(()),
        };
        let length = partial.data.metadata().map_err(FetchError::at(&path))?.len();
        let state = partial.read_state().filter(|state| {
            let same = bytes.is_none() || state.bytes == bytes;
            let trusted = verified || state.etag.is_some();
            state.schema == SCHEMA && same && trusted && state.there.is_sound(Some(length))
        });
        let mut state = state.unwrap_or_default();
        if state == State::default() {
            partial.data.set_len(0).map_err(FetchError::at(&path))?;
        }
        (state.schema, state.bytes) = (SCHEMA, state.bytes.or(bytes));
        Ok((partial, state))
    }

    /// Takes the room of the whole file, where the file system can; otherwise a full disk is noticed later.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), FetchError> {
        let at = || FetchError::at(&self.data_path());
        if bytes == 0 {
            return Ok(());
        }
        match fallocate(&self.data, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.data.set_len(bytes).map_err(at()),
            Err(error) => Err(at()(error.into())),
        }
    }

    pub(crate) fn write(&self, pieces: &[Bytes], mut at: u64) -> Result<(), FetchError> {
        for piece in pieces {
            self.data
                .write_all_at(piece, at)
                .map_err(FetchError::at(&self.data_path()))?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    pub(crate) fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.data.read_at(into, at)
    }

    /// Notes what is there, after it is on the disk: what `state` tells was written before it is asked.
    pub(crate) fn save(&self, state: impl FnOnce() -> State) -> Result<(), FetchError> {
        let _one_at_a_time = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, state) = (self.folder.join("state.json"), state());
        self.data.sync_data().map_err(FetchError::at(&self.data_path()))?;
        let json = serde_json::to_vec(&state).map_err(|error| FetchError::at(&path)(error.into()))?;
        owned_folder::replace_file(&path, &json).map_err(FetchError::at(&path))
    }

    /// Cuts what is behind the end and brings everything to the disk.
    pub(crate) fn finish(&self, bytes: u64) -> Result<PathBuf, FetchError> {
        let path = self.data_path();
        self.data.set_len(bytes).map_err(FetchError::at(&path))?;
        self.data.sync_all().map_err(FetchError::at(&path))?;
        Ok(path)
    }

    /// Forgets everything.
    pub(crate) fn discard(folder: &Path) -> Result<(), FetchError> {
        // The state goes first: bytes without a state are begun anew, a state without bytes must not be.
        for name in ["state.json", "state.json.new", "data"] {
            let path = folder.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FetchError::at(&path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn data_path(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn read_state(&self) -> Option<State> {
        serde_json::from_slice(&fs::read(self.folder.join("state.json")).ok()?).ok()
    }
}
