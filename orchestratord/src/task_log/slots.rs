//! What the log knows of each reader: where it is, how it is woken, how far its output has got.

use std::task::Waker;

use bytes::Bytes;
use http_front::{Mark, Sent};

/// Where a reader is: the next segment, and the bytes of it to skip.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    pub(super) segment: usize,
    pub(super) skip: usize,
}

/// One reader, or room for one.
#[derive(Debug, Default)]
pub(super) struct ReaderSlot {
    pub(super) attached: bool,
    pub(super) detached_slow: bool,
    pub(super) cursor: Cursor,
    pub(super) waker: Option<Waker>,
    pub(super) output: Option<Output>,
}

/// What a reader has taken goes out over a connection, up to a mark.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) connection: Sent,
    pub(super) upto: Mark,
}

impl Output {
    pub(super) fn is_sent(&self) -> bool {
        self.connection.has_reached(self.upto)
    }
}

/// What a reader finds.
#[derive(Debug)]
pub(super) enum Next {
    Data(Bytes),
    Wait,
    End,
}

/// Wakers to call after the lock is released. Nearly always one reader.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakers {
    pub(super) fn push(&mut self, waker: Option<Waker>) {
        match (waker, &self.first) {
            (Some(waker), None) => self.first = Some(waker),
            (Some(waker), Some(_)) => self.rest.push(waker),
            (None, _) => {}
        }
    }

    pub(super) fn wake(self) {
        self.first.into_iter().chain(self.rest).for_each(Waker::wake);
    }
}
