//! One run of bytes of a file: asked for, checked against what is known of the file, written as it comes, asked for again
//! from where it broke off.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderValue, IF_RANGE, RANGE};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::download::{Effort, Wanted};
use crate::error::FetchError;
use crate::hasher::Frontier;
use crate::observe::{Event, Observer};
use crate::partial::{Partial, State};
use crate::range::{Range, range, strong_etag};
use crate::transport::{Answer, Ask, Transport};

/// Written at once: a write per network packet would cost more than the hash.
const BATCH: usize = 1 << 20;

/// Where a file is. Asked before each request, because addresses and tokens run out.
#[async_trait]
pub trait Origin: Send + Sync {
    /// The request that gives the whole file. `again` after the server has refused the one before for its credential.
    ///
    /// # Errors
    /// There is none.
    async fn ask(&self, again: bool) -> Result<Ask, FetchError>;
}

/// What the parts of one download share.
pub(crate) struct Shared {
    pub(crate) transport: Transport,
    pub(crate) effort: Effort,
    pub(crate) wanted: Wanted,
    pub(crate) origin: Arc<dyn Origin>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) partial: Arc<Partial>,
    pub(crate) frontier: Frontier,
    pub(crate) state: Mutex<State>,
    pub(crate) stop: CancellationToken,
}

/// An answer that brings bytes from `at` on; `end` where it says so.
pub(crate) struct Opened {
    pub(crate) answer: Answer,
    /// It is the whole file, although a part was asked for.
    pub(crate) whole: bool,
    begin: u64,
    end: Option<u64>,
}

impl Shared {
    /// Asks for the bytes from `begin` on, up to `end` or to the end of the file; tries until one comes or tries run out.
    pub(crate) async fn open(&self, begin: u64, end: Option<u64>) -> Result<Opened, FetchError> {
        let mut patience = Patience::new(self.effort);
        loop {
            match self.open_once(begin, end).await {
                Ok(opened) => return Ok(opened),
                Err(error) => self.pause(&mut patience, error).await?,
            }
        }
    }

    async fn open_once(&self, begin: u64, end: Option<u64>) -> Result<Opened, FetchError> {
        let mut again = false;
        loop {
            let ask = self.or_stop(self.origin.ask(again)).await??;
            let answer = self
                .or_stop(self.transport.get(&self.ranged(ask, begin, end)))
                .await??;
            if answer.status == StatusCode::UNAUTHORIZED && !again {
                again = true;
                continue;
            }
            return self.accept(answer, begin).await;
        }
    }

