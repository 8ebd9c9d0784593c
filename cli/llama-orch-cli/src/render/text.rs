//! Small words: durations, sizes, digests, wire names, and text that is safe to show.

use std::borrow::Cow;

use serde::Serialize;

/// Hex digits of a digest that are shown; enough to tell builds apart by eye. JSON has all of them.
const DIGEST_DIGITS: usize = 12;

/// Hex digits of a GPU's UUID that are shown.
const GPU_DIGITS: usize = 8;

/// `12 ms`, `3.2 s`, `2 min 5 s`.
pub(super) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// Binary gigabytes with one decimal.
pub(super) fn gib(bytes: u64) -> String {
    const TENTH: u64 = (1 << 30) / 10;
    let tenths = bytes.saturating_add(TENTH / 2) / TENTH;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Bytes below a KiB, else KiB, MiB or GiB with one decimal.
pub(super) fn bytes(count: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = count.saturating_mul(10).saturating_add(unit / 2) / unit;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} KiB", tenths(1024)),
        1_048_576..1_073_741_824 => format!("{} MiB", tenths(1 << 20)),
        _ => format!("{} GiB", tenths(1 << 30)),
    }
}

/// The start of an `algorithm:hex` digest.
pub(super) fn digest(text: &str) -> Cow<'_, str> {
    let hex = text.find(':').map_or(0, |colon| colon + 1);
    match text.get(..hex + DIGEST_DIGITS) {
        Some(start) if start.len() < text.len() => clean(start),
        _ => clean(text),
    }
}

/// The start of a GPU's UUID.
pub(super) fn gpu(uuid: &str) -> Cow<'_, str> {
    let digits = uuid.find('-').map_or(0, |dash| dash + 1);
    clean(uuid.get(..digits + GPU_DIGITS).unwrap_or(uuid))
}

/// The name of an enum's member on the wire.
pub(super) fn wire<T: Serialize>(member: &T) -> String {
    match serde_json::to_value(member) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Text of another program on a terminal: control characters, which could move the cursor or recolour the screen,
/// become U+FFFD; line feeds and tabs stay.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(harmful) {
        Cow::Owned(text.replace(harmful, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The same on one line.
pub(super) fn clean_line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ")
}

/// Where in the queue, and when it starts.
pub(super) fn queue(position: u32, predicted_start_ms: Option<u64>) -> String {
    let place = match position {
        0 => "next in line".to_owned(),
        ahead => format!("{ahead} ahead"),
    };
    match predicted_start_ms {
        Some(ms) => format!("{place} · starts in about {}", duration(ms)),
        None => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        let shown = [0, 999, 1_000, 3_250, 59_999, 60_000, 125_000].map(duration);
        assert_eq!(
            shown,
            [
                "0 ms",
                "999 ms",
                "1.0 s",
                "3.2 s",
                "59.9 s",
                "1 min 0 s",
                "2 min 5 s"
            ]
        );
    }

    #[test]
    fn sizes_are_binary_gigabytes() {
        assert_eq!([0, 25_757_220_864, 1 << 30].map(gib), ["0.0", "24.0", "1.0"]);
    }

    #[test]
    fn small_sizes_have_their_unit() {
        let shown = [0, 1023, 1536, 5 << 20, 3 << 29].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.5 KiB", "5.0 MiB", "1.5 GiB"]);
    }

    #[test]
    fn long_ids_are_shortened_and_short_ones_kept() {
        assert_eq!(
            digest(&format!("sha256:{}", "a".repeat(64))),
            format!("sha256:{}", "a".repeat(12))
        );
        assert_eq!(digest("sha256:abc"), "sha256:abc");
        assert_eq!(gpu("GPU-00000000-1111-2222"), "GPU-00000000");
        assert_eq!(gpu("GPU-0"), "GPU-0");
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(
            clean("a\x1b[31m\r\u{9b}b\n\tc"),
            "a\u{fffd}[31m\u{fffd}\u{fffd}b\n\tc"
        );
        assert_eq!(clean_line("a\nb\tc"), "a b c");
        assert!(matches!(clean("plain é"), Cow::Borrowed(_)));
    }
}
