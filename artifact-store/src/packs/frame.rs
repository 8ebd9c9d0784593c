//! One trace in a segment: two lengths, one checksum, what is known of it as JSON, its content.
//!
//! ```text
//! head_len u32 | content_len u32 | crc u32 | head | content
//! ```
//! Little endian. The checksum covers both lengths, head and content.

use std::ops::Range;

use crate::meta::Meta;

const PREFIX: usize = 12;

/// A frame as it was read.
#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) meta: Meta,
    /// Where the content is, from the start of the frame.
    pub(super) content: Range<usize>,
}

/// The next frame.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Frame(Frame),
    /// Nothing more, and nothing wrong.
    Empty,
    /// The rest is torn or damaged.
    Torn,
}

/// Writes a frame over the buffer; tells where its content begins.
pub(super) fn write(buffer: &mut Vec<u8>, meta: &Meta, content: &[u8]) -> Result<usize, serde_json::Error> {
    buffer.clear();
    buffer.extend_from_slice(&[0; PREFIX]);
    serde_json::to_writer(&mut *buffer, meta)?;
    let at = buffer.len();
    buffer.extend_from_slice(content);
    let lengths = [at - PREFIX, content.len()].map(|len| (len as u32).to_le_bytes());
    buffer[..4].copy_from_slice(&lengths[0]);
    buffer[4..8].copy_from_slice(&lengths[1]);
    let crc = checksum(buffer);
    buffer[8..PREFIX].copy_from_slice(&crc.to_le_bytes());
    Ok(at)
}

fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..8]);
    hasher.update(&frame[PREFIX..]);
    hasher.finalize()
}

/// Reads the first frame of `bytes`.
pub(super) fn next(bytes: &[u8]) -> Next {
    if bytes.is_empty() {
        return Next::Empty;
    }
    parse(bytes).map_or(Next::Torn, Next::Frame)
}

fn parse(bytes: &[u8]) -> Option<Frame> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let at = PREFIX.checked_add(number(0)? as usize)?;
    let end = at.checked_add(number(4)? as usize)?;
    let crc = number(8)?;
    let frame = bytes.get(..end).filter(|frame| checksum(frame) == crc)?;
    let meta = Meta::parse(&frame[PREFIX..at])?;
    let content = at..end;
    Some(Frame { meta, content })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{New, Stamp, id_of};
    use api_types::ArtifactKind;
    use proptest::prelude::*;

    proptest! {
        /// REQ-ARTIFACT-VERIFIED.
        #[test]
        fn a_trace_comes_back_and_no_flipped_bit_passes(content: Vec<u8>, seq: u64, bit: prop::sample::Index) {
            let new = New { kind: ArtifactKind::Trace, media_type: "application/json", tags: vec!["task:1".parse().unwrap()], content: &content };
            let meta = Meta::new(id_of(&content), &new, seq, Stamp { now_ms: 5, unix_ms: 7 });
            let mut buffer = Vec::new();
            let at = write(&mut buffer, &meta, &content).unwrap();
            let frame = Frame { meta, content: at..buffer.len() };
            prop_assert_eq!(next(&buffer), Next::Frame(frame));
            for torn in 1..buffer.len() {
                prop_assert_eq!(next(&buffer[..torn]), Next::Torn);
            }
            let bit = bit.index(buffer.len() * 8);
            buffer[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(next(&buffer), Next::Torn);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = next(&bytes);
        }
    }
}
