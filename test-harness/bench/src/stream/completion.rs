//! An engine's own stream (llama.cpp's `/completion`), straight or through a relay that copies bytes. Pure.

use std::borrow::Cow;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::event::Event;
use super::{Check, Heard, Stamps, Tokens};

/// Checks one completion of a known length.
#[derive(Debug)]
pub(crate) struct CompletionCheck {
    tokens: Tokens,
    expected: u32,
    ended: bool,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
    stop: bool,
    tokens_predicted: u32,
}

impl CompletionCheck {
    pub(crate) fn new(expected: u32, stamps: Stamps) -> Self {
        Self {
            tokens: Tokens::new(stamps),
            expected,
            ended: false,
        }
    }
}

impl Check for CompletionCheck {
    fn frame(&mut self, frame: &[u8], received_ns: u64) -> Result<()> {
        let Some(event) = Event::parse(frame)? else {
            return Ok(());
        };
        ensure!(!self.ended, "a frame after the final one: {}", event.data);
        let frame: Frame<'_> =
            serde_json::from_str(event.data).with_context(|| format!("frame {}", event.data))?;
        if frame.stop {
            ensure!(
                frame.tokens_predicted == self.expected,
                "the engine counted {} tokens",
                frame.tokens_predicted
            );
            self.ended = true;
            return Ok(());
        }
        let index = u64::from(frame.tokens_predicted)
            .checked_sub(1)
            .context("a token frame of no token")?;
        self.tokens.take(index, &frame.content, received_ns)
    }

    fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn finish(self) -> Result<Heard> {
        ensure!(self.ended, "no final frame");
        self.tokens.complete(self.expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frames: &[&str]) -> Result<Heard> {
        let mut check = CompletionCheck::new(2, Stamps::Absent);
        for frame in frames {
            check.frame(frame.as_bytes(), 0)?;
        }
        check.finish()
    }

    const ONE: &str = r#"data: {"index":0,"content":"a\n","tokens":[5],"stop":false,"tokens_predicted":1}"#;
    const TWO: &str = r#"data: {"index":0,"content":"b","tokens":[6],"stop":false,"tokens_predicted":2}"#;
    const END: &str = r#"data: {"content":"","stop":true,"stop_type":"limit","tokens_predicted":2}"#;

    #[test]
    fn a_whole_stream_passes() {
        assert_eq!(check(&[ONE, ":", TWO, END]).unwrap().text, "a\nb");
    }

    #[test]
    fn a_lost_swapped_repeated_or_late_frame_fails() {
        for bad in [
            &[ONE, END][..],
            &[TWO, ONE, END],
            &[ONE, ONE, TWO, END],
            &[ONE, TWO],
            &[ONE, TWO, END, TWO],
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
