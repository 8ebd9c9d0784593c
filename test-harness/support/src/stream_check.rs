//! The grammar of a task's stream, checked event by event: `started`, tokens 0, 1, 2 …, one terminal
//! event, nothing after it; ids `<epoch>.<n>` without gap or repeat. Pure, and on purpose independent
//! of the product's own types.

use serde_json::Value;

use crate::sse::Event;

/// How a stream ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Terminal {
    /// `end`, with its data.
    End(Value),
    /// `error`, with its data.
    Error(Value),
}

/// What a whole stream said.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// `started`'s data; absent on a resumed stream.
    pub started: Option<Value>,
    /// The texts of the tokens of this stream, in order.
    pub tokens: Vec<String>,
    /// The data of `metrics` events.
    pub metrics: Vec<Value>,
    /// The data of `narration` events.
    pub narration: Vec<Value>,
    /// The terminal event.
    pub terminal: Terminal,
    /// The terminal event's id.
    pub last_id: String,
}

impl Summary {
    /// The tokens' texts as one.
    pub fn text(&self) -> String {
        self.tokens.concat()
    }

    /// `finish_reason` of `end`, or `code` of `error`.
    pub fn outcome(&self) -> Option<&str> {
        match &self.terminal {
            Terminal::End(data) => data.get("finish_reason")?.as_str(),
            Terminal::Error(data) => data.get("code")?.as_str(),
        }
    }
}

/// A rule that a stream broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {at}: {what} (expected {expected}): {event}")]
pub struct Violation {
    /// The number of the event in the stream, from 0.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
    /// What would have been right.
    pub expected: String,
    /// The event.
    pub event: String,
}

/// A checker in the middle of a stream.
#[derive(Debug)]
pub struct StreamCheck {
    seen: usize,
    epoch: u64,
    /// The n that the next event with an id must have.
    next: u64,
    started: Option<Value>,
    tokens: Vec<String>,
    metrics: Vec<Value>,
    narration: Vec<Value>,
    terminal: Option<(Terminal, String)>,
}

impl Default for StreamCheck {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamCheck {
    /// For a stream from its beginning.
    pub fn new() -> Self {
        Self::expecting(0, 0)
    }

    /// For a stream resumed with this `Last-Event-ID`; `None` when it is no id.
    pub fn resumed_after(last_id: &str) -> Option<Self> {
        let (epoch, n) = parse_id(last_id)?;
        Some(Self::expecting(epoch, n + 1))
    }

    fn expecting(epoch: u64, next: u64) -> Self {
        Self {
            seen: 0,
            epoch,
            next,
            started: None,
            tokens: Vec::new(),
            metrics: Vec::new(),
            narration: Vec::new(),
            terminal: None,
        }
    }

    /// Checks a whole stream.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn whole(events: &[Event]) -> Result<Summary, Violation> {
        let mut check = Self::new();
        events.iter().try_for_each(|event| check.event(event))?;
        check.finish()
    }

    /// Checks the next event.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn event(&mut self, event: &Event) -> Result<(), Violation> {
        if self.terminal.is_some() {
            return Err(self.violation(event, "an event after the terminal one", "nothing"));
        }
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
            return Err(self.violation(event, "data is no JSON", "JSON"));
        };
        let name = event.name.as_deref().unwrap_or_default();
        if self.next == 0 && name != "started" {
            return Err(self.violation(event, "a stream must begin with its start", "started"));
        }
        match name {
            "started" => self.start(event, data)?,
            "token" => self.token(event, &data)?,
            "metrics" => self.side(event, data, |check| &mut check.metrics)?,
            "narration" => self.side(event, data, |check| &mut check.narration)?,
            "end" => self.end(event, Terminal::End(data))?,
            "error" => self.end(event, Terminal::Error(data))?,
            "resync" => self.resync(event, &data)?,
            _ => return Err(self.violation(event, "an unknown event", "an event of the contract")),
        }
        self.seen += 1;
        Ok(())
    }

    /// The stream is over.
    ///
    /// # Errors
    /// It had no terminal event.
    pub fn finish(self) -> Result<Summary, Violation> {
        match self.terminal {
            Some((terminal, last_id)) => Ok(Summary {
                started: self.started,
                tokens: self.tokens,
                metrics: self.metrics,
                narration: self.narration,
                terminal,
                last_id,
            }),
            None => Err(self.violation(&Event::default(), "the stream stopped", "end or error")),
        }
    }

    fn start(&mut self, event: &Event, data: Value) -> Result<(), Violation> {
        if self.next != 0 {
            return Err(self.violation(event, "a second start", "anything else"));
        }
        self.take_id(event, 1)?;
        self.started = Some(data);
        Ok(())
    }

    /// One token, or a batch whose event carries the id of its last one. Token i has n = i + 1.
    fn token(&mut self, event: &Event, data: &Value) -> Result<(), Violation> {
        let alone = std::slice::from_ref(data);
        let tokens = data
            .get("batch")
            .and_then(Value::as_array)
            .map_or(alone, Vec::as_slice);
        for (offset, token) in (0..).zip(tokens) {
            let index = self.next - 1 + offset;
            if token.get("i").and_then(Value::as_u64) != Some(index) {
                return Err(self.violation(event, "a token out of order", &format!("token {index}")));
            }
            let Some(text) = token.get("t").and_then(Value::as_str) else {
                return Err(self.violation(event, "a token without text", "t"));
            };
            self.tokens.push(text.to_owned());
        }
        self.take_id(event, tokens.len() as u64)
    }

    fn side(
        &mut self,
        event: &Event,
        data: Value,
        list: impl FnOnce(&mut Self) -> &mut Vec<Value>,
    ) -> Result<(), Violation> {
        if event.id.is_some() {
            return Err(self.violation(event, "an id on an event that is not kept", "no id"));
        }
        list(self).push(data);
        Ok(())
    }

    /// A cancel withholds the tokens that were not handed out yet; its terminal event still has the
    /// number that comes after them.
    fn end(&mut self, event: &Event, terminal: Terminal) -> Result<(), Violation> {
        let canceled = matches!(&terminal, Terminal::End(data) if data["finish_reason"] == "canceled");
        if let Some((_, n)) = event.id.as_deref().and_then(parse_id).filter(|_| canceled) {
            self.next = self.next.max(n);
        }
        self.take_id(event, 1)?;
        self.terminal = Some((terminal, event.id.clone().unwrap_or_default()));
        Ok(())
    }

    /// After a crash: tokens from an index on are void, and a new epoch begins there.
    fn resync(&mut self, event: &Event, data: &Value) -> Result<(), Violation> {
        let number = |key| data.get(key).and_then(Value::as_u64);
        let (Some(epoch), Some(from)) = (number("epoch"), number("from")) else {
            return Err(self.violation(event, "a resync without its numbers", "epoch and from"));
        };
        if epoch <= self.epoch || from + 1 > self.next {
            return Err(self.violation(event, "a resync forward", "a later epoch, from a token seen"));
        }
        let void = usize::try_from(self.next - 1 - from).unwrap_or(usize::MAX);
        self.tokens.truncate(self.tokens.len().saturating_sub(void));
        (self.epoch, self.next) = (epoch, from + 1);
        Ok(())
    }

    /// The event stands for `count` numbers and must carry the last of them.
    fn take_id(&mut self, event: &Event, count: u64) -> Result<(), Violation> {
        let expected = (self.epoch, self.next + count - 1);
        let id = event.id.as_deref().and_then(parse_id);
        // A task that was taken up again after a crash goes on in a later epoch.
        if let Some((epoch, n)) = id.filter(|&(epoch, n)| epoch >= self.epoch && n == expected.1) {
            self.epoch = epoch;
            self.next = n + 1;
            return Ok(());
        }
        let expected = format!("id {}.{}", expected.0, expected.1);
        Err(self.violation(event, "ids are not consecutive", &expected))
    }

    fn violation(&self, event: &Event, what: &'static str, expected: &str) -> Violation {
        Violation {
            at: self.seen,
            what,
            expected: expected.to_owned(),
            event: format!("{event:?}"),
        }
    }
}

