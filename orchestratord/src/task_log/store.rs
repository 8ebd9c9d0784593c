//! The data of a task log behind its lock: segments of encoded frames, and where each reader is in them.

use std::io;
use std::sync::Arc;
use std::task::Waker;

use adapter_api::TokenBatch;
use api_types::{TaskEvent, TokenKind};
use bytes::{Bytes, BytesMut};
use http_front::Sent;
use memchr::memmem;
use task_journal::{Recorder, RunRecord, Transcripts};
use tokio::time::Instant;

use super::encode::FrameId;
use super::slots::{Cursor, Next, Output, ReaderSlot, Wakers};
use super::{Epilogue, TakenUp, encode};
use crate::artifacts::Artifacts;
use crate::trace::{Ending, Trace};

/// Frames are encoded into chunks of this size, shared by the segments cut from them: large enough
/// to hold about forty token frames, small enough that an idle stream costs little.
const CHUNK_BYTES: usize = 2048;

/// What a task has produced so far.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Token frames so far; the next token's index.
    pub tokens: u64,
    /// Tokens the engine counts; text frames may hold several.
    pub generated: u32,
    /// When the first token was appended.
    pub first_token_at: Option<Instant>,
    /// When the last token was appended.
    pub last_token_at: Option<Instant>,
}

/// Why a reader cannot start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumePoint {
    /// The client has the terminal frame.
    #[error("the stream had already ended at frame {last}")]
    Ended {
        /// Number of the terminal frame.
        last: u64,
    },
    /// The client claims a frame that does not exist yet.
    #[error("frame {asked} does not exist; the last one is {last}")]
    Ahead {
        /// The claimed frame.
        asked: u64,
        /// The last existing one.
        last: u64,
    },
}

/// Frames that were appended together. Their numbers are the `count` ones from `first` on;
/// unnumbered frames (`metrics`, `narration`) have a count of 0 and stand before frame `first`.
#[derive(Debug)]
struct Segment {
    data: Bytes,
    first: u64,
    count: u64,
    /// Whether every number has a frame of its own (a micro-batch has one for all).
    separate: bool,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    chunk: BytesMut,
    segments: Vec<Segment>,
    bytes: usize,
    /// Number the next numbered frame gets.
    next: u64,
    /// Which life of the task this is.
    taken_up: TakenUp,
    /// The last frame; once it is there nothing follows.
    terminal: Option<TaskEvent>,
    /// Where everything is written before a reader gets it.
    recorder: Option<Recorder>,
    /// The lasting record of the task, until it is written.
    trace: Option<Box<Trace>>,
    /// Whether readers get only what is on the disk.
    strict: bool,
    /// The first segment that is not on the disk yet.
    held_from: Option<usize>,
    /// Tokens the engine counted in an earlier life of the task.
    generated_before: u32,
    /// The daemon stops and the task goes on after its restart: nothing follows here, and readers
    /// end without a terminal frame.
    parked: bool,
    /// When a frame last came in.
    last_append: Option<Instant>,
    /// Readers before this segment jump to it, from `started` on: set by a seal that cuts.
    jump_to: Option<usize>,
    progress: Progress,
    readers: Vec<ReaderSlot>,
    /// What readers that have left took last, where it may not be sent yet.
    leaving: Vec<Output>,
    writer: Option<Waker>,
}

impl Store {
    pub(super) fn push_event(&mut self, n: Option<u64>, event: &TaskEvent) {
        self.reserve();
        let id = n.map(|n| self.frame_id(n));
        if let Err(error) = encode::event(&mut self.chunk, id, event) {
            // Cannot happen for our event types; an unencodable event must not tear the stream.
            tracing::error!(%error, event = event.name(), "event cannot be encoded");
            self.chunk.clear();
            return;
        }
        let first = n.unwrap_or(self.next);
        let count = u64::from(n.is_some());
        self.next = first + count;
        self.last_append = Some(Instant::now());
        self.cut_segment(first, count, true);
    }

