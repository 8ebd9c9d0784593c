//! Sizes for people.

/// Bytes as GiB with one digit, as in `18.2 GiB`; below a tenth in MiB. Rounds up: a need is never told smaller than it is.
#[must_use]
pub fn gib(bytes: u64) -> String {
    rounded(bytes, u64::div_ceil)
}

/// The same, rounded down: what is free is never told larger than it is.
pub(crate) fn gib_down(bytes: u64) -> String {
    rounded(bytes, |bytes, unit| bytes / unit)
}

fn rounded(bytes: u64, divide: impl Fn(u64, u64) -> u64) -> String {
    let tenth = (1_u64 << 30) / 10;
    if bytes < tenth {
        return format!("{} MiB", divide(bytes, 1 << 20));
    }
    // In tenths of a GiB, exactly: a tenth itself is no whole number of bytes.
    let tenths = divide(bytes.saturating_mul(10), 1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_round_up_and_room_rounds_down() {
        let just_over = (5_u64 << 30) + 1;
        assert_eq!(
            (gib(just_over), gib_down(just_over)),
            ("5.1 GiB".to_owned(), "5.0 GiB".to_owned())
        );
        assert_eq!((gib(1 << 20), gib(0)), ("1 MiB".to_owned(), "0 MiB".to_owned()));
        assert_eq!(gib((1 << 30) / 2), "0.5 GiB");
    }
}
