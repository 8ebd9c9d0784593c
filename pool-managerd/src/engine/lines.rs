//! Turns a program's output into lines, whatever the program does: endless lines, floods, control characters,
//! broken UTF-8. Pure: bytes and the time in, lines out. Holds at most one line and one chunk.

use container_runtime::printable;
use tokio::time::{Duration, Instant};

/// Longest line that is kept whole (4 KiB); llama.cpp's longest regular lines are a few hundred bytes.
pub(super) const MAX_LINE_BYTES: usize = 4 << 10;

/// How much output an engine may write at once before the excess is dropped: a verbose start-up many times
/// over.
const BURST_BYTES: u64 = 1 << 20;

/// How much of a lasting flood is looked at, per second. Splitting this much costs well under 1 % of a core.
const BYTES_PER_SECOND: u64 = 256 << 10;

/// The way from a pipe to the ring.
pub(super) struct Intake {
    splitter: Splitter,
    allowance: Allowance,
    flood: Option<Flood>,
}

/// What is known of output beyond the allowance: how much went by, and its last chunk, since the end of a
/// flood tells why a program died.
struct Flood {
    dropped: u64,
    last: Vec<u8>,
}

impl Intake {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            splitter: Splitter::default(),
            allowance: Allowance {
                left: BURST_BYTES,
                filled: now,
            },
            flood: None,
        }
    }

    /// Takes a chunk in and gives out the lines it completes.
    pub(super) fn feed(&mut self, now: Instant, chunk: &[u8], out: &mut impl FnMut(String)) {
        if self.allowance.admit(now, chunk.len() as u64) {
            self.end_flood(out);
            self.splitter.feed(chunk, out);
            return;
        }
        let flood = self.flood.get_or_insert_with(|| Flood {
            dropped: 0,
            last: Vec::new(),
        });
        flood.dropped += flood.last.len() as u64;
        flood.last.clear();
        flood.last.extend_from_slice(chunk);
    }

    /// The pipe is at its end: gives out what is left.
    pub(super) fn finish(mut self, out: &mut impl FnMut(String)) {
        self.end_flood(out);
        self.splitter.finish(out);
    }

    fn end_flood(&mut self, out: &mut impl FnMut(String)) {
        let Some(flood) = self.flood.take() else { return };
        self.splitter.finish(out);
        let whole = match flood.dropped {
            0 => &flood.last[..],
            dropped => {
                out(format!(
                    "[{dropped} bytes of output dropped: faster than {BYTES_PER_SECOND} bytes/s]"
                ));
                after_line_end(&flood.last)
            }
        };
        self.splitter.feed(whole, out);
    }
}

/// What follows the first line end; everything when there is none.
fn after_line_end(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&b| b == b'\n').map_or(0, |at| at + 1);
    &bytes[start..]
}

struct Allowance {
    left: u64,
    filled: Instant,
}

impl Allowance {
    fn admit(&mut self, now: Instant, bytes: u64) -> bool {
        let gained = gained(now.duration_since(self.filled));
        if gained > 0 {
            self.filled = now;
            self.left = self.left.saturating_add(gained).min(BURST_BYTES);
        }
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

fn gained(elapsed: Duration) -> u64 {
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    milliseconds.saturating_mul(BYTES_PER_SECOND) / 1000
}

/// Splits at line feeds and carriage returns (progress bars); empty lines say nothing and are left out.
#[derive(Default)]
struct Splitter {
    line: Vec<u8>,
    cut: usize,
}

impl Splitter {
    fn feed(&mut self, bytes: &[u8], out: &mut impl FnMut(String)) {
        let mut pieces = bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
        self.take(pieces.next().unwrap_or_default());
        for piece in pieces {
            self.finish(out);
            self.take(piece);
        }
    }

    fn take(&mut self, piece: &[u8]) {
        let room = MAX_LINE_BYTES - self.line.len();
        let kept = piece.len().min(room);
        self.line.extend_from_slice(&piece[..kept]);
        self.cut += piece.len() - kept;
    }

    fn finish(&mut self, out: &mut impl FnMut(String)) {
        if !self.line.is_empty() {
            out(shown(&self.line, self.cut));
        }
        self.line.clear();
        self.cut = 0;
    }
}

/// Terminals show these lines: nothing in them may move a cursor.
fn shown(line: &[u8], cut: usize) -> String {
    let mut text = printable(line);
    if cut > 0 {
        text.push_str(&format!(" [{cut} more bytes]"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines_of(chunks: &[&[u8]]) -> Vec<String> {
        let now = Instant::now();
        let (mut intake, mut lines) = (Intake::new(now), Vec::new());
        for chunk in chunks {
            intake.feed(now, chunk, &mut |line| lines.push(line));
        }
        intake.finish(&mut |line| lines.push(line));
        lines
    }

    #[test]
    fn lines_end_at_line_feeds_carriage_returns_and_the_end() {
        assert_eq!(
            lines_of(&[b"a\r\nb\n\nc 10%\rc 20%"]),
            ["a", "b", "c 10%", "c 20%"]
        );
    }

    #[test]
    fn control_characters_and_broken_utf8_cannot_reach_a_terminal() {
        assert_eq!(
            lines_of(&[b"\x1b[31mred\x07\tx \xff\xfe \xc3\xa9"]),
            ["red x \u{fffd}\u{fffd} é"]
        );
    }

    #[test]
    fn a_line_without_end_is_cut_and_says_so() {
        let endless = vec![b'x'; MAX_LINE_BYTES + 1000];
        let lines = lines_of(&[&endless, b"y\nnext"]);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].ends_with("x [1001 more bytes]"),
            "{}",
            &lines[0][MAX_LINE_BYTES - 5..]
        );
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn a_flood_is_dropped_but_its_last_lines_are_kept() {
        let now = Instant::now();
        let (mut intake, mut lines) = (Intake::new(now), Vec::new());
        let chunk = b"flood flood flood flood flood 01\n".repeat(256);
        for _ in 0..(100 << 20) / chunk.len() {
            intake.feed(now, &chunk, &mut |line| lines.push(line));
        }
        intake.feed(now, b"half a line\nCUDA error: out of memory\n", &mut |line| {
            lines.push(line);
        });
        intake.finish(&mut |line| lines.push(line));
        let kept: usize = lines.iter().map(String::len).sum();
        assert!(kept <= BURST_BYTES as usize + 200, "kept {kept} bytes");
        assert_eq!(lines.last().unwrap(), "CUDA error: out of memory");
        assert!(lines.iter().any(|line| line.contains("bytes of output dropped")));
    }

    #[test]
    fn after_a_flood_the_allowance_comes_back() {
        let start = Instant::now();
        let (mut intake, mut lines) = (Intake::new(start), 0);
        let chunk = vec![b'\n'; BURST_BYTES as usize];
        intake.feed(start, &chunk, &mut |_| lines += 1);
        intake.feed(start, b"lost\n", &mut |_| lines += 1);
        assert_eq!(lines, 0);
        intake.feed(start + Duration::from_secs(1), b"seen\n", &mut |_| lines += 1);
        assert_eq!(lines, 2, "the held chunk and the new one");
    }

    proptest! {
        #[test]
        fn chunk_borders_do_not_matter(text in "[a-c\n\ré]{0,80}", cuts in proptest::collection::vec(0_usize..80, 0..6)) {
            let bytes = text.as_bytes();
            let mut borders: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            borders.extend([0, bytes.len()]);
            borders.sort_unstable();
            let chunks: Vec<&[u8]> = borders.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(lines_of(&chunks), lines_of(&[bytes]));
        }
    }
}