    pub(super) fn push_tokens(&mut self, batch: &TokenBatch, microbatch: bool, now: Instant) {
        let generated = self.generated_before.saturating_add(batch.generated());
        self.progress.generated = self.progress.generated.max(generated);
        if batch.is_empty() {
            return;
        }
        let (first, generated) = (self.progress.tokens, self.progress.generated);
        self.record(|recorder| recorder.tokens(first, generated, batch.tokens_with_kind()));
        if let Some(trace) = &mut self.trace {
            trace.batch(batch);
        }
        self.reserve();
        let index = self.progress.tokens;
        let count = batch.len() as u64;
        let epoch = self.taken_up.epoch;
        let microbatch = microbatch && batch.is_plain();
        if !batch.is_plain() {
            for (offset, (kind, text)) in batch.tokens_with_kind().enumerate() {
                encode::token_of_kind(&mut self.chunk, epoch, index + offset as u64, kind, text);
            }
        } else if microbatch && count > 1 {
            encode::token_batch(&mut self.chunk, epoch, index, batch.tokens());
        } else {
            for (offset, text) in batch.tokens().enumerate() {
                encode::token(&mut self.chunk, epoch, index + offset as u64, text);
            }
        }
        self.progress.tokens += count;
        self.progress.first_token_at.get_or_insert(now);
        self.progress.last_token_at = Some(now);
        self.next = index + count + 1;
        self.last_append = Some(now);
        self.cut_segment(index + 1, count, !microbatch);
    }

    pub(super) fn seal(&mut self, cut: bool, epilogue: &Epilogue) {
        if cut {
            self.jump_to = Some(self.segments.len());
        }
        if let Some(narration) = &epilogue.narration {
            self.push_event(None, &TaskEvent::Narration(narration.clone()));
        }
        let terminal = self.close_trace(cut, epilogue.terminal.clone());
        self.record(|recorder| recorder.end(&terminal, cut));
        self.push_event(Some(self.next), &terminal);
        self.terminal = Some(terminal);
    }

    /// Before the terminal event is told: it names the record, which is there then.
    fn close_trace(&mut self, cut: bool, terminal: TaskEvent) -> TaskEvent {
        let Some(trace) = self.trace.take() else {
            return terminal;
        };
        let ending = Ending {
            cut,
            epoch: self.taken_up.epoch,
            progress: &self.progress,
        };
        trace.close(terminal, ending)
    }

    pub(super) const fn trace_mut(&mut self) -> &mut Option<Box<Trace>> {
        &mut self.trace
    }

    /// Where the record of the task will be kept.
    pub(super) fn trace_keeper(&self) -> Option<Arc<Artifacts>> {
        self.trace.as_ref().map(|trace| Arc::clone(trace.keeper()))
    }

    /// Where a reader that has frame `after` starts, and the token it must go back to where it has
    /// seen more of an earlier epoch than survived.
    pub(super) fn resume_after(&self, after: Option<FrameId>) -> Result<(Cursor, Option<u64>), ResumePoint> {
        let Some(after) = after else {
            return Ok((Cursor::default(), None));
        };
        let epoch = self.taken_up.epoch;
        if after.epoch >= epoch {
            let n = if after.epoch == epoch { after.n } else { u64::MAX };
            return Ok((self.cursor_after(n)?, None));
        }
        let shared = self.taken_up.shared_since(after.epoch);
        let back = (after.n > shared).then_some(shared);
        Ok((self.cursor_after(after.n.min(shared))?, back))
    }

    fn cursor_after(&self, after: u64) -> Result<Cursor, ResumePoint> {
        let last = self.next.saturating_sub(1);
        if after > last || self.segments.is_empty() {
            return Err(ResumePoint::Ahead { asked: after, last });
        }
        if self.is_sealed() && after == last {
            return Err(ResumePoint::Ended { last });
        }
        // The first segment that begins after `after`; the one before it may hold later frames too.
        let segment = self.segments.partition_point(|s| s.first <= after);
        Ok(self
            .inside(segment.saturating_sub(1), after)
            .unwrap_or(Cursor { segment, skip: 0 }))
    }

    fn inside(&self, segment: usize, after: u64) -> Option<Cursor> {
        let held = &self.segments[segment];
        let within = held.first <= after && after + 1 < held.first + held.count;
        if !within || !held.separate {
            return within.then_some(Cursor { segment, skip: 0 });
        }
        let frames = usize::try_from(after - held.first).ok()?;
        let end = memmem::find_iter(&held.data, b"\n\n").nth(frames)?;
        Some(Cursor {
            segment,
            skip: end + 2,
        })
    }

