//! The tokens of one stream: contiguous, with their text, and their age where the engine stamped them. Pure.

use anyhow::{Context as _, Result, ensure};

/// Whether the engine put the time of its write into each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamps {
    Absent,
    Present,
}

/// Collects tokens in order.
#[derive(Debug)]
pub(crate) struct Tokens {
    stamps: Stamps,
    count: u32,
    text: String,
    ages_ns: Vec<u64>,
}

/// A complete stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The text, without stamps.
    pub(crate) text: String,
    /// From the engine's write to the receipt here, ns, per token; empty without stamps.
    pub(crate) ages_ns: Vec<u64>,
}

impl Tokens {
    pub(crate) fn new(stamps: Stamps) -> Self {
        Self {
            stamps,
            count: 0,
            text: String::new(),
            ages_ns: Vec::new(),
        }
    }

    /// The text so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Takes token `index`.
    ///
    /// # Errors
    /// Another was due, or its stamp is missing or in the future.
    pub(crate) fn take(&mut self, index: u64, text: &str, received_ns: u64) -> Result<()> {
        ensure!(
            index == u64::from(self.count),
            "token {index} came when {} was due",
            self.count
        );
        self.count += 1;
        let text = match self.stamps {
            Stamps::Absent => text,
            Stamps::Present => {
                let (text, sent_ns) = split_stamp(text)?;
                let age = received_ns.checked_sub(sent_ns);
                self.ages_ns
                    .push(age.with_context(|| format!("token {index} came before it was sent"))?);
                text
            }
        };
        self.text.push_str(text);
        Ok(())
    }

    /// The whole, if `expected` tokens came.
    ///
    /// # Errors
    /// More or fewer came.
    pub(crate) fn complete(self, expected: u32) -> Result<Heard> {
        ensure!(
            self.count == expected,
            "{} tokens came, {expected} were asked for",
            self.count
        );
        Ok(Heard {
            text: self.text,
            ages_ns: self.ages_ns,
        })
    }
}

fn split_stamp(text: &str) -> Result<(&str, u64)> {
    let (text, stamp) = text
        .rsplit_once('@')
        .with_context(|| format!("no stamp in {text:?}"))?;
    Ok((text, stamp.parse().with_context(|| format!("stamp {stamp:?}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_contiguous() {
        let mut tokens = Tokens::new(Stamps::Absent);
        tokens.take(0, "a@1", 5).unwrap();
        assert!(tokens.take(0, "a", 5).is_err(), "a repeat");
        assert!(tokens.take(2, "c", 5).is_err(), "a gap");
        tokens.take(1, "b", 5).unwrap();
        assert_eq!(
            tokens.complete(2).unwrap(),
            Heard {
                text: "a@1b".to_owned(),
                ages_ns: Vec::new()
            }
        );
    }

    #[test]
    fn a_lost_token_is_noticed_at_the_end() {
        let mut tokens = Tokens::new(Stamps::Absent);
        tokens.take(0, "a", 5).unwrap();
        assert!(tokens.complete(2).is_err());
    }

    #[test]
    fn stamps_become_ages() {
        let mut tokens = Tokens::new(Stamps::Present);
        tokens.take(0, " a@b@00000000000000000100", 150).unwrap();
        assert!(
            tokens.take(1, "c@00000000000000000200", 150).is_err(),
            "from the future"
        );
        assert!(
            Tokens::new(Stamps::Present).take(0, "c", 150).is_err(),
            "without a stamp"
        );
        assert_eq!((tokens.text(), &tokens.ages_ns[..]), (" a@b", &[50][..]));
    }
}
