//! The decoder of `text/event-stream`: bytes in, every event that they complete out, in one call per read. Pure: no
//! clock, no I/O.
//!
//! Follows the WHATWG HTML standard, section "Server-sent events", with three differences that a relay needs: an event
//! is bounded in size, its data is handed out as bytes (validate with [`Event::text`] or let a JSON parser do it), and
//! an unfinished event at the end of the stream is reported instead of dropped silently.
//!
//! ```
//! use std::ops::ControlFlow;
//! use http_util::sse::{Decoder, Tail};
//!
//! let mut decoder = Decoder::default();
//! let mut seen = Vec::new();
//! for read in ["data: hel", "lo\n\nda", "ta:world\r\n\r\n"] {
//!     let flow: ControlFlow<()> = decoder.feed(read.as_bytes(), |event| {
//!         seen.push(event.data.to_vec());
//!         ControlFlow::Continue(())
//!     })?;
//!     assert!(flow.is_continue());
//! }
//! assert_eq!(seen, [b"hello", b"world"]);
//! assert!(matches!(decoder.finish(), Tail::Clean));
//! # Ok::<(), http_util::sse::EventTooLarge>(())
//! ```

mod pending;

use std::ops::ControlFlow;
use std::str::Utf8Error;
use std::time::Duration;

use memchr::memchr2;

use pending::Pending;

/// Event size limit of [`Decoder::default`], in bytes (1 MiB): the longest known event is a final frame that echoes
/// the prompt.
pub const DEFAULT_EVENT_LIMIT: usize = 1 << 20;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One event, borrowed from the read that completed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event type; `message` when the stream names none.
    pub name: &'a [u8],
    /// The data lines, joined by a line feed.
    pub data: &'a [u8],
    /// The last id that the stream has set, in this event or before; empty when there was none.
    pub id: &'a [u8],
}

impl<'a> Event<'a> {
    /// The data as text.
    ///
    /// # Errors
    /// When it is not UTF-8. Only whole events are validated, so a character cut by a read is no error.
    pub fn text(&self) -> Result<&'a str, Utf8Error> {
        std::str::from_utf8(self.data)
    }
}

/// An event is larger than the decoder's limit. The stream cannot be decoded any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stream event exceeds the limit of {limit} bytes")]
pub struct EventTooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

/// What was left when the stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail<'a> {
    /// Nothing: the last event was complete.
    Clean,
    /// An event without its closing blank line, as if that line had come. Its fields may be cut anywhere, and its
    /// data is empty when no data line had begun.
    Partial(Event<'a>),
}

/// Decodes one stream. Keeps the unfinished event and the last id, in buffers of at most four times the limit together
/// (and 48 KiB, which are kept to save allocations).
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// Bytes of a byte order mark seen so far; its whole length once the stream's start is past.
    bom: usize,
    /// The last line ended with CR: a LF that follows belongs to it.
    after_cr: bool,
    /// The unfinished line is a comment, whose text is not kept.
    in_comment: bool,
    /// The unfinished line.
    line: Vec<u8>,
    pending: Pending,
    comments: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limit(DEFAULT_EVENT_LIMIT)
    }
}

