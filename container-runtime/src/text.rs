//! Turns bytes of other programs into text that can be shown: without control characters. Pure.

/// `bytes` as text that no terminal and no page shows otherwise than it is: escapes, control characters and marks of
/// direction are left out; tabs and line ends become a space.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    }
}
