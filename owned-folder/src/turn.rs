//! A lock that processes and threads hold one after the other. Touches its file.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::private_file;

/// The turn is over when this is dropped, or with the process, however it ends.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits until nobody else has the turn. Blocks.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub fn wait(path: &Path) -> io::Result<Self> {
        let lock = private_file(path)?;
        loop {
            match flock(&lock, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self { _lock: lock }),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes the turn, unless somebody else has it.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let lock = private_file(path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _lock: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_turn_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turn");
        let turn = Turn::wait(&path).unwrap();
        assert!(Turn::take(&path).unwrap().is_none());
        drop(turn);
        assert!(Turn::take(&path).unwrap().is_some());
    }
}
