//! `POST /completion` and `POST /v1/chat/completions`: admission, the wait for a slot, and what streamed and whole answers share.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::super::engine::{Death, Engine};
use super::super::http::{Connection, Gone, KeepAlive, Request, Response, Wake};
use super::super::report::{End, Entry};
use super::super::script::{EngineError, FaultKind, Script};
use super::super::server::{self, After};
use super::super::slots::Lease;
use super::chat::{Chat, Envelope, Totals};
use super::errors::{Refusal, error_response};
use super::frames::{Final, Timings, stopping_word};
use super::generation::{Generation, Pace, Step, Stop};
use super::job::{Job, Route};
use super::settings::Settings;
use super::streaming;

/// What a slot last worked on.
#[derive(Clone)]
pub(super) struct SlotTask {
    pub(super) task: u64,
    pub(super) prompt_tokens: u32,
    pub(super) settings: Arc<Settings>,
    pub(super) decoded: Arc<AtomicU32>,
}

/// A completion that holds its slot.
pub(super) struct Run<'a> {
    pub(super) engine: &'a Engine,
    pub(super) script: Arc<Script>,
    pub(super) job: Job,
    pub(super) entry: Entry<'a>,
    pub(super) generation: Generation,
    pace: Pace,
    lease: Lease,
    decoded: Arc<AtomicU32>,
    started: Instant,
    first_token: Option<Instant>,
}

/// How a completion ended, seen from its connection.
pub(super) enum Ended {
    /// To the end; the status that was answered.
    Answered(u16),
    /// The client left.
    ClientGone,
    /// A fault of the script.
    Fault(FaultKind),
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::ClientGone
    }
}

/// Serves one completion.
pub(super) async fn serve(
    engine: &Engine,
    connection: &mut Connection,
    request: &Request,
    keep: KeepAlive,
    route: Route,
) -> After {
    let mut entry = engine.recorder.begin(request);
    let script = engine.script();
    let job = match admit(engine, &script, request, route) {
        Ok(job) => job,
        Err(refusal) => {
            entry.end(End::Answered(refusal.status()));
            return server::send(connection, request, keep, refusal.response()).await;
        }
    };
    let lease = tokio::select! {
        lease = engine.slots.lease(job.slot) => lease,
        Gone = connection.gone() => {
            entry.end(End::ClientGone);
            return After::Close;
        }
    };
    entry.got_slot();
    let mut run = Run::new(engine, script, job, entry, lease);
    if run.job.settings.stream {
        let ended = streaming::serve(&mut run, connection, request, keep).await;
        closed_after_a_stream(run.end(ended))
    } else {
        let ended = serve_whole(&mut run, connection, request, keep).await;
        run.end(ended)
    }
}

/// The real server announces that it keeps the connection of a stream, and closes it.
fn closed_after_a_stream(after: After) -> After {
    match after {
        After::Next | After::Close => After::Close,
        After::Reset => After::Reset,
    }
}

fn admit(engine: &Engine, script: &Script, request: &Request, route: Route) -> Result<Job, Refusal> {
    if let Some(error) = &script.refuse_completions {
        return Err(Refusal::Plain(error.clone()));
    }
    Job::parse(route, &request.body, engine.launch.slot_ctx(script.n_ctx_train))
}

