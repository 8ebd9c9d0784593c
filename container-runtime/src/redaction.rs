//! Takes credentials out of what runtimes and engines write. Owns the secrets that it is told; touches nothing.
//!
//! A text that was cut may begin or end within a secret; what is left of it there goes too.

use std::borrow::Cow;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// What stands in place of a credential.
pub const MARK: &str = "[redacted]";

/// Shorter values are switches and paths; replacing them would tear ordinary words.
const MIN_SECRET_BYTES: usize = 6;

/// Of a secret that a cut goes through, this many bytes are needed to tell it from an ordinary word.
const MIN_REST_BYTES: usize = 4;

/// A second net below the known secrets: a function that finds credentials by their form.
pub type Pattern = fn(&str) -> Cow<'_, str>;

/// What must not be shown.
#[derive(Clone, Default)]
pub struct Redaction {
    secrets: Vec<SecretString>,
    pattern: Option<Pattern>,
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction")
            .field("secrets", &self.secrets.len())
            .field("pattern", &self.pattern.is_some())
            .finish()
    }
}

/// Which ends of a text are not its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Something stood before it.
    pub(crate) front: bool,
    /// Something followed.
    pub(crate) back: bool,
}

impl Redaction {
    /// Hides `secrets` and what `pattern` finds.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = SecretString>, pattern: Option<Pattern>) -> Self {
        let long_enough = |secret: &SecretString| secret.expose_secret().len() >= MIN_SECRET_BYTES;
        let mut secrets: Vec<SecretString> = secrets.into_iter().filter(long_enough).collect();
        // The longer first: one secret may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
        Self { secrets, pattern }
    }

    /// The same, with more secrets.
    #[must_use]
    pub fn with<'a>(&self, more: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let more = more.into_iter().cloned();
        Self::new(self.secrets.iter().cloned().chain(more), self.pattern)
    }

    /// `text` without credentials.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        self.apply_to_part(text, Cut::default())
    }

    pub(crate) fn apply_to_part(&self, text: &str, cut: Cut) -> String {
        let mut text = self.secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.expose_secret(), MARK)
        });
        if cut.front
            && let Some(rest) = self.rest_at_front(&text)
        {
            text.replace_range(..rest, MARK);
        }
        if cut.back
            && let Some(rest) = self.rest_at_back(&text)
        {
            text.replace_range(text.len() - rest.., MARK);
        }
        match self.pattern {
            Some(pattern) => pattern(&text).into_owned(),
            None => text,
        }
    }

    /// The longest end of a secret that the text begins with, bytes.
    fn rest_at_front(&self, text: &str) -> Option<usize> {
        let ends = |secret: &str| ends_of(secret).find(|end| text.starts_with(end)).map(str::len);
        self.secrets
            .iter()
            .filter_map(|secret| ends(secret.expose_secret()))
            .max()
    }

    /// The longest beginning of a secret that the text ends with, bytes.
    fn rest_at_back(&self, text: &str) -> Option<usize> {
        let begins = |secret: &str| {
            beginnings_of(secret)
                .find(|start| text.ends_with(start))
                .map(str::len)
        };
        self.secrets
            .iter()
            .filter_map(|secret| begins(secret.expose_secret()))
            .max()
    }
}

/// The proper ends, longest first.
fn ends_of(secret: &str) -> impl Iterator<Item = &str> {
    let starts = secret.char_indices().skip(1).map(|(at, _)| &secret[at..]);
    starts.take_while(|end| end.len() >= MIN_REST_BYTES)
}

/// The proper beginnings, longest first.
fn beginnings_of(secret: &str) -> impl Iterator<Item = &str> {
    let ends = secret.char_indices().rev().map(|(at, _)| &secret[..at]);
    ends.take_while(|start| start.len() >= MIN_REST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redaction(secrets: &[&str]) -> Redaction {
        Redaction::new(secrets.iter().map(|&secret| secret.into()), None)
    }

    /// REQ-CONTAINER-SECRETS.
    #[test]
    fn secrets_and_what_a_pattern_finds_are_hidden() {
        let pattern = |text: &str| -> Cow<'_, str> { text.replace("Bearer abc", "Bearer ?").into() };
        let redaction = Redaction::new(
            ["hunter2-hunter2".into(), "hunter2".into(), "on".into()],
            Some(pattern),
        );
        assert_eq!(
            redaction.apply("on hunter2-hunter2, hunter2 and Bearer abc"),
            "on [redacted], [redacted] and Bearer ?"
        );
        assert!(!format!("{redaction:?}").contains("hunter2"));
        let more = redaction.with(&["0123456789".into()]);
        assert_eq!(more.apply("a 0123456789 hunter2"), "a [redacted] [redacted]");
    }

    proptest! {
        /// REQ-CONTAINER-SECRETS: wherever a cut goes through a secret, less than four bytes of it are left.
        #[test]
        fn a_cut_leaves_nothing_of_a_secret(
            secret in "[a-f]{8,12}", before in "[x-z ]{0,9}", after in "[x-z ]{0,9}", at in 0_usize..30,
        ) {
            let text = format!("{before}{secret}{after}");
            let at = at.min(text.len());
            let redaction = redaction(&[&secret]);
            let first = redaction.apply_to_part(&text[..at], Cut { back: true, ..Cut::default() });
            let second = redaction.apply_to_part(&text[at..], Cut { front: true, ..Cut::default() });
            for part in [first, second] {
                let left = part.replace(MARK, "");
                let longest = left.split(|c| !('a'..='f').contains(&c)).map(str::len).max().unwrap_or_default();
                prop_assert!(longest < MIN_REST_BYTES, "{}", part);
            }
        }

        #[test]
        fn other_text_is_left_as_it_is(text in "[x-z ]{0,40}") {
            prop_assert_eq!(redaction(&["abcdef"]).apply(&text), text);
        }
    }
}
