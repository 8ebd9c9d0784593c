//! The step function: what comes next in a completion. Pure: the same plan gives the same steps, and
//! neither time nor sockets appear; the pace is arithmetic on the number of a token.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::script::{Fault, FaultKind, Script, Text};
use super::vocabulary::{self, Word};

/// Everything about a completion that is decided before it starts.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Picks the words.
    pub(super) key: u64,
    /// Text tokens before the end of sequence; `None` is never.
    pub(super) eos_after: Option<u32>,
    /// Most tokens to predict; `None` is no bound.
    pub(super) limit: Option<u32>,
    /// Tokens that still fit into the slot's context; `None` is no bound.
    pub(super) room: Option<u32>,
    pub(super) stop_strings: Vec<String>,
    pub(super) text: Text,
    pub(super) empty_every: Option<NonZeroU32>,
    pub(super) fault: Option<Fault>,
}

/// A completion in progress.
#[derive(Debug)]
pub(super) struct Generation {
    plan: Plan,
    /// Frames so far, faulty ones included.
    frames: u32,
    /// Tokens predicted so far.
    predicted: u32,
    /// Text that could still become a stop string.
    held: String,
    fault_over: bool,
    stop: Option<Stop>,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    Token(Token),
    /// The script's fault, in place of a token. After one that does not end the stream, the next step
    /// goes on.
    Fault(FaultKind),
    /// The end; the last step.
    Stop(Stop),
}

/// One frame's worth of output.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: TokenText,
    /// Tokens predicted so far, this one included.
    pub(super) predicted: u32,
}

/// The text of a frame.
#[derive(Debug)]
pub(super) enum TokenText {
    /// A word as it is: its frame is encoded already.
    Word(&'static Word),
    /// Text that differs from the word because of a stop string.
    Changed(String, u32),
}

impl TokenText {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Word(word) => &word.text,
            Self::Changed(text, _) => text,
        }
    }

    pub(super) fn id(&self) -> u32 {
        match self {
            Self::Word(word) => word.id,
            Self::Changed(_, id) => *id,
        }
    }
}

/// Why a completion ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) kind: StopKind,
    /// The context was full.
    pub(super) truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StopKind {
    Eos,
    Limit,
    Word(String),
}

impl StopKind {
    /// The dialect's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Limit => "limit",
            Self::Word(_) => "word",
        }
    }
}

impl Generation {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            frames: 0,
            predicted: 0,
            held: String::new(),
            fault_over: false,
            stop: None,
        }
    }

    /// Tokens predicted so far.
    pub(super) fn predicted(&self) -> u32 {
        self.predicted
    }

    /// Frames so far.
    pub(super) fn frames(&self) -> u32 {
        self.frames
    }

    /// The next step.
    pub(super) fn step(&mut self) -> Step {
        if let Some(stop) = self.stop.take() {
            return Step::Stop(stop);
        }
        if let Some(kind) = self.due_fault() {
            self.frames += 1;
            return Step::Fault(kind);
        }
        let word = self.next_word();
        self.predicted = self.predicted.saturating_add(word.pieces).min(self.bound());
        self.frames += 1;
        let eos = word.id == vocabulary::EOS;
        self.stop = self.reason_to_stop(eos);
        let text = self.visible(word);
        Step::Token(Token {
            text,
            predicted: self.predicted,
        })
    }

    fn due_fault(&mut self) -> Option<FaultKind> {
        let fault = self
            .plan
            .fault
            .as_ref()
            .filter(|fault| fault.at_frame == self.frames)?;
        let first = !std::mem::replace(&mut self.fault_over, true);
        first.then(|| fault.kind.clone())
    }

    fn next_word(&self) -> &'static Word {
        let plan = &self.plan;
        let is_nth = |every: NonZeroU32| (self.frames + 1).is_multiple_of(every.get());
        if self.frames == 0 {
            vocabulary::disclaimer()
        } else if plan.eos_after.is_some_and(|count| self.frames >= count) {
            vocabulary::end_of_sequence()
        } else if plan.empty_every.is_some_and(is_nth) {
            vocabulary::empty()
        } else {
            vocabulary::word(plan.text, mixed(plan.key, self.frames))
        }
    }

    /// Most tokens that may be predicted.
    fn bound(&self) -> u32 {
        let limit = self.plan.limit.unwrap_or(u32::MAX);
        limit.min(self.plan.room.unwrap_or(u32::MAX))
    }

    fn reason_to_stop(&self, eos: bool) -> Option<Stop> {
        let full = self.plan.room.is_some_and(|room| self.predicted >= room);
        if eos {
            Some(Stop {
                kind: StopKind::Eos,
                truncated: false,
            })
        } else if self.predicted >= self.bound() {
            Some(Stop {
                kind: StopKind::Limit,
                truncated: full,
            })
        } else {
            None
        }
    }

    /// The part of the text that may be shown: nothing of a stop string, and nothing yet of what
    /// could become one. A stop string found ends the completion.
    fn visible(&mut self, word: &'static Word) -> TokenText {
        if self.plan.stop_strings.is_empty() {
            return TokenText::Word(word);
        }
        let mut text = std::mem::take(&mut self.held) + &word.text;
        let found = self
            .plan
            .stop_strings
            .iter()
            .filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
        if let Some((place, stop)) = found.min() {
            self.stop = Some(Stop {
                kind: StopKind::Word(stop.clone()),
                truncated: false,
            });
            text.truncate(place);
        } else if self.stop.is_none() {
            let keep = text.len() - self.longest_stop_prefix_at_end(&text);
            self.held = text.split_off(keep);
        }
        TokenText::Changed(text, word.id)
    }

    fn longest_stop_prefix_at_end(&self, text: &str) -> usize {
        let prefixes = self.plan.stop_strings.iter().flat_map(|stop| {
            stop.char_indices()
                .map(move |(end, _)| &stop[..end])
                .filter(|prefix| !prefix.is_empty())
        });
        prefixes
            .filter(|prefix| text.ends_with(prefix))
            .map(str::len)
            .max()
            .unwrap_or(0)
    }
}

