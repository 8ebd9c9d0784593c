//! How a task goes on that was running when the daemon went down (ORCH-3712): from the beginning, after
//! the text so far, or by generating that text again and comparing.

use std::sync::Arc;

use adapter_api::{Finish, Job, JobInput, TokenBatch};
use task_journal::RunRecord;

use crate::receipt::RunFacts;

/// What the next run of a task does.
#[derive(Debug, Clone, Default)]
pub enum Continuation {
    /// It begins.
    #[default]
    Begin,
    /// It goes on after the text so far.
    GoOn {
        /// The text.
        text: Arc<str>,
        /// The tokens in it, as its engine counted them.
        generated: u32,
    },
    /// It generates the text so far again, and goes on when it came out the same.
    Replay {
        /// The texts by token.
        texts: Arc<[String]>,
        /// Where they came from.
        on: Option<RunRecord>,
    },
}

impl Continuation {
    /// The engine's job for the rest of `whole`. No tokens left is a job of 0 tokens.
    #[must_use]
    pub fn job(&self, whole: Job) -> Job {
        let Self::GoOn { text, generated } = self else {
            return whole;
        };
        let input = match &whole.input {
            JobInput::Prompt(prompt) => JobInput::Prompt(format!("{prompt}{text}").into()),
            // Nothing else goes on after a text: what it is resumed for is checked when it is taken up.
            other => other.clone(),
        };
        Job {
            input,
            max_tokens: whole.max_tokens.saturating_sub(*generated),
            ..whole
        }
    }

    /// Why the run cannot be what it is to be on this engine.
    #[must_use]
    pub fn cannot_run_on(&self, facts: &RunFacts) -> Option<&'static str> {
        let Self::Replay { on, .. } = self else {
            return None;
        };
        let Some(on) = on else {
            return Some("it is not known where it ran");
        };
        let same = on.engine == facts.engine
            && on.engine_version == facts.engine_version
            && on.engine_digest == facts.engine_digest
            && on.model_id == facts.model_id
            && on.model_digest == facts.model_digest;
        (!same).then_some("engine or model is another than before")
    }

    /// Whether nothing is left to generate in such a job.
    #[must_use]
    pub const fn is_done(&self, job: &Job) -> bool {
        matches!(self, Self::GoOn { .. }) && job.max_tokens == 0
    }

    /// Tokens that are not this run's.
    #[must_use]
    pub const fn generated_before(&self) -> u32 {
        match self {
            Self::GoOn { generated, .. } => *generated,
            Self::Begin | Self::Replay { .. } => 0,
        }
    }

    /// The end of the whole task from the end of this run: the text so far was part of its prompt.
    #[must_use]
    pub fn whole(&self, finish: Finish) -> Finish {
        let before = self.generated_before();
        Finish {
            tokens_in: finish.tokens_in.saturating_sub(before),
            tokens_out: finish.tokens_out.saturating_add(before),
            ..finish
        }
    }

    /// What of the run's output must come out as before.
    #[must_use]
    pub fn replay(&self) -> Replay<'_> {
        Replay {
            expected: match self {
                Self::Replay { texts, .. } => texts,
                Self::Begin | Self::GoOn { .. } => &[],
            },
        }
    }
}

/// The part of a replay that has not come yet.
#[derive(Debug)]
pub struct Replay<'a> {
    expected: &'a [String],
}

/// A replay came out differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Differs;

impl Replay<'_> {
    /// Takes what readers have already out of the batch; tells how many texts that were.
    ///
    /// # Errors
    /// [`Differs`].
    pub fn take(&mut self, batch: &mut TokenBatch) -> Result<usize, Differs> {
        if self.expected.is_empty() {
            return Ok(0);
        }
        let count = self.expected.len().min(batch.len());
        let (came, still) = self.expected.split_at(count);
        if !batch.tokens().take(count).eq(came.iter().map(String::as_str)) {
            return Err(Differs);
        }
        if batch.finish().is_some() && !still.is_empty() {
            return Err(Differs);
        }
        self.expected = still;
        batch.drop_front(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(texts: &[&str]) -> TokenBatch {
        let mut batch = TokenBatch::new();
        texts.iter().for_each(|text| batch.push(text));
        batch
    }

    #[test]
    fn a_replay_takes_what_is_known_and_leaves_the_rest() {
        let texts: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let continuation = Continuation::Replay {
            texts: texts.into(),
            on: None,
        };
        let mut replay = continuation.replay();
        let mut first = batch(&["a", "b"]);
        assert_eq!((replay.take(&mut first), first.len()), (Ok(2), 0));
        let mut second = batch(&["c", "d"]);
        assert_eq!(replay.take(&mut second), Ok(1));
        assert_eq!(second.tokens().collect::<Vec<_>>(), ["d"]);
        assert_eq!(replay.take(&mut batch(&["e"])), Ok(0));
        assert_eq!(continuation.replay().take(&mut batch(&["a", "x"])), Err(Differs));
    }
}
