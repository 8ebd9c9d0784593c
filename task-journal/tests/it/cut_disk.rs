//! A disk in memory that loses power: what was not synced is kept, lost or torn sector by sector.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use task_journal::StorageBackend;

const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct State {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What survives for certain.
    synced: Vec<u8>,
    /// Syncs until the power goes; `None`: never.
    syncs_left: Option<u32>,
    dead: bool,
}

/// Shared, so that the test holds it while the database uses it.
#[derive(Debug, Clone, Default)]
pub(crate) struct CutDisk(Arc<Mutex<State>>);

/// A small generator: the same seed tears the same sectors.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

impl CutDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The power goes at the `syncs`-th sync from now, before it takes effect.
    pub(crate) fn cut_at_sync(&self, syncs: u32) {
        self.state().syncs_left = Some(syncs);
    }

    /// What is on the disk when the power is back.
    pub(crate) fn after_cut(&self, dice: &mut Dice) -> Self {
        let state = self.state();
        let len = if dice.below(2) == 0 {
            state.seen.len()
        } else {
            state.synced.len()
        };
        let mut bytes = state.synced.clone();
        bytes.resize(len, 0);
        for start in (0..len).step_by(SECTOR) {
            let end = (start + SECTOR).min(len).min(state.seen.len());
            if start >= end || bytes[start..end] == state.seen[start..end] {
                continue;
            }
            match dice.below(3) {
                0 => {}
                1 => bytes[start..end].copy_from_slice(&state.seen[start..end]),
                _ => {
                    let torn = start + dice.below((end - start) as u64) as usize;
                    bytes[start..torn].copy_from_slice(&state.seen[start..torn]);
                }
            }
        }
        Self(Arc::new(Mutex::new(State {
            seen: bytes.clone(),
            synced: bytes,
            ..State::default()
        })))
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is gone")
}

impl StorageBackend for CutDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, start) = (self.state(), offset as usize);
        let bytes = state.seen.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.dead {
            return Err(no_power());
        }
        state.seen.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.dead {
            return Err(no_power());
        }
        match &mut state.syncs_left {
            Some(0) => {
                state.dead = true;
                return Err(no_power());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        state.synced = state.seen.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.dead {
            return Err(no_power());
        }
        let start = offset as usize;
        state.seen[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}
