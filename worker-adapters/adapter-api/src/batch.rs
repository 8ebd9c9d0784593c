//! Tokens of one read, in one buffer: no allocation per token.

use api_types::TokenKind;

use crate::job::Finish;

/// Texts of consecutive tokens, and the finish where the read held it.
#[derive(Debug, Default)]
pub struct TokenBatch {
    text: String,
    ends: Vec<u32>,
    /// The few tokens that are no answer text, by place; empty for nearly every batch.
    marked: Vec<(u32, TokenKind)>,
    generated: u32,
    finish: Option<Finish>,
}

impl TokenBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one token's text. Empty texts are progress, not tokens: use [`Self::progress`].
    pub fn push(&mut self, text: &str) {
        self.push_with(|buffer| buffer.push_str(text));
    }

    /// Appends one token's text by writing it straight into the buffer (for unescaping in place).
    /// Nothing is recorded when `write` adds nothing.
    pub fn push_with(&mut self, write: impl FnOnce(&mut String)) {
        let before = self.text.len();
        write(&mut self.text);
        if self.text.len() > before {
            // A batch is one socket read: far below 4 GiB.
            self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        }
    }

    /// Appends one token's text that may be something else than the answer's.
    pub fn push_as(&mut self, kind: TokenKind, text: &str) {
        let before = self.ends.len();
        self.push(text);
        if self.ends.len() > before && !kind.is_text() {
            self.marked
                .push((u32::try_from(before).unwrap_or(u32::MAX), kind));
        }
    }

    /// Records how many tokens the engine has generated so far for this job, text or not.
    pub fn progress(&mut self, generated: u32) {
        self.generated = self.generated.max(generated);
    }

    /// Records the end of the generation.
    pub fn set_finish(&mut self, finish: Finish) {
        self.finish = Some(finish);
    }

    /// The tokens' texts, in order.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let token = &self.text[start..end as usize];
            start = end as usize;
            token
        })
    }

    /// Whether every token is text of the answer.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.marked.is_empty()
    }

    /// The tokens' texts with their kinds, in order.
    pub fn tokens_with_kind(&self) -> impl Iterator<Item = (TokenKind, &str)> {
        let mut marked = self.marked.iter().peekable();
        self.tokens().enumerate().map(move |(place, text)| {
            let here = marked.next_if(|(at, _)| *at as usize == place);
            (here.map_or(TokenKind::Text, |(_, kind)| *kind), text)
        })
    }

    /// How many texts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no text. A finish may still be there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Tokens the engine has generated so far for this job.
    #[must_use]
    pub const fn generated(&self) -> u32 {
        self.generated
    }

    /// The end of the generation, where the read held it.
    #[must_use]
    pub const fn finish(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    /// Keeps the first `count` texts, and counts no more than `generated` tokens.
    pub fn truncate(&mut self, count: usize, generated: u32) {
        self.generated = self.generated.min(generated);
        if count < self.ends.len() {
            self.ends.truncate(count);
            self.marked.retain(|(at, _)| (*at as usize) < count);
            self.text
                .truncate(self.ends.last().map_or(0, |&end| end as usize));
        }
    }

    /// Removes the first `count` texts.
    pub fn drop_front(&mut self, count: usize) {
        let count = count.min(self.ends.len());
        let Some(&cut) = count.checked_sub(1).and_then(|last| self.ends.get(last)) else {
            return;
        };
        self.text.drain(..cut as usize);
        self.ends.drain(..count);
        self.ends.iter_mut().for_each(|end| *end -= cut);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.marked.retain(|(at, _)| *at >= count);
        self.marked.iter_mut().for_each(|(at, _)| *at -= count);
    }

    /// Empties the texts, keeps the buffer and the generated count.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.marked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_pushed() {
        let mut batch = TokenBatch::new();
        for token in ["a", "", "søn", " "] {
            batch.push(token);
        }
        assert_eq!(batch.tokens().collect::<Vec<_>>(), ["a", "søn", " "]);
        batch.clear();
        assert!(batch.is_empty());
        batch.push("x");
        assert_eq!(batch.tokens().collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn dropping_keeps_whole_tokens() {
        let mut batch = TokenBatch::new();
        ["a", "bc", "d"].iter().for_each(|t| batch.push(t));
        batch.drop_front(0);
        batch.drop_front(2);
        assert_eq!(batch.tokens().collect::<Vec<_>>(), ["d"]);
        batch.push("e");
        batch.drop_front(9);
        assert!(batch.is_empty());
    }

    #[test]
    fn truncating_keeps_whole_tokens() {
        let mut batch = TokenBatch::new();
        ["a", "bc", "d"].iter().for_each(|t| batch.push(t));
        batch.truncate(2, u32::MAX);
        assert_eq!(batch.tokens().collect::<Vec<_>>(), ["a", "bc"]);
        batch.truncate(0, u32::MAX);
        batch.push("z");
        assert_eq!(batch.tokens().collect::<Vec<_>>(), ["z"]);
    }

    #[test]
    fn kinds_stay_with_their_tokens() {
        use TokenKind::{Reasoning, Text, ToolCall};
        let mut batch = TokenBatch::new();
        batch.push("a");
        assert!(batch.is_plain());
        batch.push_as(Reasoning, "");
        batch.push_as(Reasoning, "hm");
        batch.push_as(Text, "b");
        batch.push_as(ToolCall, "{}");
        assert!(!batch.is_plain());
        let kinds: Vec<_> = batch.tokens_with_kind().collect();
        assert_eq!(
            kinds,
            [(Text, "a"), (Reasoning, "hm"), (Text, "b"), (ToolCall, "{}")]
        );
        batch.truncate(2, u32::MAX);
        let kinds: Vec<_> = batch.tokens_with_kind().collect();
        assert_eq!(kinds, [(Text, "a"), (Reasoning, "hm")]);
        batch.clear();
        batch.push("c");
        assert!(batch.is_plain());
    }

    #[test]
    fn generated_count_never_falls_by_itself() {
        let mut batch = TokenBatch::new();
        batch.progress(5);
        batch.progress(3);
        assert_eq!(batch.generated(), 5);
        batch.truncate(1, 4);
        assert_eq!(batch.generated(), 4, "what is not kept does not count");
    }
}
