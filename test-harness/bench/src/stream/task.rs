//! The orchestrator's stream of one task: `started`, the tokens, `end`, with metrics and narration between. Pure.

use std::borrow::Cow;

use anyhow::{Context as _, Result, bail, ensure};
use api_types::{EndEvent, FinishReason, TaskEvent};
use serde::Deserialize;

use super::event::Event;
use super::{Check, Heard, Stamps, Tokens};

/// Checks one task's stream of a known length.
#[derive(Debug)]
pub(crate) struct TaskCheck {
    tokens: Tokens,
    expected: u32,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Started,
    Ended,
}

/// A token's data, borrowed: [`api_types::TokenEvent`] would cost the measuring core an allocation per token.
#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow)]
    t: Cow<'a, str>,
    i: u64,
}

impl TaskCheck {
    pub(crate) fn new(expected: u32, stamps: Stamps) -> Self {
        Self {
            tokens: Tokens::new(stamps),
            expected,
            phase: Phase::New,
        }
    }

    fn token(&mut self, event: &Event<'_>, received_ns: u64) -> Result<()> {
        let token: Token<'_> = serde_json::from_str(event.data)?;
        ensure!(
            number(event)? == token.i + 1,
            "token {} has id {:?}",
            token.i,
            event.id
        );
        self.tokens.take(token.i, &token.t, received_ns)
    }

    fn other(&mut self, event: &Event<'_>) -> Result<()> {
        let name = event.name.unwrap_or_default();
        let parsed = TaskEvent::parse(name, event.data).with_context(|| format!("unknown event {name:?}"))?;
        match parsed? {
            TaskEvent::Started(_) => bail!("a second `started`"),
            TaskEvent::Token(_) => bail!("a token event by another way"),
            TaskEvent::Resync(_) => bail!("a `resync` although nothing crashed"),
            TaskEvent::Error(error) => bail!("the task failed: {:?}: {}", error.code, error.message),
            TaskEvent::Metrics(_) | TaskEvent::Narration(_) => Ok(()),
            TaskEvent::End(end) => self.end(event, &end),
        }
    }

    fn end(&mut self, event: &Event<'_>, end: &EndEvent) -> Result<()> {
        self.phase = Phase::Ended;
        ensure!(
            end.finish_reason == FinishReason::Length,
            "the task ended with {:?}",
            end.finish_reason
        );
        ensure!(
            end.tokens_out == self.expected,
            "the receipt says {} tokens",
            end.tokens_out
        );
        ensure!(
            number(event)? == u64::from(self.expected) + 1,
            "`end` has id {:?}",
            event.id
        );
        Ok(())
    }
}

/// The n of the id `<epoch>.<n>`; the epoch is 0 because nothing crashed.
fn number(event: &Event<'_>) -> Result<u64> {
    let n = event.id.and_then(|id| id.strip_prefix("0.")?.parse().ok());
    n.with_context(|| format!("event {:?} with id {:?}", event.name, event.id))
}

impl Check for TaskCheck {
    fn frame(&mut self, frame: &[u8], received_ns: u64) -> Result<()> {
        let Some(event) = Event::parse(frame)? else {
            return Ok(());
        };
        match (self.phase, event.name) {
            (Phase::New, Some("started")) => {
                ensure!(number(&event)? == 0, "`started` has id {:?}", event.id);
                self.phase = Phase::Started;
                Ok(())
            }
            (Phase::Started, Some("token")) => self.token(&event, received_ns),
            (Phase::Started, _) => self.other(&event),
            (Phase::New, name) => bail!("the first event is {name:?}: {}", event.data),
            (Phase::Ended, name) => bail!("{name:?} after the end: {}", event.data),
        }
        .with_context(|| format!("frame {:?}", String::from_utf8_lossy(frame)))
    }

    fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn finish(self) -> Result<Heard> {
        ensure!(self.phase == Phase::Ended, "no `end`");
        self.tokens.complete(self.expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frames: &[&str]) -> Result<Heard> {
        let mut check = TaskCheck::new(2, Stamps::Absent);
        for frame in frames {
            check.frame(frame.as_bytes(), 0)?;
        }
        check.finish()
    }

    const STARTED: &str = "id: 0.0\nevent: started\ndata: {}";
    const STORY: &str = r#"event: narration
data: {"human":"a","actor":"b","action":"c"}"#;
    const ONE: &str = "id: 0.1\nevent: token\ndata: {\"t\":\"a\\n\",\"i\":0}";
    const TWO: &str = "id: 0.2\nevent: token\ndata: {\"t\":\"b\",\"i\":1}";
    const WRONG_ID: &str = "id: 0.3\nevent: token\ndata: {\"t\":\"b\",\"i\":1}";

    fn end(reason: &str, tokens: u32) -> String {
        format!(
            "id: 0.3\nevent: end\ndata: {{\"finish_reason\":\"{reason}\",\"tokens_in\":1,\"tokens_out\":{tokens},\
             \"queue_time_ms\":0,\"decode_time_ms\":0,\"decode_ms\":0,\"seed\":1,\"kv_warmth\":false}}"
        )
    }

    #[test]
    fn a_whole_stream_passes() {
        let end = end("length", 2);
        assert_eq!(
            check(&[STARTED, STORY, ONE, ": ping", TWO, STORY, &end])
                .unwrap()
                .text,
            "a\nb"
        );
    }

    #[test]
    fn broken_streams_fail() {
        let end_ok = end("length", 2);
        let (end_ok, stopped, short) = (end_ok.as_str(), end("stop", 2), end("length", 1));
        for bad in [
            &[ONE, TWO, end_ok][..],
            &[STARTED, TWO, ONE, end_ok],
            &[STARTED, ONE, end_ok],
            &[STARTED, ONE, TWO],
            &[STARTED, ONE, WRONG_ID, end_ok],
            &[STARTED, ONE, TWO, end_ok, STORY],
            &[STARTED, STARTED, ONE, TWO, end_ok],
            &[STARTED, ONE, TWO, &stopped],
            &[STARTED, ONE, TWO, &short],
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_event_is_told_in_its_own_words() {
        let error = r#"id: 0.1
event: error
data: {"code":"WORKER_RESET","message":"the engine died","retriable":true,"correlation_id":"x"}"#;
        let message = format!("{:#}", check(&[STARTED, error]).unwrap_err());
        assert!(message.contains("the engine died"), "{message}");
    }
}
