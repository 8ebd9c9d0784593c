//! One task's stream over as many connections as it takes. Owns the position in the stream and the pauses between
//! connections; what a connection brings is decoded in [`connection`].

mod connection;

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use api_types::TaskEvent;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use serde::Serialize;
use tokio::time::sleep;

use crate::api::Api;
use crate::config::ResumePolicy;
use crate::error::ClientError;
use connection::{Connection, Opened};

/// One event of a task's stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamItem {
    /// What `Last-Event-ID` takes to go on after this event; absent on events without a number of their own.
    pub id: Option<String>,
    /// The event.
    #[serde(flatten)]
    pub event: TaskEvent,
}

/// Where in the stream a client is: what the next connection asks for, and what is decoded but not handed out.
#[derive(Debug, Default)]
struct Position {
    last_id: Option<String>,
    ready: VecDeque<StreamItem>,
}

#[derive(Debug)]
pub(crate) struct TaskStream {
    api: Api,
    path: String,
    position: Position,
    state: State,
    policy: ResumePolicy,
    pauses: ExponentialBackoff,
}

#[derive(Debug)]
enum State {
    /// Never connected.
    Fresh,
    Open(Box<Connection>),
    /// To be taken up again.
    Broken(ClientError),
    /// To be reported.
    Failed(ClientError),
    Over,
}

impl TaskStream {
    pub(crate) fn new(api: Api, path: String, policy: ResumePolicy, last_id: Option<String>) -> Self {
        Self {
            api,
            path,
            position: Position {
                last_id,
                ready: VecDeque::new(),
            },
            state: State::Fresh,
            policy,
            pauses: pauses(policy),
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Result<StreamItem, ClientError>> {
        loop {
            if let Some(item) = self.position.ready.pop_front() {
                return Some(Ok(self.hand_out(item)));
            }
            self.state = match mem::replace(&mut self.state, State::Over) {
                State::Fresh => self.open().await.unwrap_or_else(State::Failed),
                State::Open(connection) => self.read(connection).await,
                State::Broken(error) => self.take_up(error).await,
                State::Failed(error) => return Some(Err(error)),
                State::Over => return None,
            };
        }
    }

    /// Nothing follows a terminal event, whatever else the daemon sent.
    fn hand_out(&mut self, item: StreamItem) -> StreamItem {
        if item.event.is_terminal() {
            self.position.ready.clear();
            self.state = State::Over;
        }
        item
    }

    async fn open(&self) -> Result<State, ClientError> {
        let opened = connection::open(&self.api, &self.path, self.position.last_id.as_deref()).await?;
        Ok(match opened {
            Opened::Stream(connection) => State::Open(connection),
            Opened::NothingLeft => State::Over,
        })
    }

    async fn read(&mut self, mut connection: Box<Connection>) -> State {
        let before = self.position.last_id.clone();
        let outcome = connection.read(&self.api, &mut self.position).await;
        if self.position.last_id != before {
            self.pauses = pauses(self.policy);
        }
        match outcome {
            Ok(()) => State::Open(connection),
            Err(error) if error.may_resume() => State::Broken(error),
            Err(error) => State::Failed(error),
        }
    }

    async fn take_up(&mut self, error: ClientError) -> State {
        let Some(pause) = self.pause_after(&error) else {
            return State::Failed(error);
        };
        sleep(pause).await;
        match self.open().await {
            Ok(state) => state,
            Err(error) if error.may_resume() => State::Broken(error),
            Err(error) => State::Failed(error),
        }
    }

    /// `None` when it is time to give up. The planned pause comes on top of what the daemon asks for, so that many
    /// clients do not come back at one moment.
    fn pause_after(&mut self, error: &ClientError) -> Option<Duration> {
        let planned = self.pauses.next()?;
        match error.retry_after() {
            None => Some(planned),
            Some(asked) => (asked <= self.policy.max_delay).then(|| asked + planned),
        }
    }
}

/// The jitter adds up to the whole lower bound, so that half the longest pause is the highest bound.
fn pauses(policy: ResumePolicy) -> ExponentialBackoff {
    let highest = policy.max_delay / 2;
    ExponentialBuilder::new()
        .with_jitter()
        .with_factor(2.0)
        .with_min_delay(policy.base_delay.min(highest))
        .with_max_delay(highest)
        .with_max_times(policy.attempts as usize)
        .build()
}
