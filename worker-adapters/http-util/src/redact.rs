//! Takes credentials out of text that other programs wrote: engine logs, error replies, command lines (ORCH-3613). The
//! second net below types that cannot be printed; it works on text alone and keeps nothing.
//!
//! One pass of Aho-Corasick finds the words after which a credential may follow; a rule per word then looks at the
//! bytes around it. Linear in the length of the text.

mod rules;

use std::borrow::Cow;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use rules::{RULES, secret_near};

/// What stands in place of a credential.
pub const MARK: &str = "[redacted]";

#[expect(
    clippy::expect_used,
    reason = "the words are constants, and every test of this module builds them"
)]
static WORDS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .build(RULES.iter().map(|(word, _)| word))
        .expect("thirty short words fit into an automaton")
});

/// `text` with every credential replaced by [`MARK`]: bearer tokens, `hf_…` and `sk-…` keys, AWS key ids, the values
/// of credential headers, fields and flags, signatures in presigned URLs, and user names and passwords in URLs.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(word) = WORDS.find(Input::new(text).range(at..)) {
        match secret_near(text.as_bytes(), word.range(), &RULES[word.pattern()]) {
            Some(secret) => {
                out.push_str(&text[copied..secret.start]);
                out.push_str(MARK);
                copied = secret.end;
                at = secret.end;
            }
            None => at = word.start() + 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_can_be_found() {
        for (index, (word, _)) in RULES.iter().enumerate() {
            let found = WORDS.find(*word).map(|m| (m.pattern().as_usize(), m.range()));
            assert_eq!(found, Some((index, 0..word.len())), "{word}");
        }
    }
}
