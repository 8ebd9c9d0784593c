//! Cuts the bytes of an event stream into frames at empty lines. Pure.

use memchr::memmem;

/// Bytes of a stream, and how many of them were given out as frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    taken: usize,
}

impl Frames {
    /// Where the next bytes go. What was given out is dropped.
    pub(crate) fn inbox(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        &mut self.bytes
    }

    /// The next whole frame, without the empty line that ends it.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let rest = &self.bytes[self.taken..];
        let length = memmem::find(rest, b"\n\n")?;
        self.taken += length + 2;
        Some(&rest[..length])
    }

    /// Bytes of a frame that has not ended.
    pub(crate) fn unfinished(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole_whatever_way_the_bytes_come() {
        let stream = b"a: 1\nb: 2\n\n: ping\n\nc: 3\n\nrest";
        for size in 1..stream.len() {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for part in stream.chunks(size) {
                frames.inbox().extend_from_slice(part);
                while let Some(frame) = frames.next() {
                    seen.push(String::from_utf8_lossy(frame).into_owned());
                }
            }
            assert_eq!(seen, ["a: 1\nb: 2", ": ping", "c: 3"], "in parts of {size}");
            assert_eq!(frames.unfinished(), b"rest");
        }
    }
}
