//! A task's stream as it is shown: the text untouched, the story beside it, a receipt at the end; or every event as
//! a line of JSON.

use std::mem;

use api_types::{
    EndEvent, FinishReason, MetricsEvent, NarrationEvent, Phase, ResyncEvent, StartedEvent, TaskEvent,
    TokenEvent, TokenKind,
};
use llama_orch_client::{Budgets, StreamItem};

use super::text::{clean_line, digest, duration, queue, wire};
use super::{failure, result};

/// Something to be written, in its order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// To stdout, as it is.
    Data(Vec<u8>),
    /// What is said beside the data and is not a line of its own: the model's reasoning.
    Aside(String),
    /// A line for people.
    Note(String),
    /// A line for people that the next output replaces.
    Status(String),
    /// A line for people that no option silences.
    Error(String),
}

/// Turns events into pieces. Consecutive data is one piece, so that a batch is one write.
#[derive(Debug)]
pub(crate) struct View {
    json: bool,
    /// What the task was given, to show beside its scores.
    inputs: Vec<String>,
    pieces: Vec<Piece>,
}

impl View {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            inputs: Vec::new(),
            pieces: Vec::new(),
        }
    }

    pub(crate) fn with_inputs(self, inputs: Vec<String>) -> Self {
        Self { inputs, ..self }
    }

    pub(crate) fn take(&mut self, item: StreamItem) {
        if self.json {
            self.line(&item);
        } else {
            self.text(item.event);
        }
    }

    /// What has been taken since the last call.
    pub(crate) fn pieces(&mut self) -> Vec<Piece> {
        mem::take(&mut self.pieces)
    }

    fn line(&mut self, item: &StreamItem) {
        let mut line = serde_json::to_vec(item).unwrap_or_default();
        line.push(b'\n');
        self.data(&line);
        if let TaskEvent::Error(body) = &item.event {
            self.pieces.push(Piece::Error(failure::of_body(body)));
        }
    }

    fn text(&mut self, event: TaskEvent) {
        let piece = match event {
            TaskEvent::Token(token) => return self.token(token),
            TaskEvent::Started(event) => Piece::Note(started(&event)),
            TaskEvent::Narration(event) => Piece::Note(narration(&event)),
            TaskEvent::Metrics(event) => match status(&event) {
                Some(line) => Piece::Status(line),
                None => return,
            },
            TaskEvent::End(event) => {
                if let Some(result) = &event.result {
                    let lines = result::lines(result, &self.inputs);
                    self.data(lines.as_bytes());
                }
                Piece::Note(receipt(&event))
            }
            TaskEvent::Error(body) => Piece::Error(failure::of_body(&body)),
            TaskEvent::Resync(event) => Piece::Error(resync(event)),
        };
        self.pieces.push(piece);
    }

    /// The answer is data; what the model thinks beside it is for people.
    fn token(&mut self, token: TokenEvent) {
        match token.kind {
            TokenKind::Text | TokenKind::ToolCall => self.data(token.t.as_bytes()),
            TokenKind::Reasoning => match self.pieces.last_mut() {
                Some(Piece::Aside(text)) => text.push_str(&token.t),
                _ => self.pieces.push(Piece::Aside(token.t)),
            },
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        match self.pieces.last_mut() {
            Some(Piece::Data(data)) => data.extend_from_slice(bytes),
            _ => self.pieces.push(Piece::Data(bytes.to_vec())),
        }
    }
}

/// What is left of the session's budgets, where there are any.
pub(crate) fn budgets(budgets: &Budgets) -> Option<String> {
    let left = [
        budgets.tokens_remaining.map(|tokens| format!("{tokens} tokens")),
        budgets.time_remaining_ms.map(duration),
        budgets.cost_remaining.map(|cost| format!("cost {cost}")),
    ];
    let left: Vec<String> = left.into_iter().flatten().collect();
    (!left.is_empty()).then(|| format!("▸ left of the session's budget: {}", left.join(" · ")))
}

fn started(event: &StartedEvent) -> String {
    format!(
        "▸ task {} · {}",
        event.task_id,
        queue(event.queue_position, event.predicted_start_ms)
    )
}

fn narration(event: &NarrationEvent) -> String {
    format!("▸ {}", clean_line(&event.human))
}

/// What was printed cannot be taken back, so it must be told.
fn resync(event: ResyncEvent) -> String {
    format!(
        "the orchestrator was restarted and lost the end of the text: what follows replaces everything from token {} on\n",
        event.from
    )
}

/// Nothing once text comes: that is status enough.
fn status(event: &MetricsEvent) -> Option<String> {
    match event.phase {
        Phase::Queued => Some(format!(
            "… {}",
            queue(event.queue_position?, event.predicted_start_ms)
        )),
        Phase::Loading => Some("… the model is being loaded".to_owned()),
        Phase::Decoding => None,
    }
}