impl Decoder {
    /// A decoder that accepts events of at most `limit` bytes: the sum of the event's lines with their field names,
    /// without line ends and comments.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            bom: 0,
            after_cr: false,
            in_comment: false,
            line: Vec::new(),
            pending: Pending::default(),
            comments: 0,
        }
    }

    /// Decodes one read and calls `on_event` for every event that it completes, in order. How a stream is cut into
    /// reads makes no difference to its events. Linear in the bytes given; allocates only to keep an event that is
    /// unfinished at the end of the read.
    ///
    /// When `on_event` breaks, the rest of the read is discarded and its value is returned; the decoder is of no
    /// further use then.
    ///
    /// # Errors
    /// [`EventTooLarge`]; the decoder is of no further use then.
    pub fn feed<B>(
        &mut self,
        read: &[u8],
        mut on_event: impl FnMut(Event<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, EventTooLarge> {
        let mut rest = self.skip_bom(read);
        // Data of the unfinished event as long as it is one line of this read: the usual case, which copies nothing.
        let mut here = None;
        loop {
            rest = self.skip_lf(rest);
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                break;
            };
            let line = &rest[..end];
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if self.in_comment {
                self.in_comment = false;
                self.comments += 1;
            } else if !self.line.is_empty() {
                self.pending.settle(&mut here);
                self.end_kept_line(line)?;
            } else if line.is_empty() {
                if let Some(ControlFlow::Break(b)) = self.pending.dispatch(here.take(), &mut on_event) {
                    return Ok(ControlFlow::Break(b));
                }
            } else if line[0] == b':' {
                self.comments += 1;
            } else {
                self.admit(line.len())?;
                self.pending.line(line, &mut here);
            }
        }
        self.pending.settle(&mut here);
        self.keep(rest)?;
        Ok(ControlFlow::Continue(()))
    }

    /// Ends the stream and tells whether it ended inside an event.
    pub fn finish(&mut self) -> Tail<'_> {
        if self.bom < BOM.len() {
            self.line.extend_from_slice(&BOM[..self.bom]);
            self.bom = BOM.len();
        }
        self.pending.kept_line(&mut self.line);
        if self.pending.bytes == 0 {
            Tail::Clean
        } else {
            Tail::Partial(self.pending.event(&self.pending.data))
        }
    }

    /// Complete comment lines so far. Servers send them as pings: a sign of life, but no progress.
    pub fn comments(&self) -> u64 {
        self.comments
    }

    /// The reconnection time that the stream asked for last.
    pub fn retry(&self) -> Option<Duration> {
        self.pending.retry
    }

    fn skip_bom<'r>(&mut self, mut read: &'r [u8]) -> &'r [u8] {
        while let (Some(expected), Some((first, rest))) = (BOM.get(self.bom), read.split_first()) {
            if first != expected {
                // No mark after all: what looked like one begins the first line.
                self.line.extend_from_slice(&BOM[..self.bom]);
                self.bom = BOM.len();
                break;
            }
            self.bom += 1;
            read = rest;
        }
        read
    }

    fn skip_lf<'r>(&mut self, rest: &'r [u8]) -> &'r [u8] {
        match rest.split_first() {
            Some((b'\n', after)) if std::mem::take(&mut self.after_cr) => after,
            Some(_) => {
                self.after_cr = false;
                rest
            }
            None => rest,
        }
    }

    /// Checks that the event may grow by a line of `len` bytes.
    fn admit(&self, len: usize) -> Result<(), EventTooLarge> {
        let room = self.limit.saturating_sub(self.pending.bytes);
        if len <= room {
            Ok(())
        } else {
            Err(EventTooLarge { limit: self.limit })
        }
    }

    fn end_kept_line(&mut self, end: &[u8]) -> Result<(), EventTooLarge> {
        self.admit(self.line.len() + end.len())?;
        self.line.extend_from_slice(end);
        self.pending.kept_line(&mut self.line);
        Ok(())
    }

    /// Keeps the unfinished line of a read.
    fn keep(&mut self, rest: &[u8]) -> Result<(), EventTooLarge> {
        let begins_comment = self.line.is_empty() && rest.first() == Some(&b':');
        self.in_comment |= begins_comment;
        if self.in_comment {
            return Ok(());
        }
        self.admit(self.line.len() + rest.len())?;
        self.line.extend_from_slice(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! What cannot be seen from outside: the memory that a decoder holds.

    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64 << 10;

    fn held(decoder: &Decoder) -> usize {
        decoder.line.capacity() + decoder.pending.capacity()
    }

    proptest! {
        #[test]
        fn memory_stays_bounded(lines in prop::collection::vec(
            (prop_oneof!["data: ", "event: ", "id: ", ": ", "other: "], 0..LIMIT, any::<bool>()), 0..24,
        )) {
            let mut decoder = Decoder::with_limit(LIMIT);
            for (field, len, blank) in lines {
                let line = [field.as_bytes(), &vec![b'x'; len], if blank { b"\n\n" } else { b"\n" }].concat();
                let (first, second) = line.split_at(line.len() / 2);
                for read in [first, second] {
                    let outcome = decoder.feed(read, |_| ControlFlow::<()>::Continue(()));
                    prop_assert!(held(&decoder) <= 4 * LIMIT + (48 << 10), "holds {} bytes", held(&decoder));
                    if outcome.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    #[test]
    fn a_large_event_leaves_no_memory_behind() {
        for start in ["data: ", "data: a\ndata: ", "event: ", "other: "] {
            let mut decoder = Decoder::default();
            let large = [start.as_bytes(), &vec![b'x'; 1 << 19]].concat();
            for read in [large.as_slice(), b"x\n", b"data: y\n\n"] {
                let fed = decoder.feed(read, |_| ControlFlow::<()>::Continue(()));
                assert_eq!(fed, Ok(ControlFlow::Continue(())));
            }
            assert!(
                held(&decoder) <= 48 << 10,
                "{start}: holds {} bytes",
                held(&decoder)
            );
        }
    }

    #[test]
    fn an_endless_comment_costs_no_memory() {
        let mut decoder = Decoder::with_limit(16);
        for read in [b":".as_slice(), &[b'x'; 1 << 20], b"\n\n"] {
            assert_eq!(
                decoder.feed(read, |_| ControlFlow::Break(())),
                Ok(ControlFlow::Continue(()))
            );
        }
        assert_eq!((held(&decoder), decoder.comments()), (0, 1));
    }
}
