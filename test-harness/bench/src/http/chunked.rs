//! The chunked transfer coding (RFC 9112 §7.1), decoded as bytes come. Pure.

use anyhow::{Result, bail};

/// More digits than any chunk size of a stream needs; a bound against garbage.
const MAX_SIZE_DIGITS: u8 = 8;

/// Decodes one chunked body, whatever way its bytes are cut.
#[derive(Debug, Default)]
pub(crate) struct Dechunker {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a chunk's size.
    Size { value: usize, digits: u8 },
    /// Behind the size, in an extension.
    Extension { value: usize },
    /// The line feed after a size.
    SizeEnd { value: usize },
    /// In a chunk's data.
    Data { left: usize },
    /// The carriage return after the data.
    DataEnd,
    /// The line feed after the data.
    DataLineFeed,
    /// In the trailer section.
    Trailer { line_is_empty: bool },
    /// The very last line feed.
    LastLineFeed,
    /// All was read.
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { value: 0, digits: 0 }
    }
}

impl Dechunker {
    /// Appends the data within `input` to `out` and tells how many bytes of `input` belong to this body.
    ///
    /// # Errors
    /// The bytes are not a chunked body.
    pub(crate) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        let mut used = 0;
        while used < input.len() && !self.is_done() {
            used += match self.state {
                State::Data { left } => self.data(left, &input[used..], out),
                state => {
                    self.state = after(state, input[used])?;
                    1
                }
            };
        }
        Ok(used)
    }

    /// Whether the end of the body was read.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn data(&mut self, left: usize, input: &[u8], out: &mut Vec<u8>) -> usize {
        let taken = left.min(input.len());
        out.extend_from_slice(&input[..taken]);
        self.state = match left - taken {
            0 => State::DataEnd,
            left => State::Data { left },
        };
        taken
    }
}

/// The state after one byte that is not data.
fn after(state: State, byte: u8) -> Result<State> {
    Ok(match (state, byte) {
        (State::Size { value, digits }, byte) if byte.is_ascii_hexdigit() && digits < MAX_SIZE_DIGITS => {
            State::Size {
                value: value << 4 | hex_value(byte),
                digits: digits + 1,
            }
        }
        (State::Size { value, digits: 1.. } | State::Extension { value }, b'\r') => State::SizeEnd { value },
        (State::Size { value, digits: 1.. }, b';' | b' ') | (State::Extension { value }, _) => {
            State::Extension { value }
        }
        (State::SizeEnd { value: 0 }, b'\n') => State::Trailer { line_is_empty: true },
        (State::SizeEnd { value }, b'\n') => State::Data { left: value },
        (State::DataEnd, b'\r') => State::DataLineFeed,
        (State::DataLineFeed, b'\n') => State::default(),
        (State::Trailer { line_is_empty: true }, b'\r') => State::LastLineFeed,
        (State::LastLineFeed, b'\n') => State::Done,
        (State::Trailer { .. }, byte) => State::Trailer {
            line_is_empty: byte == b'\n',
        },
        (state, byte) => bail!("byte {:?} in {state:?} of a chunked body", char::from(byte)),
    })
}

fn hex_value(digit: u8) -> usize {
    usize::from(match digit {
        b'0'..=b'9' => digit - b'0',
        lower_or_upper => (lower_or_upper | 0x20) - b'a' + 10,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] =
        b"5\r\nhello\r\n1;name=\"x\"\r\n \r\nA\r\n0123456789\r\n0\r\nExpires: never\r\n\r\nHTTP/1.1";

    fn decode(parts: &[&[u8]]) -> Result<(String, usize, bool)> {
        let (mut decoder, mut out, mut used) = (Dechunker::default(), Vec::new(), 0);
        for part in parts {
            used += decoder.push(part, &mut out)?;
        }
        Ok((String::from_utf8(out)?, used, decoder.is_done()))
    }

    #[test]
    fn what_follows_the_body_is_not_taken() {
        let whole = decode(&[BODY]).unwrap();
        assert_eq!(
            whole,
            ("hello 0123456789".to_owned(), BODY.len() - "HTTP/1.1".len(), true)
        );
    }

    #[test]
    fn garbage_is_refused() {
        for bad in ["g\r\n", "\r\n", "5\r\nhello5", "5\n", "123456789\r\n", "0\r\n\rx"] {
            assert!(decode(&[bad.as_bytes()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_cut_body_is_not_done() {
        for length in 0..BODY.len() - "HTTP/1.1".len() {
            assert!(!decode(&[&BODY[..length]]).unwrap().2, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(one in 0..BODY.len(), other in 0..BODY.len()) {
            let (first, second) = (one.min(other), one.max(other));
            let cut = decode(&[&BODY[..first], &BODY[first..second], &BODY[second..]]).unwrap();
            prop_assert_eq!(cut, decode(&[BODY]).unwrap());
        }
    }
}