    pub(super) fn attach(&mut self, cursor: Cursor) -> usize {
        let slot = ReaderSlot {
            attached: true,
            cursor,
            ..ReaderSlot::default()
        };
        if let Some(free) = self.readers.iter().position(|r| !r.attached) {
            self.readers[free] = slot;
            return free;
        }
        self.readers.push(slot);
        self.readers.len() - 1
    }

    /// Removes the reader; tells whether it leaves before the end and nobody else reads.
    pub(super) fn detach(&mut self, slot: usize) -> (bool, Wakers) {
        let at_end = self.is_sealed() && self.readers[slot].cursor.segment >= self.segments.len();
        let left = std::mem::take(&mut self.readers[slot]);
        self.leaving.retain(|output| !output.is_sent());
        self.leaving
            .extend(left.output.filter(|output| !output.is_sent()));
        let mut wakers = Wakers::default();
        wakers.push(self.writer.take());
        (!at_end && self.readers() == 0, wakers)
    }

    pub(super) fn next(&mut self, slot: usize, waker: &Waker) -> (Next, Wakers) {
        let jump_to = self.jump_to;
        let reader = &mut self.readers[slot];
        if reader.detached_slow {
            return (Next::End, Wakers::default());
        }
        // A reader that has nothing yet still gets `started`, the first segment.
        if let Some(segment) = jump_to.filter(|&to| (1..to).contains(&reader.cursor.segment)) {
            reader.cursor = Cursor { segment, skip: 0 };
        }
        let at = reader.cursor.segment;
        let shown = self.held_from.unwrap_or(usize::MAX);
        let Some(segment) = self.segments.get(at).filter(|_| at < shown) else {
            let over = self.terminal.is_some() && at >= self.segments.len();
            if over || self.parked {
                return (Next::End, Wakers::default());
            }
            if reader.waker.as_ref().is_none_or(|w| !w.will_wake(waker)) {
                reader.waker = Some(waker.clone());
            }
            return (Next::Wait, Wakers::default());
        };
        let data = segment.data.slice(reader.cursor.skip..);
        if let Some(output) = &mut reader.output {
            output.upto = output.connection.mark();
        }
        reader.cursor = Cursor {
            segment: reader.cursor.segment + 1,
            skip: 0,
        };
        let mut wakers = Wakers::default();
        wakers.push(self.writer.take());
        (Next::Data(data), wakers)
    }

    pub(super) fn send_over(&mut self, slot: usize, connection: Sent) {
        let upto = connection.mark();
        self.readers[slot].output = Some(Output { connection, upto });
    }

    /// What was taken, by whomever, and may not be sent yet.
    pub(super) fn unsent(&self) -> Vec<Output> {
        let taken = self.readers.iter().filter_map(|reader| reader.output.as_ref());
        taken
            .chain(&self.leaving)
            .filter(|output| !output.is_sent())
            .cloned()
            .collect()
    }

    /// Frames the slowest attached reader has not taken.
    pub(super) fn lag(&self) -> u64 {
        self.readers
            .iter()
            .filter(|r| r.attached && !r.detached_slow)
            .map(|r| self.lag_of(r))
            .max()
            .unwrap_or(0)
    }

    fn lag_of(&self, reader: &ReaderSlot) -> u64 {
        self.segments
            .get(reader.cursor.segment)
            .map_or(0, |segment| self.next.saturating_sub(segment.first))
    }

    pub(super) fn detach_slow(&mut self, cap: u64) -> usize {
        let lags: Vec<u64> = self.readers.iter().map(|r| self.lag_of(r)).collect();
        let mut detached = 0;
        for (reader, lag) in self.readers.iter_mut().zip(lags) {
            if reader.attached && !reader.detached_slow && lag > cap {
                reader.detached_slow = true;
                detached += 1;
            }
        }
        detached
    }

    pub(super) fn readers(&self) -> usize {
        self.readers
            .iter()
            .filter(|r| r.attached && !r.detached_slow)
            .count()
    }