/// Everything in one answer.
async fn serve_whole(
    run: &mut Run<'_>,
    connection: &mut Connection,
    request: &Request,
    keep: KeepAlive,
) -> Ended {
    let (mut reasoning, mut text, mut ids) = (String::new(), String::new(), Vec::new());
    loop {
        match run.step() {
            Step::Token(token) => {
                if run.wait_for_frame(connection).await == Wake::ClientGone {
                    return Ended::ClientGone;
                }
                run.note_tokens(1);
                if run.reasons() {
                    reasoning.push_str(token.text.text());
                } else {
                    text.push_str(token.text.text());
                }
                ids.push(token.text.id());
            }
            Step::Fault(FaultKind::InStreamError(error)) => {
                let response = error_response(&error);
                return answer(connection, request, keep, response).await;
            }
            Step::Fault(kind) if ends_stream(&kind) => return spoil_whole(run, connection, kind).await,
            Step::Fault(_) => {}
            Step::Stop(stop) => {
                let ids = if run.job.return_tokens {
                    ids.as_slice()
                } else {
                    &[]
                };
                let body = match &run.job.chat {
                    Some(chat) => {
                        let model = run.engine.launch.model_name();
                        let envelope = run.envelope(chat, &model);
                        envelope.whole(&stop, (&reasoning, &text), &run.chat_totals())
                    }
                    None => run.final_json(&stop, &text, ids),
                };
                let response = match body {
                    Ok(body) => Response::json(200, body),
                    Err(error) => return internal(connection, request, keep, &error).await,
                };
                return answer(connection, request, keep, response).await;
            }
        }
    }
}

/// A fault of an answer that has not begun: nothing of it is sent.
async fn spoil_whole(run: &mut Run<'_>, connection: &mut Connection, kind: FaultKind) -> Ended {
    if run.wait_for_frame(connection).await == Wake::ClientGone {
        return Ended::ClientGone;
    }
    match kind {
        FaultKind::Stall => connection.gone().await.into(),
        FaultKind::CleanEof => Ended::Fault(FaultKind::Fin),
        kind => Ended::Fault(kind),
    }
}

async fn answer(
    connection: &mut Connection,
    request: &Request,
    keep: KeepAlive,
    response: Response,
) -> Ended {
    let status = response.status;
    match server::send(connection, request, keep, response).await {
        After::Next => Ended::Answered(status),
        After::Close | After::Reset => Ended::ClientGone,
    }
}

async fn internal(
    connection: &mut Connection,
    request: &Request,
    keep: KeepAlive,
    error: &serde_json::Error,
) -> Ended {
    let error = EngineError::new(500, "server_error", error.to_string());
    answer(connection, request, keep, error_response(&error)).await
}

/// Whether nothing follows a fault of this kind.
pub(super) fn ends_stream(kind: &FaultKind) -> bool {
    !matches!(
        kind,
        FaultKind::BadUtf8 | FaultKind::MalformedJson | FaultKind::Oversized(_)
    )
}

impl<'a> Run<'a> {
    fn new(engine: &'a Engine, script: Arc<Script>, job: Job, entry: Entry<'a>, lease: Lease) -> Self {
        let n_ctx = engine.launch.slot_ctx(script.n_ctx_train);
        let plan = job.plan(&script, n_ctx, engine.take_fault(&job.prompt));
        let decoded = Arc::new(AtomicU32::new(0));
        let task = SlotTask {
            task: entry.id(),
            prompt_tokens: job.prompt_tokens,
            settings: Arc::new(job.settings.brief()),
            decoded: Arc::clone(&decoded),
        };
        let mut tasks = engine
            .llama_cpp
            .last_tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = tasks.get_mut(lease.id()) {
            *last = Some(task);
        }
        drop(tasks);
        engine.log.slot(
            "launch_slot_",
            lease.id(),
            entry.id(),
            "processing task, is_child = 0",
        );
        Self {
            engine,
            pace: Pace::of(&script),
            script,
            job,
            entry,
            generation: Generation::new(plan),
            lease,
            decoded,
            started: Instant::now(),
            first_token: None,
        }
    }

    /// The next step.
    pub(super) fn step(&mut self) -> Step {
        self.generation.step()
    }

    /// When the frame made last is due.
    pub(super) fn due(&self) -> Instant {
        self.started + self.pace.due(self.generation.frames().saturating_sub(1))
    }

    /// Whether the frame after the one made last is already due, on a schedule that has fallen behind.
    pub(super) fn is_behind(&self) -> bool {
        self.pace.is_paced() && self.started + self.pace.due(self.generation.frames()) <= Instant::now()
    }