/// One line that a person needs to repeat the run: what ran where, and how it went.
fn receipt(end: &EndEvent) -> String {
    let mark = match end.finish_reason {
        FinishReason::Stop | FinishReason::Length => '✓',
        FinishReason::Canceled | FinishReason::Deadline => '■',
    };
    let parts = [
        Some(format!("{mark} {}", wire(&end.finish_reason))),
        Some(format!("{} tokens in, {} out", end.tokens_in, end.tokens_out)),
        Some(format!("queued {}", duration(end.queue_time_ms))),
        end.first_token_ms
            .map(|ms| format!("first token {}", duration(ms))),
        rate(end.tokens_out, end.decode_time_ms),
        end.pool_id.as_ref().map(|pool| match &end.replica_id {
            Some(replica) => format!("{pool}/{replica}"),
            None => pool.to_string(),
        }),
        end.engine.map(|engine| match &end.engine_version {
            Some(version) => format!("{engine} {}", clean_line(version)),
            None => engine.to_string(),
        }),
        end.model_id.as_ref().map(|model| match &end.model_digest {
            Some(text) => format!("{model} {}", digest(text)),
            None => model.to_string(),
        }),
        Some(format!("seed {}", end.seed)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(" · ")
}

/// Tokens per second between the first token and the last: one interval fewer than tokens. Nothing where there is no
/// interval, or none that the clock can see.
fn rate(tokens_out: u32, decode_time_ms: u64) -> Option<String> {
    let intervals = u64::from(tokens_out.checked_sub(1)?) * 10_000;
    let tenths = intervals.checked_div(decode_time_ms)?;
    (tenths > 0).then(|| format!("{}.{} tok/s", tenths / 10, tenths % 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    fn shown(json: bool, events: Vec<StreamItem>) -> String {
        let mut view = View::new(json);
        events.into_iter().for_each(|item| view.take(item));
        let line = |piece| match piece {
            Piece::Data(bytes) => format!("data   {:?}", String::from_utf8_lossy(&bytes)),
            Piece::Aside(text) => format!("aside  {text:?}"),
            Piece::Note(line) => format!("note   {line}"),
            Piece::Status(line) => format!("status {line}"),
            Piece::Error(text) => format!("error  {text:?}"),
        };
        view.pieces().into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_stream_as_text() {
        insta::assert_snapshot!("stream_text", shown(false, samples::stream()));
    }

    #[test]
    fn a_stream_as_json_lines() {
        let mut view = View::new(true);
        samples::stream().into_iter().for_each(|item| view.take(item));
        let [Piece::Data(bytes)] = &view.pieces()[..] else {
            panic!("more than data");
        };
        insta::assert_snapshot!("stream_json", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn an_error_event_is_told_in_both_forms() {
        let text = shown(false, vec![samples::error_event()]);
        insta::assert_snapshot!("stream_error", text);
        let json = shown(true, vec![samples::error_event()]);
        assert_eq!(json.lines().count(), 2, "{json}");
        assert!(
            json.starts_with("data   ") && json.ends_with(text.trim_start_matches("error  ")),
            "{json}"
        );
    }

    #[test]
    fn text_is_data_byte_by_byte() {
        let mut view = View::new(false);
        for text in ["\x1b[31m", "\r\n", "", "é"] {
            view.take(samples::token(text));
        }
        assert_eq!(view.pieces(), [Piece::Data("\x1b[31m\r\né".as_bytes().to_vec())]);
        assert_eq!(view.pieces(), []);
    }

    #[test]
    fn reasoning_is_no_data() {
        let mut view = View::new(false);
        for (kind, text) in [
            (TokenKind::Reasoning, "let me "),
            (TokenKind::Reasoning, "see"),
            (TokenKind::Text, "42"),
        ] {
            let mut item = samples::token(text);
            if let TaskEvent::Token(token) = &mut item.event {
                token.kind = kind;
            }
            view.take(item);
        }
        assert_eq!(
            view.pieces(),
            [Piece::Aside("let me see".into()), Piece::Data(b"42".to_vec())]
        );
    }

    #[test]
    fn a_rate_needs_an_interval() {
        assert_eq!(rate(0, 100), None);
        assert_eq!(rate(1, 100), None);
        assert_eq!(rate(5, 0), None);
        assert_eq!(rate(11, 1_000).as_deref(), Some("10.0 tok/s"));
    }

    #[test]
    fn budgets_are_told_where_there_are_any() {
        assert_eq!(budgets(&Budgets::default()), None);
        let some = Budgets {
            tokens_remaining: Some(12),
            time_remaining_ms: Some(3_000),
            cost_remaining: Some(0.5),
        };
        assert_eq!(
            budgets(&some).unwrap(),
            "▸ left of the session's budget: 12 tokens · 3.0 s · cost 0.5"
        );
    }
}