/// A well-mixed number from a key and a counter (splitmix64's finaliser).
fn mixed(key: u64, counter: u32) -> u64 {
    let mut z = key.wrapping_add(u64::from(counter).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// When frames are due, from the slot's start: an absolute schedule, so lateness does not add up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    first: Duration,
    between: Duration,
}

impl Pace {
    pub(super) fn of(script: &Script) -> Self {
        Self {
            first: Duration::from_millis(script.first_token_delay_ms),
            between: Duration::from_micros(script.token_delay_us),
        }
    }

    /// When frame `index` is due.
    pub(super) fn due(self, index: u32) -> Duration {
        self.first + self.between * index
    }

    /// Whether there is a schedule between tokens at all.
    pub(super) fn is_paced(self) -> bool {
        !self.between.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(key: u64) -> Plan {
        Plan {
            key,
            eos_after: Some(20),
            limit: None,
            room: None,
            stop_strings: Vec::new(),
            text: Text::Words,
            empty_every: None,
            fault: None,
        }
    }

    fn all(plan: Plan) -> (Vec<String>, u32, Stop) {
        let mut generation = Generation::new(plan);
        let mut texts = Vec::new();
        loop {
            match generation.step() {
                Step::Token(token) => texts.push(token.text.text().to_owned()),
                Step::Fault(_) => {}
                Step::Stop(stop) => return (texts, generation.predicted(), stop),
            }
        }
    }

    #[test]
    fn the_same_plan_says_the_same_and_another_key_something_else() {
        assert_eq!(all(plan(7)), all(plan(7)));
        assert_ne!(all(plan(7)).0, all(plan(8)).0);
        assert_eq!(all(plan(7)).0[0], vocabulary::DISCLAIMER);
    }

    #[test]
    fn the_end_of_sequence_is_a_frame_without_text() {
        let (texts, predicted, stop) = all(plan(1));
        assert_eq!((texts.len(), texts[20].as_str(), predicted), (21, "", 21));
        assert_eq!(
            stop,
            Stop {
                kind: StopKind::Eos,
                truncated: false
            }
        );
    }

    #[test]
    fn a_full_context_truncates_and_a_limit_does_not() {
        let (_, predicted, stop) = all(Plan {
            room: Some(5),
            ..plan(1)
        });
        assert_eq!(
            (predicted, stop),
            (
                5,
                Stop {
                    kind: StopKind::Limit,
                    truncated: true
                }
            )
        );
        let (_, predicted, stop) = all(Plan {
            limit: Some(1),
            ..plan(1)
        });
        assert_eq!(
            (predicted, stop),
            (
                1,
                Stop {
                    kind: StopKind::Limit,
                    truncated: false
                }
            )
        );
    }

    #[test]
    fn characters_of_several_bytes_make_the_count_jump() {
        let (texts, predicted, _) = all(Plan {
            text: Text::Multibyte,
            ..plan(3)
        });
        assert!(
            predicted as usize > texts.len(),
            "{predicted} tokens in {} frames",
            texts.len()
        );
    }

    #[test]
    fn a_fault_comes_at_its_frame_once() {
        let fault = Fault::at(2, FaultKind::BadUtf8);
        let mut generation = Generation::new(Plan {
            fault: Some(fault),
            ..plan(1)
        });
        let steps: Vec<bool> = (0..5)
            .map(|_| matches!(generation.step(), Step::Fault(_)))
            .collect();
        assert_eq!(steps, [false, false, true, false, false]);
    }

    proptest! {
        #[test]
        fn a_stop_string_never_shows_and_nothing_else_is_lost(key: u64, at in 1_usize..19, cut in 1_usize..3) {
            let (whole, ..) = all(plan(key));
            let whole = whole.concat();
            // A stop string that spans words: from inside one into the next.
            let from = whole.match_indices(' ').nth(at).map_or(0, |(place, _)| place - cut);
            let stop_string = whole[from..].chars().take(cut + 3).collect::<String>();
            let first = whole.find(&stop_string).unwrap_or(whole.len());
            let (texts, _, stop) = all(Plan { stop_strings: vec![stop_string.clone()], ..plan(key) });
            prop_assert_eq!(texts.concat(), &whole[..first]);
            prop_assert_eq!(stop.kind, StopKind::Word(stop_string));
        }

        #[test]
        fn text_held_back_for_a_stop_string_is_given_at_the_end(key: u64) {
            let (whole, ..) = all(plan(key));
            let end = whole[19].trim().to_owned() + "never";
            let (texts, ..) = all(Plan { stop_strings: vec![end], ..plan(key) });
            prop_assert_eq!(texts.concat(), whole.concat());
        }
    }
}
