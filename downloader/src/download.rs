//! One file: parts at once where the server gives parts, verified while it comes, begun anew when it turns out wrong.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api_types::Sha256Digest;
use http::Method;
use http::header::{HeaderMap, HeaderValue, RANGE};
use http_util::retry::RetryPolicy;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::FetchError;
use crate::hasher::{Frontier, hash};
use crate::intervals::Intervals;
use crate::observe::{Event, Observer};
use crate::partial::Partial;
use crate::range::{Range, range, strong_etag};
use crate::segment::{Opened, Origin, Patience, Shared};
use crate::transport::{Answer, Ask, Transport};

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Requests at once for one file, where its server gives parts.
    pub connections: usize,
    /// Bytes of one request; what is on the disk is noted after each.
    pub segment: u64,
    /// Tries without any progress.
    pub retry: RetryPolicy,
    /// Longest wait that a server may ask for.
    pub longest_wait: Duration,
    /// A server that sends fewer bytes per second than this …
    pub slowest: u64,
    /// … for this long is asked again.
    pub slow_for: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            connections: 4,
            segment: 32 << 20,
            retry: RetryPolicy {
                attempts: 6,
                base_delay: Duration::from_millis(500),
                max_delay: Duration::from_secs(30),
            },
            longest_wait: Duration::from_secs(120),
            slowest: 1 << 10,
            slow_for: Duration::from_secs(30),
        }
    }
}

/// What is to be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// How it is called in errors and events.
    pub name: String,
    /// Its size, where it is known.
    pub bytes: Option<u64>,
    /// The digest it must have, where it is known.
    pub sha256: Option<Sha256Digest>,
}

/// A file that is there whole, synced, with the digest that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// Where it is: in the folder that was given, to be moved away.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256Digest,
}

/// What a server says of a file.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Its size, where it is told.
    pub bytes: Option<u64>,
    /// Its strong validator, where it has one.
    pub etag: Option<String>,
    /// The whole head.
    pub headers: HeaderMap,
}

/// How often a file that turned out wrong is begun anew: once, because a resumed one may owe it to the bytes from before,
/// and one that was fresh to something on the way.
const FRESH_STARTS: u32 = 1;

/// Downloads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Downloader {
    transport: Transport,
    effort: Effort,
}

impl Downloader {
    /// Downloads through this transport.
    #[must_use]
    pub const fn new(transport: Transport, effort: Effort) -> Self {
        Self { transport, effort }
    }

    /// The transport.
    #[must_use]
    pub const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Asks once, and again where that may help; an answer with a status other than 2xx is an error.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn answer(&self, ask: &Ask, stop: &CancellationToken) -> Result<Answer, FetchError> {
        self.patiently(ask, stop, |answer| answer.status.is_success())
            .await
    }

    /// What a server says of a file, for the price of its first byte: a HEAD is refused by many, and signed addresses are
    /// signed for a GET.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn probe(&self, ask: &Ask, stop: &CancellationToken) -> Result<Probe, FetchError> {
        let ask = match ask.method {
            Method::HEAD => ask.clone(),
            _ => ask.clone().header(RANGE, HeaderValue::from_static("bytes=0-0")),
        };
        let answer = self
            .patiently(&ask, stop, |answer| {
                range(answer.status, &answer.headers).is_some()
            })
            .await?;
        let bytes = match range(answer.status, &answer.headers) {
            Some(Range::Whole(bytes) | Range::Part(_, _, bytes) | Range::Beyond(bytes)) => bytes,
            None => None,
        };
        Ok(Probe {
            bytes,
            etag: strong_etag(&answer.headers),
            headers: answer.headers,
        })
    }

    async fn patiently(
        &self,
        ask: &Ask,
        stop: &CancellationToken,
        is_good: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, FetchError> {
        let mut patience = Patience::new(self.effort);
        loop {
            let tried = async {
                let answer = self.transport.get(ask).await?;
                if is_good(&answer) {
                    Ok(answer)
                } else {
                    Err(answer.refusal().await)
                }
            };
            let error = match stop.run_until_cancelled(tried).await {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) => error,
                None => return Err(FetchError::Stopped),
            };
            let Some(pause) = patience.after(&error) else {
                return Err(error);
            };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return Err(FetchError::Stopped);
            }
        }
    }

    /// Downloads into `folder`, going on with what an earlier try has left there. The caller sees to it that nobody else
    /// uses the folder meanwhile.
    ///
    /// # Errors
    /// [`FetchError`]. What came stays in the folder for the next try, unless it was wrong: then it is gone.
    pub async fn download(
        &self,
        wanted: &Wanted,
        origin: Arc<dyn Origin>,
        folder: &Path,
        observer: Arc<dyn Observer>,
        stop: &CancellationToken,
    ) -> Result<Complete, FetchError> {
        let mut fresh = 0;
        loop {
            let tried = self.attempt(wanted, &origin, folder, &observer, stop).await;
            let error = match tried {
                Ok(complete) => return Ok(complete),
                Err((error, there)) if is_wrong(&error) => {
                    let folder = folder.to_owned();
                    blocking(move || Partial::discard(&folder)).await?;
                    observer.event(
                        &wanted.name,
                        Event::Discarded {
                            bytes: there,
                            error: &error,
                        },
                    );
                    error
                }
                Err((error, _)) => return Err(error),
            };
            if fresh == FRESH_STARTS {
                return Err(error);
            }
            fresh += 1;
        }
    }

    async fn attempt(
        &self,
        wanted: &Wanted,
        origin: &Arc<dyn Origin>,
        folder: &Path,
        observer: &Arc<dyn Observer>,
        stop: &CancellationToken,
    ) -> Result<Complete, (FetchError, u64)> {
        let shared = self
            .prepare(wanted, origin, folder, observer, stop)
            .await
            .map_err(|error| (error, 0))?;
        let there = |error| (error, shared.state(|state| state.there.sum()));
        let hashing = {
            let shared = Arc::clone(&shared);
            spawn_blocking(move || hash(&shared.partial, &shared.frontier))
        };
        let arrived = arrive(&shared).await;
        match arrived {
            Ok(()) => shared.frontier.end(),
            Err(_) => shared.frontier.stop(),
        }
        let hashed = hashing.await.unwrap_or(Err(FetchError::Stopped));
        if let Err(error) = arrived {
            // Kept for the next try; that this fails too must not hide why it was needed.
            let _kept_or_begun_anew = save(&shared).await;
            return Err(there(error));
        }
        let sha256 = hashed.map_err(there)?;
        if let Some(expected) = wanted.sha256.filter(|expected| *expected != sha256) {
            let (name, found) = (wanted.name.clone(), sha256);
            return Err(there(FetchError::Digest {
                name,
                expected,
                found,
            }));
        }
        let bytes = shared.state(|state| state.there.frontier());
        let partial = Arc::clone(&shared.partial);
        let path = blocking(move || partial.finish(bytes)).await.map_err(there)?;
        Ok(Complete { path, bytes, sha256 })
    }

    async fn prepare(
        &self,
        wanted: &Wanted,
        origin: &Arc<dyn Origin>,
        folder: &Path,
        observer: &Arc<dyn Observer>,
        stop: &CancellationToken,
    ) -> Result<Arc<Shared>, FetchError> {
        let (folder, bytes, verified) = (folder.to_owned(), wanted.bytes, wanted.sha256.is_some());
        let (partial, state) = blocking(move || Partial::open(&folder, bytes, verified)).await?;
        let resumed = state.there.sum();
        if resumed > 0 {
            observer.event(&wanted.name, Event::Resumed { bytes: resumed });
        }
        let frontier = Frontier::default();
        frontier.advance(state.there.frontier());
        Ok(Arc::new(Shared {
            transport: self.transport.clone(),
            effort: self.effort,
            wanted: wanted.clone(),
            origin: Arc::clone(origin),
            observer: Arc::clone(observer),
            partial: Arc::new(partial),
            frontier,
            state: Mutex::new(state),
            stop: stop.child_token(),
        }))
    }
}

