//! What a download tells while it runs.

use std::time::Duration;

use crate::error::FetchError;

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many bytes are on the disk from an earlier try.
    Resumed {
        /// How many.
        bytes: u64,
    },
    /// So many more bytes are on the disk.
    Received {
        /// How many.
        bytes: u64,
    },
    /// So many bytes were there in vain: the file begins anew.
    Discarded {
        /// How many.
        bytes: u64,
        /// Why.
        error: &'a FetchError,
    },
    /// A request failed and is made again after a pause.
    Retrying {
        /// How it failed.
        error: &'a FetchError,
        /// How long the pause is.
        pause: Duration,
    },
}

/// Somebody who is told. Called from the tasks that download: must not block.
pub trait Observer: Send + Sync {
    /// Something happened to the file of this name.
    fn event(&self, name: &str, event: Event<'_>);
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn event(&self, _name: &str, _event: Event<'_>) {}
}
