//! How far a download is, how fast it goes, and when it will be done. Reads tokio's clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api_types::{ModelId, Sha256Digest};
use downloader::{Event, Observer};
use tokio::time::Instant;

/// Between two reports: often enough for an eye, seldom enough for a log of a slow line.
const PAUSE: Duration = Duration::from_millis(250);
/// Weight of the latest interval in the rate, in tenths.
const LATEST: u64 = 3;

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are on the disk, from earlier tries too.
    pub done: u64,
    /// Bytes in all, where every file's size is known.
    pub total: Option<u64>,
    /// Lately, bytes.
    pub bytes_per_s: u64,
    /// Until it is done at this rate.
    pub eta: Option<Duration>,
}

/// Something that happened while a plan was executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Somebody else works on the same thing; this waits for them.
    Waiting {
        /// On what.
        name: String,
    },
    /// How far it is; at most four in a second.
    Progress(Progress),
    /// A request failed and is made again.
    Retrying {
        /// Of which file.
        name: String,
        /// How it failed.
        why: String,
        /// After how long.
        pause: Duration,
    },
    /// A file turned out wrong and begins anew.
    Restarting {
        /// Which.
        name: String,
        /// What was wrong.
        why: String,
    },
    /// A file is here, whole, with this digest.
    Verified {
        /// Which.
        name: String,
        /// Its digest.
        sha256: Sha256Digest,
    },
    /// All files are where an engine will find them.
    Published {
        /// The model.
        id: ModelId,
    },
    /// The catalog shows it.
    Registered {
        /// The model.
        id: ModelId,
    },
}

/// Somebody who is told. Called from the tasks that work: must not block.
pub trait Reporter: Send + Sync {
    /// Something happened.
    fn notice(&self, notice: Notice);
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unreported;

impl Reporter for Unreported {
    fn notice(&self, _notice: Notice) {}
}

/// Adds up what the files of one plan tell.
pub(crate) struct Meter {
    reporter: Arc<dyn Reporter>,
    state: Mutex<State>,
}

struct State {
    progress: Progress,
    since: Instant,
    received: u64,
    spoken: Option<Instant>,
}

impl Meter {
    pub(crate) fn new(reporter: Arc<dyn Reporter>, total: Option<u64>) -> Self {
        Self {
            reporter,
            state: Mutex::new(State {
                progress: Progress {
                    total,
                    ..Progress::default()
                },
                since: Instant::now(),
                received: 0,
                spoken: None,
            }),
        }
    }

    pub(crate) fn notice(&self, notice: Notice) {
        self.reporter.notice(notice);
    }

    /// Bytes that need no download.
    pub(crate) fn skip(&self, bytes: u64) {
        self.change(|state| state.progress.done += bytes);
    }

    /// Bytes that came, or were read.
    pub(crate) fn add(&self, bytes: u64) {
        self.change(|state| {
            state.progress.done += bytes;
            state.received += bytes;
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let told = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut state);
            state.due()
        };
        if let Some(progress) = told {
            self.reporter.notice(Notice::Progress(progress));
        }
    }
}

impl State {
    fn due(&mut self) -> Option<Progress> {
        let now = Instant::now();
        let is_whole = Some(self.progress.done) == self.progress.total;
        if self.spoken.is_some_and(|spoken| now - spoken < PAUSE) && !is_whole {
            return None;
        }
        self.spoken = Some(now);
        let lasted = u64::try_from((now - self.since).as_millis()).unwrap_or(u64::MAX);
        if let Some(rate) = self.received.saturating_mul(1000).checked_div(lasted) {
            let known = self.progress.bytes_per_s;
            self.progress.bytes_per_s = match known {
                0 => rate,
                known => (rate.saturating_mul(LATEST) + known.saturating_mul(10 - LATEST)) / 10,
            };
            (self.since, self.received) = (now, 0);
        }
        let left = self
            .progress
            .total
            .map(|total| total.saturating_sub(self.progress.done));
        self.progress.eta = left
            .and_then(|left| left.checked_div(self.progress.bytes_per_s))
            .map(Duration::from_secs);
        Some(self.progress)
    }
}

impl Observer for Meter {
    fn event(&self, name: &str, event: Event<'_>) {
        match event {
            Event::Resumed { bytes } => self.skip(bytes),
            Event::Received { bytes } => self.add(bytes),
            Event::Discarded { bytes, error } => {
                self.change(|state| state.progress.done = state.progress.done.saturating_sub(bytes));
                self.notice(Notice::Restarting {
                    name: name.to_owned(),
                    why: error.to_string(),
                });
            }
            Event::Retrying { error, pause } => self.notice(Notice::Retrying {
                name: name.to_owned(),
                why: error.to_string(),
                pause,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Notice>>);

    impl Reporter for Kept {
        fn notice(&self, notice: Notice) {
            self.0.lock().unwrap().push(notice);
        }
    }

    fn last(kept: &Kept) -> Progress {
        match kept.0.lock().unwrap().last() {
            Some(Notice::Progress(progress)) => *progress,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rate_and_end_follow_what_comes() {
        let kept = Arc::new(Kept::default());
        let meter = Meter::new(kept.clone(), Some(10_000));
        meter.skip(2_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        meter.add(1_000);
        let first = last(&kept);
        assert_eq!((first.done, first.bytes_per_s), (3_000, 1_000));
        assert_eq!(first.eta, Some(Duration::from_secs(7)));
        meter.add(1);
        assert_eq!(kept.0.lock().unwrap().len(), 2, "not more than four in a second");
        tokio::time::advance(Duration::from_secs(1)).await;
        meter.add(6_999);
        let end = last(&kept);
        assert_eq!((end.done, end.eta), (10_000, Some(Duration::ZERO)));
        assert_eq!(end.bytes_per_s, 2_800);
    }
}
