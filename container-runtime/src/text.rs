//! Turns bytes of other programs into text that can be shown: bounded, in lines, without control characters. Pure.

/// Longest line that is kept whole, bytes.
pub(crate) const MAX_LINE_BYTES: usize = 4 << 10;

/// `bytes` as text; what is not printable is left out, except that white space stays one space.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || is_direction(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// Colours and cursor movements: an escape, a bracket, parameters, a letter. Any other escape is one character long.
fn skip_escape(chars: &mut std::str::Chars<'_>) {
    let mut ahead = chars.clone();
    if ahead.next() != Some('[') {
        return;
    }
    *chars = ahead.clone();
    for c in ahead {
        if c.is_control() || !c.is_ascii() {
            return;
        }
        chars.next();
        if ('@'..='~').contains(&c) {
            return;
        }
    }
}

/// They make a terminal or a page show a line in another order than it has.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
}

/// Collects bytes into lines. Holds one line at most; the rest of a longer one is counted and dropped.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    dropped: usize,
}

/// A line's bytes, and how many are missing at its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    pub(crate) dropped: usize,
}

impl Lines {
    /// Takes bytes up to the end of a line; returns that line, and how many bytes were taken.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> (usize, Option<Line>) {
        match memchr::memchr2(b'\n', b'\r', bytes) {
            Some(end) => {
                self.keep(&bytes[..end]);
                (end + 1, self.finish())
            }
            None => {
                self.keep(bytes);
                (bytes.len(), None)
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES - self.line.len();
        let kept = bytes.len().min(room);
        self.line.extend_from_slice(&bytes[..kept]);
        self.dropped += bytes.len() - kept;
    }

    /// What has no end yet; nothing when that is empty. An empty line says nothing and is none.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        let line = Line {
            bytes: std::mem::take(&mut self.line),
            dropped: std::mem::take(&mut self.dropped),
        };
        (!line.bytes.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<Line> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                let (taken, line) = lines.take(rest);
                out.extend(line);
                rest = &rest[taken..];
            }
        }
        out.extend(lines.finish());
        out
    }

    /// REQ-CONTAINER-LOGS.
    #[test]
    fn escapes_and_control_characters_go() {
        assert_eq!(
            printable(b"\x1b[1;31mred\x1b[0m \x07bell\ttab\x00"),
            "red bell tab"
        );
        assert_eq!(printable(b"\x1b]0;title\x07x"), "]0;titlex");
        assert_eq!(printable(b"\x1b[31"), "");
        assert_eq!(printable("a\u{202e}b".as_bytes()), "ab");
        assert_eq!(printable(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }

    proptest! {
        /// REQ-CONTAINER-LOGS.
        #[test]
        fn nothing_that_moves_a_cursor_is_left(bytes: Vec<u8>) {
            let text = printable(&bytes);
            prop_assert!(!text.contains(|c: char| c.is_control() || is_direction(c)));
            prop_assert!(text.len() <= 3 * bytes.len());
        }

        #[test]
        fn lines_do_not_depend_on_the_chunks(text in "[ab\n\r]{0,60}", at in 0_usize..60) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            prop_assert_eq!(split(&[&bytes[..at], &bytes[at..]]), split(&[bytes]));
            let kept: Vec<u8> = split(&[bytes]).into_iter().flat_map(|line| line.bytes).collect();
            let expected: Vec<u8> = bytes.iter().copied().filter(|b| !b"\n\r".contains(b)).collect();
            prop_assert_eq!(kept, expected);
        }
    }

    #[test]
    fn an_endless_line_is_cut_and_counted() {
        let long = vec![b'x'; MAX_LINE_BYTES + 5];
        let lines = split(&[&long, b"y\nz"]);
        assert_eq!((lines[0].bytes.len(), lines[0].dropped), (MAX_LINE_BYTES, 6));
        assert_eq!(lines[1].bytes, b"z");
    }
}
