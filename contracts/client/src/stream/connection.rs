//! One connection of a task's stream: the request, the checks of the answer, and bytes to events.

use std::ops::ControlFlow;

use api_types::{TaskEvent, TokenEvent};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_util::client::MAX_REPLY_BYTES;
use http_util::sse::{Decoder, Event};
use http_util::{ByteStream, Request};
use serde::Deserialize;

use super::{Position, StreamItem};
use crate::api::Api;
use crate::error::{ClientError, ProtocolFault};
use crate::headers;

const EVENT_STREAM: &str = "text/event-stream";

pub(super) enum Opened {
    Stream(Box<Connection>),
    /// 204: the terminal event lies before the position asked for.
    NothingLeft,
}

#[derive(Debug)]
pub(super) struct Connection {
    body: ByteStream,
    decoder: Decoder,
}

pub(super) async fn open(api: &Api, path: &str, last_id: Option<&str>) -> Result<Opened, ClientError> {
    let mut request = Request::get(path).header(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
    if let Some(id) = last_id {
        request = request.header(HeaderName::from_static("last-event-id"), id_header(id)?);
    }
    let response = api.stream(request).await?;
    if response.status == StatusCode::NO_CONTENT {
        return Ok(Opened::NothingLeft);
    }
    check_type(&response.headers).map_err(|fault| api.fault(fault))?;
    Ok(Opened::Stream(Box::new(Connection {
        body: response.body,
        // An embedding result makes the last event as large as a short reply may be.
        decoder: Decoder::with_limit(MAX_REPLY_BYTES),
    })))
}

fn id_header(id: &str) -> Result<HeaderValue, ClientError> {
    HeaderValue::from_str(id).map_err(|_| ClientError::LastEventId { id: id.to_owned() })
}

fn check_type(headers: &HeaderMap) -> Result<(), ProtocolFault> {
    let found = headers::text(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(EVENT_STREAM) {
        Ok(())
    } else {
        Err(ProtocolFault::ContentType {
            found: found.to_owned(),
        })
    }
}

impl Connection {
    /// Waits for bytes and appends the events that they complete. What came before an error is appended too.
    pub(super) async fn read(&mut self, api: &Api, position: &mut Position) -> Result<(), ClientError> {
        let Some(bytes) = self.body.chunk().await.map_err(|e| api.error(e))? else {
            return Err(ClientError::Disconnected {
                peer: api.peer().clone(),
                source: None,
            });
        };
        let fed = self.decoder.feed(&bytes, |event| match position.append(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(fault) => ControlFlow::Break(fault),
        });
        match fed.map_err(|e| api.fault(e.into()))? {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(fault) => Err(api.fault(fault)),
        }
    }
}

/// A `token` event of the micro-batch mode; its id is the last token's.
#[derive(Deserialize)]
struct Batch {
    batch: Vec<TokenEvent>,
}

impl Position {
    fn append(&mut self, event: Event<'_>) -> Result<(), ProtocolFault> {
        let name = text(event.name)?;
        let data = text(event.data)?;
        let id = self.advance(text(event.id)?);
        match TaskEvent::parse(name, data) {
            // An event of a later version of the contract.
            None => {}
            Some(Ok(event)) => {
                if let TaskEvent::Resync(back) = event {
                    // What this client has from here on: the frames before the first void token.
                    self.last_id = Some(format!("{}.{}", back.epoch, back.from));
                }
                self.ready.push_back(StreamItem { id, event });
            }
            Some(Err(source)) => self.append_batch(id, name, data, source)?,
        }
        Ok(())
    }

    /// The decoder repeats the last id on events without one; only a new id is an event's own.
    fn advance(&mut self, id: &str) -> Option<String> {
        if id.is_empty() || self.last_id.as_deref() == Some(id) {
            return None;
        }
        self.last_id = Some(id.to_owned());
        self.last_id.clone()
    }

    fn append_batch(
        &mut self,
        id: Option<String>,
        name: &str,
        data: &str,
        source: serde_json::Error,
    ) -> Result<(), ProtocolFault> {
        let Ok(Batch { batch }) = serde_json::from_str(data) else {
            let name = name.to_owned();
            return Err(ProtocolFault::Event { name, source });
        };
        let first = self.ready.len();
        self.ready.extend(batch.into_iter().map(|token| StreamItem {
            id: None,
            event: TaskEvent::Token(token),
        }));
        if let Some(last) = self.ready.range_mut(first..).last() {
            last.id = id;
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<&str, ProtocolFault> {
    std::str::from_utf8(bytes).map_err(|_| ProtocolFault::NotText)
}
