//! One running task: asks the engine, moves its output into the task log, seals the log.
//!
//! Owns the engine's stream and nothing else. The slot it holds is given back by [`RunGuard`],
//! which reports to the dispatcher on every way out, a panic included (invariant 6).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use adapter_api::{AdapterError, AdapterErrorKind, Finish, Job, TokenBatch, TokenStream};
use adapter_host::AdapterHost;
use api_types::{CorrelationId, EndEvent, ErrorBody, ErrorCode, FinishReason, TaskEvent, TaskId, TaskResult};
use http_util::wait::Alarm;
use tokio::time::{Instant, timeout};

use crate::continuation::{Continuation, Differs};
use crate::engine_log::EngineLogs;
use crate::receipt::{self, Admitted, RunFacts};
use crate::signals::{Signal, Signals};
use crate::story;
use crate::task_log::{AppendError, Epilogue, Room, TaskLog};

/// Limits of a run, from configuration.
#[derive(Debug, Clone, Copy)]
pub struct RunLimits {
    /// Longest run, from lease to end.
    pub wall: Duration,
    /// How long a reader may hold up the engine before it is detached.
    pub slow_reader: Duration,
}

/// Everything one run needs.
pub struct Run {
    /// The task.
    pub task_id: TaskId,
    /// What to ask the engine.
    pub job: Job,
    /// What of the task an earlier process has done.
    pub continuation: Continuation,
    /// Where it runs.
    pub facts: Arc<RunFacts>,
    /// Admission facts for the receipt.
    pub admitted: Arc<Admitted>,
    /// Where the output goes.
    pub log: TaskLog,
    /// When the task must have ended.
    pub deadline: Option<Instant>,
    /// Limits.
    pub limits: RunLimits,
    /// The request's correlation id, for errors.
    pub correlation: CorrelationId,
}

/// How a run ended, for the dispatcher's books.
#[derive(Debug)]
pub enum RunOutcome {
    /// The log was sealed with this `end`.
    Ended(Box<EndEvent>, Option<Finish>),
    /// The log was sealed with this error.
    Failed(Box<ErrorBody>),
    /// The log was sealed with this error: the task could not be taken up again.
    Interrupted(Box<ErrorBody>),
    /// Somebody else sealed the log (cancel, shutdown).
    SealedElsewhere,
    /// The engine refused or broke before the first token; another replica may take the task. The
    /// log is not sealed.
    NotStarted(AdapterError),
}

/// What the dispatcher learns of a run.
#[derive(Debug)]
pub struct RunReport {
    /// How it ended.
    pub outcome: RunOutcome,
}

/// Reports the end of a run exactly once, also when the run panics. A run that is dropped says nothing to its readers:
/// whoever dropped it did, or the process ends and the task is taken up after the restart.
struct RunGuard {
    task_id: TaskId,
    log: TaskLog,
    signals: Signals,
    outcome: Option<RunOutcome>,
}

impl RunGuard {
    fn ended(&mut self, outcome: RunOutcome) {
        self.outcome = Some(outcome);
    }

    fn panicked(&self) -> RunOutcome {
        let body = ErrorBody::new(ErrorCode::Internal, "the task's run ended unexpectedly");
        let event = TaskEvent::Error(Box::new(body.clone()));
        match self.log.seal(false, |_| event.into()) {
            Ok(()) => RunOutcome::Failed(Box::new(body)),
            Err(_) => RunOutcome::SealedElsewhere,
        }
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        let outcome = match self.outcome.take() {
            Some(outcome) => outcome,
            None if thread::panicking() => self.panicked(),
            None => RunOutcome::SealedElsewhere,
        };
        self.signals
            .send(Signal::RunEnded(self.task_id, Box::new(RunReport { outcome })));
    }
}

impl Run {
    /// Runs to the end and reports it. Dropping the future, begun or not, stops the run: its connection to the engine
    /// closes, and the end is reported like any other. Whoever does so has sealed the log before.
    pub fn execute(
        self,
        host: Arc<AdapterHost>,
        logs: Arc<EngineLogs>,
        signals: Signals,
    ) -> impl Future<Output = ()> + Send + use<> {
        let mut guard = RunGuard {
            task_id: self.task_id,
            log: self.log.clone(),
            signals,
            outcome: None,
        };
        async move {
            let outcome = self.drive(&host, &logs).await;
            guard.ended(outcome);
        }
    }

