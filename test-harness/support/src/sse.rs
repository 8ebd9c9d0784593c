//! A strict reader of `text/event-stream`, for streams of ours. It shares no code with the product and
//! forgives nothing: what the product's own decoder would tolerate from a foreign engine is an error
//! here. Touches one socket.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::http1::{self, Answer, Call, Connection, Head};

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `id` field.
    pub id: Option<String>,
    /// The `event` field.
    pub name: Option<String>,
    /// The `data` field.
    pub data: String,
}

/// What a stream consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event(Event),
    /// A comment, without its colon.
    Comment(String),
}

/// What is wrong with a stream.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The exchange failed.
    #[error("the stream's connection failed")]
    Http(#[from] http1::Error),
    /// The server answered with something else.
    #[error("no stream but {}: {}", .0.status, .0.text())]
    Refused(Box<Answer>),
    /// Against the grammar.
    #[error("not an event stream: {what}: {line:?}")]
    Grammar {
        /// The rule that was broken.
        what: &'static str,
        /// The line that broke it.
        line: String,
    },
    /// Nothing came for too long.
    #[error("nothing came for {0:?}")]
    Silent(Duration),
}

/// A stream being read.
#[derive(Debug)]
pub struct SseReader {
    connection: Connection,
    head: Head,
    decoder: Decoder,
    ready: VecDeque<Item>,
}

impl SseReader {
    /// Sends `call` and expects a stream.
    ///
    /// # Errors
    /// [`Error::Refused`] for any answer but a 200 with the right content type.
    pub async fn open(address: SocketAddr, call: &Call) -> Result<Self, Error> {
        let mut connection = Connection::open(address).await?;
        connection.send(&call.bytes(&address.to_string())).await?;
        let head = connection.head().await?;
        let kind = head.header("content-type").unwrap_or_default();
        if head.status != 200 || kind.split(';').next() != Some("text/event-stream") {
            let mut body = Vec::new();
            while let Some(part) = connection.body_part().await? {
                body.extend_from_slice(&part);
            }
            return Err(Error::Refused(Box::new(Answer {
                status: head.status,
                head,
                body,
            })));
        }
        Ok(Self {
            connection,
            head,
            decoder: Decoder::default(),
            ready: VecDeque::new(),
        })
    }

    /// The response's head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The next item, or `None` at the proper end of the stream. Fails after `limit` of silence.
    ///
    /// # Errors
    /// The stream is cut, malformed or silent.
    pub async fn next(&mut self, limit: Duration) -> Result<Option<Item>, Error> {
        timeout(limit, self.next_whenever())
            .await
            .unwrap_or(Err(Error::Silent(limit)))
    }

    /// The next event, comments skipped.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn next_event(&mut self, limit: Duration) -> Result<Option<Event>, Error> {
        loop {
            match self.next(limit).await? {
                Some(Item::Event(event)) => return Ok(Some(event)),
                Some(Item::Comment(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// All events to the proper end.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn all_events(&mut self, limit: Duration) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        while let Some(event) = self.next_event(limit).await? {
            events.push(event);
        }
        Ok(events)
    }

    /// The connection, to do something rude with it.
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    async fn next_whenever(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            match self.connection.body_part().await? {
                Some(bytes) => self.ready.extend(self.decoder.push(&bytes)?),
                None => return self.decoder.finish().map(|()| None),
            }
        }
    }
}

/// Bytes to items, whatever way the bytes were cut.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
}

impl Decoder {
    /// Takes the next bytes and gives the items that they complete.
    ///
    /// # Errors
    /// The bytes break the grammar.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8(line)
                .map_err(|error| wrong("a line is not UTF-8", &String::from_utf8_lossy(error.as_bytes())))?;
            items.extend(self.take_line(&line)?);
        }
        Ok(items)
    }

    /// Checks that nothing was left unfinished.
    ///
    /// # Errors
    /// The stream ended inside an event.
    pub fn finish(&self) -> Result<(), Error> {
        if self.line.is_empty() && self.event == Event::default() {
            return Ok(());
        }
        Err(wrong(
            "the stream ends inside an event",
            &String::from_utf8_lossy(&self.line),
        ))
    }

    fn take_line(&mut self, line: &str) -> Result<Option<Item>, Error> {
        if line.is_empty() {
            return self.dispatch().map(Some);
        }
        if let Some(comment) = line.strip_prefix(':') {
            return Ok(Some(Item::Comment(comment.trim_start().to_owned())));
        }
        let (field, value) = line
            .split_once(": ")
            .ok_or_else(|| wrong("a line is no field", line))?;
        if value.contains('\r') {
            return Err(wrong("a carriage return in a value", line));
        }
        let fresh = match field {
            "id" => self.event.id.replace(value.to_owned()).is_none(),
            "event" => self.event.name.replace(value.to_owned()).is_none(),
            "data" => !std::mem::replace(&mut self.has_data, true),
            _ => return Err(wrong("an unknown field", line)),
        };
        if !fresh {
            return Err(wrong("a field twice in one event", line));
        }
        if field == "data" {
            value.clone_into(&mut self.event.data);
        }
        Ok(None)
    }

    /// An empty line ends an event, or stands alone after comments.
    fn dispatch(&mut self) -> Result<Item, Error> {
        let event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.has_data) {
            return Ok(Item::Event(event));
        }
        if event == Event::default() {
            return Ok(Item::Comment(String::new()));
        }
        Err(wrong(
            "an event without data",
            event.name.as_deref().unwrap_or_default(),
        ))
    }
}

fn wrong(what: &'static str, line: &str) -> Error {
    Error::Grammar {
        what,
        line: line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str =
        ": ping\n\nid: 0.1\nevent: token\ndata: {\"t\":\"é☃\"}\n\nevent: narration\ndata: x\n\n";

    fn events(chunks: &[&[u8]]) -> Result<Vec<Event>, Error> {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for chunk in chunks {
            events.extend(decoder.push(chunk)?.into_iter().filter_map(|item| match item {
                Item::Event(event) => Some(event),
                Item::Comment(_) => None,
            }));
        }
        decoder.finish()?;
        Ok(events)
    }

    #[test]
    fn reads_events_and_comments() {
        let events = events(&[STREAM.as_bytes()]).unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].id.as_deref(), Some("0.1"));
        assert_eq!(
            events[1],
            Event {
                id: None,
                name: Some("narration".to_owned()),
                data: "x".to_owned()
            }
        );
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cut in 0..STREAM.len(), again in 0..STREAM.len()) {
            let (first, second) = (cut.min(again), cut.max(again));
            let bytes = STREAM.as_bytes();
            let cut = events(&[&bytes[..first], &bytes[first..second], &bytes[second..]]).unwrap();
            prop_assert_eq!(cut, events(&[bytes]).unwrap());
        }
    }

    #[test]
    fn forgives_nothing() {
        for bad in [
            "data:x\n\n",
            "data: x\r\n\n",
            "retry: 1\n\n",
            "event: token\n\n",
            "data: a\ndata: b\n\n",
            "data: x\n",
            "data: x",
        ] {
            assert!(events(&[bad.as_bytes()]).is_err(), "{bad:?}");
        }
        assert!(events(&[b"data: \xFF\n\n"]).is_err());
    }
}
