//! Time stamps inside tokens, for benchmarks: a text ends in `@` and 20 digits, the time of its write.
//! The digits are left open while the frame waits for its turn. Touches the clock.

use rustix::time::{ClockId, clock_gettime};

use super::generation::{Token, TokenText};

/// A stamp that is not set yet; as wide as any.
const UNSET: &str = "@00000000000000000000";

/// The token with an open stamp. Tokens without text stay as they are.
pub(super) fn unset(token: &Token) -> Token {
    let text = token.text.text();
    let open = if text.is_empty() { "" } else { UNSET };
    Token {
        text: TokenText::Changed(format!("{text}{open}"), token.text.id()),
        predicted: token.predicted,
    }
}

/// Sets all open stamps in `frames`.
pub(super) fn set(frames: &mut [u8], now_ns: u64) {
    let stamp = format!("@{now_ns:020}");
    let mut from = 0;
    while let Some(place) = memchr::memmem::find(&frames[from..], UNSET.as_bytes()) {
        let start = from + place;
        from = start + UNSET.len();
        frames[start..from].copy_from_slice(stamp.as_bytes());
    }
}

/// The monotonic clock that all processes of a host share.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, rest) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000_000 + rest.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::frames;
    use super::*;

    fn token(text: &str) -> Token {
        Token {
            text: TokenText::Changed(text.to_owned(), 7),
            predicted: 1,
        }
    }

    #[test]
    fn all_frames_of_a_write_have_its_time() {
        let mut out = BytesMut::new();
        for text in [" cam", " cog"] {
            frames::token(&mut out, &unset(&token(text)), 3, None);
        }
        set(&mut out, 123_456);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let stamps: Vec<&str> = text.matches("@00000000000000123456\"").collect();
        assert_eq!(stamps.len(), 2, "{text}");
        assert!(text.contains("\" cam@") && text.contains("\" cog@"), "{text}");
    }

    #[test]
    fn a_token_without_text_has_no_stamp() {
        assert_eq!(unset(&token("")).text.text(), "");
    }

    #[test]
    fn the_clock_moves_forward() {
        let before = now_ns();
        assert!(before > 0 && now_ns() >= before);
    }
}