    async fn drive(&self, host: &AdapterHost, logs: &EngineLogs) -> RunOutcome {
        let before = self.log.progress().tokens;
        match self.stream(host).await {
            Ok(Exit::Finished(finish)) => match self.oversized(&finish) {
                Some(body) => self.fail(body),
                None => self.end(receipt::reason_of(finish.cause), Some(finish)),
            },
            Ok(Exit::Length) => self.end(FinishReason::Length, None),
            Ok(Exit::Deadline) => self.end(FinishReason::Deadline, None),
            Ok(Exit::SealedElsewhere) => RunOutcome::SealedElsewhere,
            Ok(Exit::Full { max_bytes }) => {
                let message = format!("the task's output exceeds {max_bytes} bytes");
                self.fail(ErrorBody::new(ErrorCode::Internal, message))
            }
            Ok(Exit::Wall) => {
                let message = format!("the task ran for more than {} ms", self.limits.wall.as_millis());
                self.fail(ErrorBody::new(ErrorCode::DecodeTimeout, message))
            }
            Ok(Exit::Interrupted(why)) => match self.fail(receipt::interrupted(why)) {
                RunOutcome::Failed(body) => RunOutcome::Interrupted(body),
                other => other,
            },
            Err(error) if error.retriable_before_first_token() && self.log.progress().tokens == before => {
                RunOutcome::NotStarted(error)
            }
            Err(error) => self.fail(self.describe(error, logs).await),
        }
    }

    async fn stream(&self, host: &AdapterHost) -> Result<Exit, AdapterError> {
        let wall = self.facts.leased_at + self.limits.wall;
        let (limit, on_limit) = match self.deadline {
            Some(deadline) if deadline <= wall => (deadline, Exit::Deadline),
            _ => (wall, Exit::Wall),
        };
        let mut on_limit = Some(on_limit);
        let (mut relay, mut limit) = (pin!(self.relay(host)), Alarm::at(limit));
        // Polled for every token, so without a `select!` over things that hardly ever happen; a cancel drops the run.
        poll_fn(|cx| {
            if let Poll::Ready(exit) = relay.as_mut().poll(cx) {
                return Poll::Ready(exit);
            }
            let rung = limit.poll_rung(cx).is_ready();
            rung.then(|| on_limit.take())
                .flatten()
                .map_or(Poll::Pending, |exit| Poll::Ready(Ok(exit)))
        })
        .await
    }

    async fn relay(&self, host: &AdapterHost) -> Result<Exit, AdapterError> {
        if let Some(why) = self.continuation.cannot_run_on(&self.facts) {
            return Ok(Exit::Interrupted(why));
        }
        if self.continuation.is_done(&self.job) {
            return Ok(Exit::Length);
        }
        let mut stream = host.submit(&self.facts.target(), &self.job).await?;
        let mut batch = TokenBatch::new();
        let mut left = self.job.max_tokens as usize;
        let mut replay = self.continuation.replay();
        loop {
            next_batch(stream.as_mut(), &mut batch).await?;
            match replay.take(&mut batch) {
                Ok(known) => left = left.saturating_sub(known),
                Err(Differs) => return Ok(Exit::Interrupted("a replay gave another text")),
            }
            if let Some(exit) = self.append(&mut batch, &mut left).await {
                return Ok(exit);
            }
            batch.clear();
        }
    }