    fn ranged(&self, ask: Ask, begin: u64, end: Option<u64>) -> Ask {
        let range = match end {
            Some(end) => format!("bytes={begin}-{}", end.saturating_sub(1)),
            None => format!("bytes={begin}-"),
        };
        let etag = self.state(|state| state.etag.clone());
        let ask = match HeaderValue::from_str(&range) {
            Ok(range) => ask.header(RANGE, range),
            Err(_) => ask,
        };
        match etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
            Some(etag) => ask.header(IF_RANGE, etag),
            None => ask,
        }
    }

    /// Holds an answer against what is known of the file, and learns what is not known yet.
    async fn accept(&self, answer: Answer, begin: u64) -> Result<Opened, FetchError> {
        let Some(range) = range(answer.status, &answer.headers) else {
            if answer.status.is_success() {
                let (host, what) = (
                    answer.host(),
                    format!("{} with ranges that cannot be", answer.status),
                );
                return Err(FetchError::Protocol { host, what });
            }
            return Err(answer.refusal().await);
        };
        let etag = strong_etag(&answer.headers);
        if begin > 0 && !self.is_checked() {
            // Nothing would show that these bytes are of another file than those before.
            return Err(self.changed());
        }
        let (size, whole) = match range {
            Range::Whole(size) => (size, true),
            Range::Part(from, _, size) if from == begin => (size, false),
            Range::Part(from, ..) => {
                let what = format!("with bytes from {from} on, asked for those from {begin} on");
                return Err(FetchError::Protocol {
                    host: answer.host(),
                    what,
                });
            }
            Range::Beyond(size) => {
                // Nothing is asked for behind the end that is known, unless the file is empty.
                if size == Some(0) && begin == 0 {
                    self.learn(Some(0), etag)?;
                    return Ok(Opened {
                        answer,
                        whole: true,
                        begin: 0,
                        end: Some(0),
                    });
                }
                return Err(self.changed());
            }
        };
        self.learn(size, etag)?;
        let end = match range {
            Range::Part(_, end, _) => Some(end),
            Range::Whole(size) => size,
            Range::Beyond(_) => None,
        };
        Ok(Opened {
            answer,
            whole,
            begin: if whole { 0 } else { begin },
            end,
        })
    }

    fn learn(&self, size: Option<u64>, etag: Option<String>) -> Result<(), FetchError> {
        self.state(|state| {
            match (state.bytes, size) {
                (Some(expected), Some(found)) if expected != found => {
                    let name = self.wanted.name.clone();
                    return Err(match self.wanted.bytes {
                        Some(_) => FetchError::Size {
                            name,
                            expected,
                            found,
                        },
                        None => self.changed(),
                    });
                }
                (None, Some(_)) => state.bytes = size,
                _ => {}
            }
            match (&state.etag, etag) {
                (Some(known), Some(found)) if *known != found => return Err(self.changed()),
                (None, found) if state.there.sum() == 0 => state.etag = found,
                _ => {}
            }
            Ok(())
        })
    }

    /// Whether bytes of two answers can be told to be of one file: by a validator now, or by the digest in the end.
    pub(crate) fn is_checked(&self) -> bool {
        self.wanted.sha256.is_some() || self.state(|state| state.etag.is_some())
    }

    fn changed(&self) -> FetchError {
        FetchError::Changed {
            name: self.wanted.name.clone(),
        }
    }

    /// Brings a run of bytes to the disk; `first` is an answer that is there already.
    pub(crate) async fn fetch(
        &self,
        begin: u64,
        end: Option<u64>,
        first: Option<Opened>,
    ) -> Result<(), FetchError> {
        let mut patience = Patience::new(self.effort);
        let (mut at, mut first) = (begin, first);
        loop {
            let opened = match first.take() {
                Some(opened) => Ok(opened),
                None => self.open_once(at, end).await,
            };
            let before = at;
            let outcome = match opened {
                Ok(opened) => self.receive(opened, &mut at, end).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) => {
                    if at > before {
                        patience = Patience::new(self.effort);
                    }
                    self.pause(&mut patience, error).await?;
                }
            }
        }
    }

    /// Reads an answer; `at` is how far the run is on the disk.
    async fn receive(&self, opened: Opened, at: &mut u64, end: Option<u64>) -> Result<(), FetchError> {
        let host = opened.answer.host();
        // A server that ignores ranges gives the whole file: what is there already is passed over.
        let until = end.or(opened.end);
        let mut position = opened.begin;
        let mut body = opened.answer.body;
        let mut batch = Batch::new(*at);
        let mut pace = Pace::new(self.effort);
        let received = loop {
            let piece = match self.or_stop(body.chunk()).await {
                Ok(Ok(piece)) => piece,
                Ok(Err(error)) => break Err(FetchError::of_http(error)),
                Err(stopped) => break Err(stopped),
            };
            let Some(mut piece) = piece else {
                break Ok(());
            };
            if let Err(floor) = pace.count(piece.len()) {
                break Err(FetchError::Slow {
                    host: host.clone(),
                    floor,
                });
            }
            let skip = at
                .saturating_add(batch.len())
                .saturating_sub(position)
                .min(piece.len() as u64);
            position += piece.len() as u64;
            // Both are at most the length of a piece in memory.
            let _passed_over = piece.split_to(usize::try_from(skip).unwrap_or(piece.len()));
            if let Some(until) = until {
                let room = until.saturating_sub(at.saturating_add(batch.len()));
                piece.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            }
            batch.push(piece);
            if batch.bytes >= BATCH {
                *at = batch.flush(self).await?;
            }
            if until.is_some_and(|until| at.saturating_add(batch.len()) >= until) {
                break Ok(());
            }
        };
        // What came is kept, also of an answer that broke off.
        *at = batch.flush(self).await?;
        *at = batch.settle(self).await?;
        received?;
        match until {
            Some(expected) if *at < expected => Err(FetchError::Short {
                name: self.wanted.name.clone(),
                expected,
                found: *at,
            }),
            _ => Ok(()),
        }
    }

    /// Waits before the next try, or gives up.
    async fn pause(&self, patience: &mut Patience, error: FetchError) -> Result<(), FetchError> {
        let Some(pause) = patience.after(&error) else {
            return Err(error);
        };
        self.observer
            .event(&self.wanted.name, Event::Retrying { error: &error, pause });
        self.or_stop(sleep(pause)).await
    }

    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, FetchError> {
        let mut work = pin!(work);
        tokio::select! {
            // A stop that has come is not put off by work that never waits.
            biased;
            () = self.stop.cancelled() => Err(FetchError::Stopped),
            done = &mut work => Ok(done),
        }
    }

    /// No code under the lock waits.
    pub(crate) fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes in memory that a run is on the disk.
    fn arrived(&self, begin: u64, end: u64) {
        let whole = self.state(|state| {
            state.there.add(begin, end);
            state.there.frontier()
        });
        self.frontier.advance(whole);
        self.observer
            .event(&self.wanted.name, Event::Received { bytes: end - begin });
    }
}

