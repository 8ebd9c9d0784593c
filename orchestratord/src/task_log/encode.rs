//! SSE frames of our own streams, encoded once into a reused buffer. A frame is
//! `[id: <epoch>.<n>\n]event: <name>\ndata: <one line of JSON>\n\n`; JSON never holds a raw line
//! feed, so a blank line ends a frame and nothing else does.

use api_types::{TaskEvent, TokenKind};
use bytes::{BufMut, BytesMut};
use serde::Serialize;

/// The number of a frame: `<epoch>.<n>`. The epoch is 0 until a task is taken up again after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameId {
    /// How often the task was taken up again.
    pub epoch: u32,
    /// 0 for `started`, i + 1 for token i.
    pub n: u64,
}

/// Appends the frame of `event`; numbered when `id` is given.
///
/// # Errors
/// Only when a value cannot be JSON, which no event type of ours allows.
pub fn event(buffer: &mut BytesMut, id: Option<FrameId>, event: &TaskEvent) -> Result<(), serde_json::Error> {
    head(buffer, id, event.name());
    match event {
        TaskEvent::Started(data) => json(buffer, data)?,
        TaskEvent::Token(data) => json(buffer, data)?,
        TaskEvent::Metrics(data) => json(buffer, data)?,
        TaskEvent::Narration(data) => json(buffer, data)?,
        TaskEvent::End(data) => json(buffer, data)?,
        TaskEvent::Error(data) => json(buffer, data)?,
        TaskEvent::Resync(data) => json(buffer, data)?,
    }
    buffer.put_slice(b"\n\n");
    Ok(())
}

/// Appends the frame of token `index` (n = index + 1). The hot path: no allocation, no `Value`.
pub fn token(buffer: &mut BytesMut, epoch: u32, index: u64, text: &str) {
    let n = index + 1;
    head(buffer, Some(FrameId { epoch, n }), "token");
    buffer.put_slice(b"{\"t\":");
    string(buffer, text);
    buffer.put_slice(b",\"i\":");
    decimal(buffer, index);
    buffer.put_slice(b"}\n\n");
}

/// Appends the frame of token `index`, which is something else than the answer's text. Rare: only chats with reasoning or
/// tools have such tokens.
pub fn token_of_kind(buffer: &mut BytesMut, epoch: u32, index: u64, kind: TokenKind, text: &str) {
    if kind.is_text() {
        return token(buffer, epoch, index, text);
    }
    let n = index + 1;
    head(buffer, Some(FrameId { epoch, n }), "token");
    buffer.put_slice(b"{\"t\":");
    string(buffer, text);
    buffer.put_slice(b",\"i\":");
    decimal(buffer, index);
    buffer.put_slice(b",\"kind\":\"");
    buffer.put_slice(kind.as_str().as_bytes());
    buffer.put_slice(b"\"}\n\n");
}

/// Appends one frame for several consecutive tokens (micro-batch mode); its id is the last one's.
pub fn token_batch<'a>(
    buffer: &mut BytesMut,
    epoch: u32,
    first: u64,
    texts: impl ExactSizeIterator<Item = &'a str>,
) {
    let n = first + texts.len() as u64;
    head(buffer, Some(FrameId { epoch, n }), "token");
    buffer.put_slice(b"{\"batch\":[");
    for (offset, text) in texts.enumerate() {
        if offset > 0 {
            buffer.put_u8(b',');
        }
        buffer.put_slice(b"{\"t\":");
        string(buffer, text);
        buffer.put_slice(b",\"i\":");
        decimal(buffer, first + offset as u64);
        buffer.put_u8(b'}');
    }
    buffer.put_slice(b"]}\n\n");
}

fn head(buffer: &mut BytesMut, id: Option<FrameId>, name: &str) {
    if let Some(FrameId { epoch, n }) = id {
        buffer.put_slice(b"id: ");
        decimal(buffer, u64::from(epoch));
        buffer.put_u8(b'.');
        decimal(buffer, n);
        buffer.put_u8(b'\n');
    }
    buffer.put_slice(b"event: ");
    buffer.put_slice(name.as_bytes());
    buffer.put_slice(b"\ndata: ");
}

fn json(buffer: &mut BytesMut, value: &impl Serialize) -> Result<(), serde_json::Error> {
    serde_json::to_writer(buffer.writer(), value)
}

/// Writes `text` as a JSON string. Plain runs are copied whole; what must be escaped is rare.
fn string(buffer: &mut BytesMut, text: &str) {
    buffer.put_u8(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        buffer.put_slice(&bytes[plain..at]);
        escape(buffer, byte);
        plain = at + 1;
    }
    buffer.put_slice(&bytes[plain..]);
    buffer.put_u8(b'"');
}

fn escape(buffer: &mut BytesMut, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => buffer.put_slice(b"\\\""),
        b'\\' => buffer.put_slice(b"\\\\"),
        b'\n' => buffer.put_slice(b"\\n"),
        b'\r' => buffer.put_slice(b"\\r"),
        b'\t' => buffer.put_slice(b"\\t"),
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            buffer.put_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    }
}

fn decimal(buffer: &mut BytesMut, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    buffer.put_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::TokenEvent;

    fn encoded(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut buffer = BytesMut::new();
        write(&mut buffer);
        String::from_utf8(buffer.to_vec()).unwrap()
    }

    #[test]
    fn token_frame_is_the_generic_one() {
        for text in [
            "",
            "plain",
            "quote \" back \\ tab \t nl \n cr \r nul \0 del \u{7f} é 海 😀 \u{2028}",
        ] {
            let fast = encoded(|b| token(b, 3, 41, text));
            let data = TaskEvent::Token(TokenEvent::text(41, text));
            assert_eq!(
                fast,
                encoded(|b| event(b, Some(FrameId { epoch: 3, n: 42 }), &data).unwrap())
            );
            for kind in [TokenKind::Text, TokenKind::Reasoning, TokenKind::ToolCall] {
                let data = TaskEvent::Token(TokenEvent {
                    kind,
                    ..TokenEvent::text(41, text)
                });
                let fast = encoded(|b| token_of_kind(b, 3, 41, kind, text));
                assert_eq!(
                    fast,
                    encoded(|b| event(b, Some(FrameId { epoch: 3, n: 42 }), &data).unwrap())
                );
            }
            assert_eq!(fast.matches('\n').count(), 4, "{fast:?}");
        }
    }

    #[test]
    fn every_ascii_character_survives() {
        let text: String = (0_u8..128).map(char::from).collect();
        let frame = encoded(|b| token(b, 0, 0, &text));
        let data = frame.lines().find_map(|l| l.strip_prefix("data: ")).unwrap();
        assert_eq!(serde_json::from_str::<TokenEvent>(data).unwrap().t, text);
    }

    #[test]
    fn batch_frame_carries_the_last_id() {
        let frame = encoded(|b| token_batch(b, 0, 7, ["a", "b"].into_iter()));
        assert_eq!(
            frame,
            "id: 0.9\nevent: token\ndata: {\"batch\":[{\"t\":\"a\",\"i\":7},{\"t\":\"b\",\"i\":8}]}\n\n"
        );
    }
}
