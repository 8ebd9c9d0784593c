//! A client that watches a task's stream.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use anyhow::bail;
use futures_util::future::{Either, select};
use futures_util::poll;
use test_harness_support::http1::Call;
use test_harness_support::sse::{Event, SseReader};
use test_harness_support::stream_check::{StreamCheck, Summary};
use test_harness_support::system::System;
use tokio::task::unconstrained;

use super::PATIENCE;

/// A stream and what came of it so far.
#[derive(Debug)]
pub(crate) struct Viewer {
    reader: SseReader,
    events: Vec<Event>,
    ended: bool,
}

impl Viewer {
    /// Opens a task's stream.
    pub(crate) async fn open(system: &System, task: &str) -> anyhow::Result<Self> {
        Self::with(system, Call::get(&format!("/v1/tasks/{task}/stream"))).await
    }

    /// Opens a task's stream after a frame.
    pub(crate) async fn resume(system: &System, task: &str, after: &str) -> anyhow::Result<Self> {
        Self::with(system, resumption(task, after)).await
    }

    async fn with(system: &System, call: Call) -> anyhow::Result<Self> {
        let call = system.authorized(call);
        Ok(Self {
            reader: SseReader::open(system.address(), &call).await?,
            events: Vec::new(),
            ended: false,
        })
    }

    /// What came so far.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// What the stream said, if it kept the grammar.
    pub(crate) fn summary(&self) -> anyhow::Result<Summary> {
        Ok(StreamCheck::whole(&self.events)?)
    }

    /// Reads until the first token has come.
    pub(crate) async fn read_to_token(&mut self) -> anyhow::Result<()> {
        while !self.events.iter().any(is_token) {
            if !self.read_event().await? {
                bail!("the stream ended without a token: {:?}", self.events);
            }
        }
        Ok(())
    }

    /// Reads until the server has ended the response.
    pub(crate) async fn read_to_end(&mut self) -> anyhow::Result<()> {
        while self.read_event().await? {}
        Ok(())
    }

    /// Reads to the end while something else goes on; tells what came of that, and how many events
    /// had arrived by then.
    ///
    /// The runtime has one thread. It fetches the news of all sockets from the kernel in one go before
    /// it runs any future, so when the answer to `other` wakes us, whatever the server had sent on the
    /// stream before is readable: one poll takes it all, and what comes later was sent later. Only
    /// that answer's own journey blurs the line, never how long a busy machine lets us wait.
    pub(crate) async fn read_to_end_while<T>(
        &mut self,
        other: impl Future<Output = T>,
    ) -> anyhow::Result<(T, usize)> {
        let arrived = Cell::new(self.events.len());
        let reading = pin!(unconstrained(self.count_to_end(&arrived)));
        match select(pin!(other), reading).await {
            Either::Left((done, mut reading)) => {
                let ended = poll!(&mut reading);
                let before = arrived.get();
                match ended {
                    Poll::Ready(ended) => ended?,
                    Poll::Pending => reading.await?,
                }
                Ok((done, before))
            }
            Either::Right((ended, other)) => {
                ended?;
                Ok((other.await, arrived.get()))
            }
        }
    }

    async fn count_to_end(&mut self, arrived: &Cell<usize>) -> anyhow::Result<()> {
        while self.read_event().await? {
            arrived.set(self.events.len());
        }
        Ok(())
    }

    /// `false` at the end of the response.
    async fn read_event(&mut self) -> anyhow::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        match self.reader.next_event(PATIENCE).await? {
            Some(event) => self.events.push(event),
            None => self.ended = true,
        }
        Ok(!self.ended)
    }
}

/// The request for a task's stream after a frame.
pub(crate) fn resumption(task: &str, after: &str) -> Call {
    Call::get(&format!("/v1/tasks/{task}/stream")).header("Last-Event-ID", after)
}

/// Whether an event carries output.
pub(crate) fn is_token(event: &Event) -> bool {
    event.name.as_deref() == Some("token")
}
