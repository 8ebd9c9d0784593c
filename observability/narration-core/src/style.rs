//! The form of `human`: one short line.

use std::borrow::Cow;

/// Longest `human`, characters: one line of a terminal next to time and actor.
pub const MAX_HUMAN_CHARS: usize = 100;

/// The text on one line of at most [`MAX_HUMAN_CHARS`] characters; what is cut ends in `…`.
pub(crate) fn one_line(text: Cow<'_, str>) -> Cow<'_, str> {
    let cut = text.char_indices().nth(MAX_HUMAN_CHARS).is_some();
    if !cut && !text.contains(char::is_control) {
        return text;
    }
    let keep = if cut { MAX_HUMAN_CHARS - 1 } else { MAX_HUMAN_CHARS };
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    Cow::Owned(visible.take(keep).chain(cut.then_some('…')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_lines_stay_as_they_are() {
        assert!(matches!(
            one_line("places the task".into()),
            Cow::Borrowed("places the task")
        ));
        assert_eq!(one_line("a\nb".into()), "a b");
    }

    proptest! {
        /// ORCH-3300.
        #[test]
        fn always_one_line_within_the_limit(text in "(\\PC|\n|é|🦙){0,140}") {
            let line = one_line(text.as_str().into());
            prop_assert!(line.chars().count() <= MAX_HUMAN_CHARS);
            prop_assert!(!line.contains(char::is_control));
            prop_assert_eq!(line.ends_with('…') && !text.ends_with('…'), text.chars().count() > MAX_HUMAN_CHARS);
        }
    }
}