    /// Appends one batch; tells how the run ends where it does. `left` counts down the texts that
    /// `max_tokens` still allows: every text is at least one token, so an engine that sends more
    /// texts has overrun the limit, whatever it reports.
    async fn append(&self, batch: &mut TokenBatch, left: &mut usize) -> Option<Exit> {
        let overrun = batch.len() > *left || batch.generated() > self.job.max_tokens;
        // What an engine has generated beyond its order is nobody's.
        batch.truncate(*left, self.job.max_tokens);
        *left -= batch.len();
        match self.log.append_tokens(batch, Instant::now()) {
            Ok(Room::Free) => {}
            Ok(Room::Crowded) => self.wait_for_readers().await,
            Err(AppendError::Sealed) => return Some(Exit::SealedElsewhere),
            Err(AppendError::Full { max_bytes }) => return Some(Exit::Full { max_bytes }),
        }
        match batch.finish() {
            Some(finish) => Some(Exit::Finished(self.continuation.whole(finish.clone()))),
            None if overrun => Some(Exit::Length),
            None => None,
        }
    }

    /// Backpressure: the engine's socket is not read meanwhile.
    async fn wait_for_readers(&self) {
        if timeout(self.limits.slow_reader, self.log.room()).await.is_err() {
            self.log.detach_slow_readers();
        }
    }

    /// A result must fit into the task's log like any other output (ORCH-3525). Asking for less helps, so it is the
    /// request that is refused.
    fn oversized(&self, finish: &Finish) -> Option<ErrorBody> {
        let (bytes, max_bytes) = (encoded_bytes(finish.result.as_deref()?), self.log.max_bytes());
        let message = format!(
            "inputs: the result has {bytes} bytes, at most {max_bytes} are allowed; ask for fewer at a time"
        );
        (bytes > max_bytes).then(|| ErrorBody::new(ErrorCode::InvalidParams, message))
    }

    fn end(&self, reason: FinishReason, finish: Option<Finish>) -> RunOutcome {
        let mut event = None;
        let sealed = self.log.seal(false, |progress| {
            let end = receipt::end(
                reason,
                &self.admitted,
                Some(&self.facts),
                progress,
                finish.as_ref(),
                Instant::now(),
            );
            event = Some(Box::new(end.clone()));
            Epilogue {
                narration: Some(story::event("end", story::end_sentence(&end))),
                terminal: TaskEvent::End(Box::new(end)),
            }
        });
        match (sealed, event) {
            (Ok(()), Some(end)) => RunOutcome::Ended(end, finish),
            _ => RunOutcome::SealedElsewhere,
        }
    }

    fn fail(&self, body: ErrorBody) -> RunOutcome {
        let epilogue = Epilogue {
            narration: Some(story::event("failure", story::FAILURE.into())),
            terminal: TaskEvent::Error(Box::new(body.clone())),
        };
        match self.log.seal(false, |_| epilogue) {
            Ok(()) => RunOutcome::Failed(Box::new(body)),
            Err(_) => RunOutcome::SealedElsewhere,
        }
    }

    /// The client's error: ours, plus the engine's own last words when it broke.
    async fn describe(&self, error: AdapterError, logs: &EngineLogs) -> ErrorBody {
        let mut message = error.message.clone();
        if error.kind == AdapterErrorKind::Reset
            && let Some(last_words) = logs.last_words(&self.facts).await
        {
            message = format!("{message}; {last_words}");
        }
        ErrorBody::new(error.code(), message)
            .with_pool(self.facts.pool_id.clone(), self.facts.engine)
            .with_retry_after(error.retry_after_ms)
            .with_correlation(self.correlation.clone())
    }
}

/// Why the relay stopped without an engine's error.
enum Exit {
    Finished(Finish),
    Length,
    Deadline,
    Wall,
    Interrupted(&'static str),
    Full { max_bytes: usize },
    SealedElsewhere,
}

async fn next_batch(stream: &mut dyn TokenStream, batch: &mut TokenBatch) -> Result<(), AdapterError> {
    poll_fn(|cx| stream.poll_next(cx, batch)).await
}

/// Bytes of a result as it is sent, without making them.
fn encoded_bytes(result: &TaskResult) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Results are numbers and always have a JSON form; one without would count as too large.
    serde_json::to_writer(&mut count, result).map_or(usize::MAX, |()| count.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_as_long_as_its_json() {
        let result = TaskResult::Embedding {
            dimensions: 3,
            embeddings: vec![vec![0.5, -1.25e-9, 3.0]; 4],
        };
        assert_eq!(
            encoded_bytes(&result),
            serde_json::to_string(&result).unwrap().len()
        );
    }
}