fn parse_id(id: &str) -> Option<(u64, u64)> {
    let (epoch, n) = id.split_once('.')?;
    Some((epoch.parse().ok()?, n.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, name: &str, data: &str) -> Event {
        Event {
            id: id.map(str::to_owned),
            name: Some(name.to_owned()),
            data: data.to_owned(),
        }
    }

    fn good() -> Vec<Event> {
        vec![
            event(Some("0.0"), "started", "{}"),
            event(None, "narration", r#"{"human":"placed"}"#),
            event(Some("0.1"), "token", r#"{"t":"a","i":0}"#),
            event(
                Some("0.3"),
                "token",
                r#"{"batch":[{"t":"b","i":1},{"t":"c","i":2}]}"#,
            ),
            event(Some("0.4"), "end", r#"{"finish_reason":"stop"}"#),
        ]
    }

    #[test]
    fn a_good_stream_is_summed_up() {
        let summary = StreamCheck::whole(&good()).unwrap();
        assert_eq!(
            (summary.text().as_str(), summary.outcome()),
            ("abc", Some("stop"))
        );
        assert_eq!(summary.narration.len(), 1);
    }

    #[test]
    fn dropping_doubling_or_swapping_any_event_with_an_id_is_noticed() {
        for at in (0..5).filter(|at| *at != 1) {
            let mut dropped = good();
            dropped.remove(at);
            assert!(StreamCheck::whole(&dropped).is_err(), "dropped {at}");
            let mut doubled = good();
            doubled.insert(at, doubled[at].clone());
            assert!(StreamCheck::whole(&doubled).is_err(), "doubled {at}");
        }
        let mut swapped = good();
        swapped.swap(2, 3);
        assert!(StreamCheck::whole(&swapped).is_err());
    }

    #[test]
    fn nothing_may_follow_the_end() {
        let mut events = good();
        events.push(event(None, "narration", "{}"));
        assert_eq!(
            StreamCheck::whole(&events).unwrap_err().what,
            "an event after the terminal one"
        );
    }

    #[test]
    fn a_resumed_stream_goes_on_where_it_stopped() {
        let mut check = StreamCheck::resumed_after("0.1").unwrap();
        good()[3..]
            .iter()
            .try_for_each(|event| check.event(event))
            .unwrap();
        assert_eq!(check.finish().unwrap().text(), "bc");
        let mut check = StreamCheck::resumed_after("0.1").unwrap();
        assert!(check.event(&good()[2]).is_err(), "a token seen before");
    }

    #[test]
    fn a_resync_drops_what_did_not_survive() {
        let mut events = good();
        events.truncate(4);
        events.push(event(None, "resync", r#"{"epoch":1,"from":1}"#));
        events.push(event(Some("1.2"), "token", r#"{"t":"B","i":1}"#));
        events.push(event(Some("1.3"), "end", r#"{"finish_reason":"stop"}"#));
        assert_eq!(StreamCheck::whole(&events).unwrap().text(), "aB");
    }
}
