//! The frames of a segment: a head of fixed size, a payload, one checksum over both.
//!
//! ```text
//! len u32 | crc u32 | kind u8 | task u128 | epoch u32 | first u64 | generated u32 | payload
//! ```
//! Little endian. `len` counts everything after `crc`, which covers exactly that. The payload of a
//! tokens frame is `(kind u8, length u32, text)*`, that of a run frame what the task runs on and that of an end frame the
//! terminal event, both as JSON.

use std::io;

use api_types::{TaskEvent, TaskId, TokenKind};
use uuid::Uuid;

use crate::record::RunRecord;

const TOKENS: u8 = 1;
const END: u8 = 2;
const END_CUT: u8 = 3;
const RUN: u8 = 4;
/// `len` and `crc`.
const PREFIX: usize = 8;
/// Kind to generated.
const HEAD: usize = 1 + 16 + 4 + 8 + 4;
/// No frame is longer: an engine read is bounded, and so is a terminal event.
const MAX_LEN: usize = 64 << 20;

/// A frame as it was read.
#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) task: TaskId,
    pub(super) epoch: u32,
    pub(super) content: Content,
}

#[derive(Debug, PartialEq)]
pub(super) enum Content {
    Tokens {
        first: u64,
        generated: u32,
        tokens: Vec<(TokenKind, String)>,
    },
    End {
        event: Box<TaskEvent>,
        cut: bool,
    },
    Run(Box<RunRecord>),
}

/// The next frame and what it takes of the bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Frame(Frame, usize),
    /// Nothing more, and nothing wrong.
    Empty,
    /// The rest is torn or damaged.
    Torn,
}

pub(super) fn tokens<'a>(
    buffer: &mut Vec<u8>,
    owner: (TaskId, u32),
    (first, generated): (u64, u32),
    tokens: impl Iterator<Item = (TokenKind, &'a str)>,
) {
    begin(buffer, TOKENS, owner, first, generated);
    for (kind, text) in tokens {
        buffer.push(code(kind));
        buffer.extend_from_slice(&(text.len() as u32).to_le_bytes());
        buffer.extend_from_slice(text.as_bytes());
    }
    finish(buffer);
}

pub(super) fn run(buffer: &mut Vec<u8>, owner: (TaskId, u32), run: &RunRecord) -> io::Result<()> {
    begin(buffer, RUN, owner, 0, 0);
    serde_json::to_writer(&mut *buffer, run)?;
    finish(buffer);
    Ok(())
}

pub(super) fn end(
    buffer: &mut Vec<u8>,
    owner: (TaskId, u32),
    event: &TaskEvent,
    cut: bool,
) -> io::Result<()> {
    begin(buffer, if cut { END_CUT } else { END }, owner, 0, 0);
    serde_json::to_writer(&mut *buffer, event)?;
    finish(buffer);
    Ok(())
}

fn begin(buffer: &mut Vec<u8>, kind: u8, (task, epoch): (TaskId, u32), first: u64, generated: u32) {
    buffer.clear();
    buffer.extend_from_slice(&[0; PREFIX]);
    buffer.push(kind);
    buffer.extend_from_slice(&task.as_uuid().as_u128().to_le_bytes());
    buffer.extend_from_slice(&epoch.to_le_bytes());
    buffer.extend_from_slice(&first.to_le_bytes());
    buffer.extend_from_slice(&generated.to_le_bytes());
}

fn finish(buffer: &mut [u8]) {
    let (prefix, body) = buffer.split_at_mut(PREFIX);
    prefix[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    prefix[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
}

/// Reads the first frame of `bytes`.
pub(super) fn next(bytes: &[u8]) -> Next {
    if bytes.is_empty() {
        return Next::Empty;
    }
    parse(bytes).map_or(Next::Torn, |(frame, taken)| Next::Frame(frame, taken))
}

fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let mut rest = bytes;
    let len = u32::from_le_bytes(take(&mut rest)?) as usize;
    let crc = u32::from_le_bytes(take(&mut rest)?);
    let body = rest.get(..len).filter(|_| (HEAD..=MAX_LEN).contains(&len))?;
    if crc32fast::hash(body) != crc {
        return None;
    }
    let mut rest = body;
    let [kind] = take(&mut rest)?;
    let task = TaskId::new(Uuid::from_u128(u128::from_le_bytes(take(&mut rest)?)));
    let epoch = u32::from_le_bytes(take(&mut rest)?);
    let first = u64::from_le_bytes(take(&mut rest)?);
    let generated = u32::from_le_bytes(take(&mut rest)?);
    let content = match kind {
        TOKENS => Content::Tokens {
            first,
            generated,
            tokens: tokens_of(rest)?,
        },
        END | END_CUT => Content::End {
            event: serde_json::from_slice(rest).ok()?,
            cut: kind == END_CUT,
        },
        RUN => Content::Run(serde_json::from_slice(rest).ok()?),
        _ => return None,
    };
    let frame = Frame { task, epoch, content };
    Some((frame, PREFIX + len))
}

const fn code(kind: TokenKind) -> u8 {
    match kind {
        TokenKind::Text => 0,
        TokenKind::Reasoning => 1,
        TokenKind::ToolCall => 2,
    }
}

const fn kind_of(code: u8) -> Option<TokenKind> {
    match code {
        0 => Some(TokenKind::Text),
        1 => Some(TokenKind::Reasoning),
        2 => Some(TokenKind::ToolCall),
        _ => None,
    }
}

fn tokens_of(mut rest: &[u8]) -> Option<Vec<(TokenKind, String)>> {
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let [code] = take(&mut rest)?;
        let kind = kind_of(code)?;
        let len = u32::from_le_bytes(take(&mut rest)?) as usize;
        let (text, after) = rest.split_at_checked(len)?;
        tokens.push((kind, std::str::from_utf8(text).ok()?.to_owned()));
        rest = after;
    }
    Some(tokens)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner() -> (TaskId, u32) {
        (TaskId::new(Uuid::from_u128(7)), 2)
    }

    proptest! {
        #[test]
        fn texts_come_back_and_no_flipped_bit_passes(
            texts in prop::collection::vec((0_u8..3, "\\PC{0,12}"), 0..8), first: u64, generated: u32, bit: prop::sample::Index,
        ) {
            let said: Vec<_> = texts.into_iter().map(|(code, text)| (kind_of(code).unwrap(), text)).collect();
            let mut buffer = Vec::new();
            tokens(&mut buffer, owner(), (first, generated), said.iter().map(|(kind, text)| (*kind, text.as_str())));
            let frame = Frame {
                task: owner().0,
                epoch: 2,
                content: Content::Tokens { first, generated, tokens: said },
            };
            prop_assert_eq!(next(&buffer), Next::Frame(frame, buffer.len()));
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