/// Errors after which nothing in the folder is worth keeping.
const fn is_wrong(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Changed { .. } | FetchError::Digest { .. } | FetchError::Size { .. }
    )
}

/// Brings the whole file to the disk.
async fn arrive(shared: &Arc<Shared>) -> Result<(), FetchError> {
    let begin = shared.state(|state| state.there.frontier());
    if shared.state(|state| {
        state
            .bytes
            .is_some_and(|bytes| bytes > 0 && state.there.sum() == bytes)
    }) {
        return Ok(());
    }
    // The first answer tells whether the server gives parts, how large the file is, and by which validator. It is asked for
    // to the end: where parts cannot be told to be of one file, it is all there will be.
    let first = shared.open(begin, None).await?;
    let size = shared.state(|state| state.bytes);
    if let Some(bytes) = size {
        let partial = Arc::clone(&shared.partial);
        blocking(move || partial.reserve(bytes)).await?;
    }
    match size {
        Some(bytes) if !first.whole && shared.is_checked() => in_parts(shared, bytes, first).await,
        _ => shared.fetch(begin, None, Some(first)).await,
    }?;
    let (there, expected) = shared.state(|state| (state.there.frontier(), state.bytes));
    match expected {
        Some(expected) if there != expected => Err(FetchError::Short {
            name: shared.wanted.name.clone(),
            expected,
            found: there,
        }),
        _ => Ok(()),
    }
}

/// Several requests at once, each for the next run that nobody has taken.
async fn in_parts(shared: &Arc<Shared>, bytes: u64, first: Opened) -> Result<(), FetchError> {
    let segment = shared.effort.segment.max(1);
    let there = shared.state(|state| state.there.clone());
    let queue = Arc::new(Queue {
        there,
        bytes,
        segment,
        at: Mutex::new(0),
    });
    let mut first = queue.next().map(|gap| (gap, first));
    let mut tasks = JoinSet::new();
    for _connection in 0..shared.effort.connections.max(1) {
        let (shared, queue, first) = (Arc::clone(shared), Arc::clone(&queue), first.take());
        tasks.spawn(async move {
            if let Some((gap, opened)) = first {
                shared.fetch(gap.0, Some(gap.1), Some(opened)).await?;
                save(&shared).await?;
            }
            while let Some(gap) = queue.next() {
                shared.fetch(gap.0, Some(gap.1), None).await?;
                save(&shared).await?;
            }
            Ok(())
        });
    }
    let mut outcome = Ok(());
    while let Some(done) = tasks.join_next().await {
        let done = done.unwrap_or(Err(FetchError::Stopped));
        if outcome.is_ok() && done.is_err() {
            outcome = done;
            // The others save what they have and end.
            shared.stop.cancel();
        }
    }
    outcome
}

/// The runs that nobody has taken yet.
struct Queue {
    there: Intervals,
    bytes: u64,
    segment: u64,
    /// Everything before is there or taken.
    at: Mutex<u64>,
}

impl Queue {
    fn next(&self) -> Option<(u64, u64)> {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = self.there.next_missing(*at, self.bytes, self.segment)?;
        *at = gap.1;
        Some(gap)
    }
}

/// Notes what is on the disk.
async fn save(shared: &Arc<Shared>) -> Result<(), FetchError> {
    let shared = Arc::clone(shared);
    blocking(move || shared.partial.save(|| shared.state(|state| state.clone()))).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    spawn_blocking(work).await.unwrap_or(Err(FetchError::Stopped))
}