    async fn wait_for_frame(&mut self, connection: &mut Connection) -> Wake {
        let due = self.due();
        if due > Instant::now() {
            return connection.wait_until(due).await;
        }
        if connection.is_gone() {
            Wake::ClientGone
        } else {
            Wake::Due
        }
    }

    /// Token frames went out, or would have if the answer were streamed.
    pub(super) fn note_tokens(&mut self, frames: u32) {
        self.first_token.get_or_insert_with(Instant::now);
        self.entry.wrote_tokens(frames);
        self.decoded.store(self.generation.predicted(), Ordering::Relaxed);
    }

    /// Since the slot was given.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Prompt time and generation time so far.
    fn times(&self) -> (Duration, Duration) {
        let now = Instant::now();
        let first = self.first_token.unwrap_or(now);
        (first - self.started, now - first)
    }

    pub(super) fn timings(&self) -> Timings {
        let (prompt, predicted) = self.times();
        Timings::new(
            self.job.prompt_tokens,
            ms(prompt),
            self.generation.predicted(),
            ms(predicted),
        )
    }

    /// Whether the token made last is reasoning.
    pub(super) fn reasons(&self) -> bool {
        self.job.chat.is_some() && self.generation.frames() <= self.script.reasoning
    }

    /// What every chunk of a chat says.
    pub(super) fn envelope<'e>(&'e self, chat: &'e Chat, model: &'e str) -> Envelope<'e> {
        Envelope {
            chat,
            // Seconds since the engine's start: the scripted engine has no calendar.
            created: self.engine.started.elapsed().as_secs(),
            model,
            fingerprint: &self.script.build_info,
        }
    }

    pub(super) fn chat_totals(&self) -> Totals {
        Totals {
            prompt_tokens: self.job.prompt_tokens,
            completion_tokens: self.generation.predicted(),
            timings: self.timings(),
        }
    }

    /// The final object.
    pub(super) fn final_json(
        &self,
        stop: &Stop,
        content: &str,
        tokens: &[u32],
    ) -> Result<String, serde_json::Error> {
        let (evaluated, predicted) = (self.job.prompt_tokens, self.generation.predicted());
        let last = Final {
            index: 0,
            content,
            tokens,
            id_slot: self.lease.id(),
            stop: true,
            model: &self.engine.launch.model_name(),
            tokens_predicted: predicted,
            tokens_evaluated: evaluated,
            generation_settings: &self.job.settings,
            prompt: self.job.echo(),
            has_new_line: false,
            truncated: stop.truncated,
            stop_type: stop.kind.name(),
            stopping_word: stopping_word(stop),
            tokens_cached: (evaluated + predicted).saturating_sub(1),
            timings: self.timings(),
        };
        last.encode(&self.job.response_fields)
    }

    /// Books the end and frees the slot.
    fn end(self, ended: Ended) -> After {
        let (prompt, predicted) = self.times();
        let tokens = self.generation.predicted();
        self.engine
            .llama_cpp
            .totals
            .add((self.job.prompt_tokens, prompt), (tokens, predicted));
        let text = format_args!("stop processing: n_tokens = {tokens}, truncated = 0").to_string();
        self.engine
            .log
            .slot("release", self.lease.id(), self.entry.id(), text);
        let (end, after) = match ended {
            Ended::Answered(status) => (End::Answered(status), After::Next),
            Ended::ClientGone => (End::ClientGone, After::Close),
            Ended::Fault(kind) => (
                End::Fault(kind.name().to_owned()),
                after_fault(self.engine, &kind),
            ),
        };
        drop(self.lease);
        self.entry.end(end);
        after
    }
}

/// What becomes of the connection, and of the engine, after a fault.
pub(super) fn after_fault(engine: &Engine, kind: &FaultKind) -> After {
    match kind {
        FaultKind::Rst => After::Reset,
        FaultKind::CleanEof => After::Next,
        FaultKind::Abort => {
            engine.die(Death::Abort);
            After::Close
        }
        FaultKind::Exit(code) => {
            engine.die(Death::Exit(*code));
            After::Close
        }
        _ => After::Close,
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
