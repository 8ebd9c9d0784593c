//! Durations as people write them: a number and its unit.

/// `500ms`, `30s`, `2m`, `1h` as milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("expected a whole number and a unit: 500ms, 30s, 2m or 1h".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{number:?} is not a whole number in range"))?;
    number.checked_mul(factor).ok_or_else(|| "is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_counts_milliseconds() {
        for (text, expected) in [
            ("0ms", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(milliseconds(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "3 s",
            "1d",
            "99999999999999999999s",
            "18446744073709551615h",
            "٣s",
        ] {
            assert!(milliseconds(text).is_err(), "{text:?} was accepted");
        }
    }
}