/// Bytes on their way to the disk: some gathered, some being written.
struct Batch {
    pieces: Vec<Bytes>,
    bytes: usize,
    /// Where the gathered ones begin, behind those being written.
    begin: u64,
    writing: Option<Writing>,
}

/// A write that was begun.
struct Writing {
    begin: u64,
    end: u64,
    write: JoinHandle<Result<(), FetchError>>,
}

impl Batch {
    const fn new(begin: u64) -> Self {
        Self {
            pieces: Vec::new(),
            bytes: 0,
            begin,
            writing: None,
        }
    }

    /// Bytes that are not known to be on the disk.
    fn len(&self) -> u64 {
        let writing = self
            .writing
            .as_ref()
            .map_or(0, |writing| writing.end - writing.begin);
        writing + self.bytes as u64
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push(piece);
        }
    }

    /// Begins to write what is gathered once the write before is done; gives how far the run is on the disk.
    async fn flush(&mut self, shared: &Shared) -> Result<u64, FetchError> {
        self.settle(shared).await?;
        if self.bytes == 0 {
            return Ok(self.begin);
        }
        let pieces = std::mem::take(&mut self.pieces);
        let (begin, end) = (self.begin, self.begin + std::mem::take(&mut self.bytes) as u64);
        let partial = Arc::clone(&shared.partial);
        let write = spawn_blocking(move || partial.write(&pieces, begin));
        self.begin = end;
        self.writing = Some(Writing { begin, end, write });
        Ok(begin)
    }

    /// Waits for the write that was begun.
    async fn settle(&mut self, shared: &Shared) -> Result<u64, FetchError> {
        let Some(Writing { begin, end, write }) = self.writing.take() else {
            return Ok(self.begin);
        };
        write.await.map_err(|_panicked| FetchError::Stopped)??;
        shared.arrived(begin, end);
        Ok(end)
    }
}

/// How often to try again without any progress.
pub(crate) struct Patience {
    pauses: Box<dyn Iterator<Item = Duration> + Send>,
    longest: Duration,
}

impl Patience {
    pub(crate) fn new(effort: Effort) -> Self {
        Self {
            pauses: Box::new(effort.retry.pauses()),
            longest: effort.longest_wait,
        }
    }

    /// The pause comes on top of what the server asked for, so that many callers do not come back at one moment.
    pub(crate) fn after(&mut self, error: &FetchError) -> Option<Duration> {
        if !error.is_retriable() {
            return None;
        }
        let planned = self.pauses.next()?;
        match error.retry_after() {
            None => Some(planned),
            Some(asked) => (asked <= self.longest).then(|| asked.saturating_add(planned)),
        }
    }
}

/// Notices a server that sends so slowly that the download would not end.
struct Pace {
    floor: u64,
    window: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(effort: Effort) -> Self {
        Self {
            floor: effort.slowest,
            window: effort.slow_for,
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), u64> {
        self.bytes += bytes as u64;
        let lasted = self.since.elapsed();
        if lasted < self.window {
            return Ok(());
        }
        let slow = self.bytes < self.floor.saturating_mul(lasted.as_secs());
        (self.since, self.bytes) = (Instant::now(), 0);
        if slow { Err(self.floor) } else { Ok(()) }
    }
}
