//! One narration line: who does what to what, in plain English, with what correlates it.

use std::borrow::Cow;
use std::fmt::Display;

use api_types::NarrationEvent;
use tracing::Level;

use crate::style;

/// The tracing target of narration lines, for filters (`narration=info`).
pub const TARGET: &str = "narration";

macro_rules! narration {
    (
        texts { $($(#[$text_doc:meta])* $text:ident),+ $(,)? }
        numbers { $($(#[$number_doc:meta])* $number:ident),+ $(,)? }
    ) => {
        /// A narration line under construction. Nothing happens until [`emit`](Self::emit).
        ///
        /// `human` is plain English in the present tense, without ids and secrets; ids go into the
        /// fields. It is kept to one line of [`MAX_HUMAN_CHARS`](crate::MAX_HUMAN_CHARS).
        #[derive(Clone)]
        #[must_use = "a narration says nothing until it is emitted"]
        pub struct Narration<'a> {
            level: Level,
            actor: &'static str,
            action: &'static str,
            target: &'a dyn Display,
            human: Cow<'a, str>,
            $($text: Option<&'a dyn Display>,)+
            $($number: Option<u64>,)+
        }

        impl<'a> Narration<'a> {
            /// `actor` does `action` to `target`: `human` says so.
            pub fn new(
                actor: &'static str,
                action: &'static str,
                target: &'a dyn Display,
                human: impl Into<Cow<'a, str>>,
            ) -> Self {
                Self {
                    level: Level::INFO,
                    actor,
                    action,
                    target,
                    human: style::one_line(human.into()),
                    $($text: None,)+
                    $($number: None,)+
                }
            }

            $(
                $(#[$text_doc])*
                pub fn $text<T: Display + 'a>(mut self, value: impl Into<Option<&'a T>>) -> Self {
                    self.$text = value.into().map(|value| value as &dyn Display);
                    self
                }
            )+
            $(
                $(#[$number_doc])*
                pub fn $number(mut self, value: impl Into<Option<u64>>) -> Self {
                    self.$number = value.into();
                    self
                }
            )+

            /// Writes the line to the log as one event.
            pub fn emit(self) {
                macro_rules! event {
                    ($level:expr) => {
                        tracing::event!(
                            target: TARGET,
                            $level,
                            actor = self.actor,
                            action = self.action,
                            target = display(self.target),
                            human = &*self.human,
                            $($text = self.$text.map(display),)+
                            $($number = self.$number,)+
                        )
                    };
                }
                match self.level {
                    Level::ERROR => event!(Level::ERROR),
                    Level::WARN => event!(Level::WARN),
                    _ => event!(Level::INFO),
                }
            }
        }
    };
}

narration! {
    texts {
        /// The request that caused it.
        correlation_id,
        /// The task.
        job_id,
        /// The conversation.
        session_id,
        /// Who asked: `localhost` or `token:<fp6>` (AUTH-1008).
        identity,
        /// The engine.
        engine,
        /// The engine's build.
        engine_version,
        /// `sha256:…` of the engine.
        engine_digest,
        /// The pool.
        pool_id,
        /// The replica.
        replica_id,
        /// The model.
        model_id,
        /// Why the placement is what it is.
        decision,
    }
    numbers {
        /// Tasks ahead.
        queue_position,
        /// ms from now.
        predicted_start_ms,
        /// Prompt tokens.
        tokens_in,
        /// Generated tokens.
        tokens_out,
        /// Admission to slot, ms.
        queue_time_ms,
        /// Slot to first token, ms.
        first_token_ms,
        /// First token to last, ms (ORCH-3310: this name everywhere).
        decode_time_ms,
    }
}

impl Narration<'_> {
    /// Something an operator should look at, though the work goes on.
    pub fn warning(mut self) -> Self {
        self.level = Level::WARN;
        self
    }

    /// Something failed.
    pub fn error(mut self) -> Self {
        self.level = Level::ERROR;
        self
    }
}

impl From<&Narration<'_>> for NarrationEvent {
    /// The same line as a frame of the task's stream.
    fn from(narration: &Narration<'_>) -> Self {
        Self {
            human: narration.human.clone().into_owned(),
            actor: narration.actor.to_owned(),
            action: narration.action.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_frame_says_the_same_and_keeps_the_limit() {
        let human = "x".repeat(150);
        let narration = Narration::new("orchestratord", "start", &"task", human.as_str()).job_id(&"j");
        let event = NarrationEvent::from(&narration);
        assert_eq!(
            (event.actor.as_str(), event.action.as_str()),
            ("orchestratord", "start")
        );
        assert_eq!(event.human.chars().count(), crate::MAX_HUMAN_CHARS);
        assert!(event.human.ends_with('…'));
    }
}