    pub(super) fn take_reader_wakers(&mut self) -> Wakers {
        let mut wakers = Wakers::default();
        for reader in &mut self.readers {
            wakers.push(reader.waker.take());
        }
        wakers
    }

    pub(super) fn take_all_wakers(&mut self) -> Wakers {
        let mut wakers = self.take_reader_wakers();
        wakers.push(self.writer.take());
        wakers
    }

    pub(super) fn set_writer_waker(&mut self, waker: &Waker) {
        self.writer = Some(waker.clone());
    }

    pub(super) const fn last_append(&self) -> Option<Instant> {
        self.last_append
    }

    pub(super) const fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(super) const fn is_sealed(&self) -> bool {
        self.terminal.is_some()
    }

    /// Whether nothing is taken any more.
    pub(super) const fn is_closed(&self) -> bool {
        self.terminal.is_some() || self.parked
    }

    pub(super) const fn park(&mut self) {
        self.parked = true;
    }

    pub(super) const fn is_cut(&self) -> bool {
        self.jump_to.is_some()
    }

    pub(super) fn take_up(&mut self, taken_up: TakenUp) {
        self.taken_up = taken_up;
    }

    /// Takes over what an earlier life of the task has said.
    pub(super) fn preload(&mut self, tokens: &[(TokenKind, String)], generated: u32) {
        if tokens.is_empty() {
            return;
        }
        if let Some(trace) = &mut self.trace {
            trace.said(tokens);
        }
        self.reserve();
        for (index, (kind, text)) in (0..).zip(tokens) {
            encode::token_of_kind(&mut self.chunk, self.taken_up.epoch, index, *kind, text);
        }
        let count = tokens.len() as u64;
        self.progress.tokens = count;
        self.progress.generated = generated;
        self.next = count + 1;
        self.cut_segment(1, count, true);
    }

    /// The engine counts from here on.
    pub(super) const fn count_from(&mut self, generated: u32) {
        self.generated_before = generated;
    }

    pub(super) fn record_with(&mut self, recorder: Recorder, strict: bool) {
        self.recorder = Some(recorder);
        self.strict = strict;
    }

    pub(super) fn record_run(&mut self, run: &RunRecord) {
        self.record(|recorder| recorder.run(run));
    }

    /// What cannot be written is still handed out: the transcript ends here, decoding does not.
    fn record(&mut self, write: impl FnOnce(&mut Recorder) -> io::Result<()>) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        if let Err(error) = write(recorder) {
            tracing::warn!(%error, "a transcript cannot be written; the rest of the task does not survive a restart");
            self.recorder = None;
        }
    }

    pub(super) const fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Keeps readers from the segments after the first `from` ones until they are synced, where that
    /// is asked for; tells who syncs them, and up to where.
    pub(super) fn hold_back(&mut self, from: usize) -> Option<(Arc<Transcripts>, usize)> {
        let recorder = self.recorder.as_ref().filter(|_| self.strict)?;
        if from == self.segments.len() {
            return None;
        }
        self.held_from.get_or_insert(from);
        Some((Arc::clone(recorder.log()), self.segments.len()))
    }

    /// The first `upto` segments are on the disk, or never will be.
    pub(super) fn release(&mut self, upto: usize) {
        self.held_from = (upto < self.segments.len()).then_some(upto);
    }

    pub(super) const fn taken_up(&self) -> &TakenUp {
        &self.taken_up
    }

    const fn frame_id(&self, n: u64) -> FrameId {
        FrameId {
            epoch: self.taken_up.epoch,
            n,
        }
    }

    pub(super) const fn terminal(&self) -> Option<&TaskEvent> {
        self.terminal.as_ref()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn reserve(&mut self) {
        if self.chunk.capacity() - self.chunk.len() < CHUNK_BYTES / 8 {
            self.chunk = BytesMut::with_capacity(CHUNK_BYTES);
        }
    }

    fn cut_segment(&mut self, first: u64, count: u64, separate: bool) {
        let data = self.chunk.split().freeze();
        self.bytes += data.len();
        self.segments.push(Segment {
            data,
            first,
            count,
            separate,
        });
    }
}
