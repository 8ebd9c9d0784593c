//! Tokens of one read, in one buffer: no allocation per token.

use crate::job::Finish;

/// Texts of consecutive tokens, and the finish where the read held it.
#[derive(Debug, Default)]
pub struct TokenBatch {
    text: String,
    ends: Vec<u32>,
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

    /// Keeps the first `count` texts.
    pub fn truncate(&mut self, count: usize) {
        if count < self.ends.len() {
            self.ends.truncate(count);
            self.text
                .truncate(self.ends.last().map_or(0, |&end| end as usize));
        }
    }

    /// Empties the texts, keeps the buffer and the generated count.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
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
    fn truncating_keeps_whole_tokens() {
        let mut batch = TokenBatch::new();
        ["a", "bc", "d"].iter().for_each(|t| batch.push(t));
        batch.truncate(2);
        assert_eq!(batch.tokens().collect::<Vec<_>>(), ["a", "bc"]);
        batch.truncate(0);
        batch.push("z");
        assert_eq!(batch.tokens().collect::<Vec<_>>(), ["z"]);
    }

    #[test]
    fn generated_count_never_falls() {
        let mut batch = TokenBatch::new();
        batch.progress(5);
        batch.progress(3);
        assert_eq!(batch.generated(), 5);
    }
}
