//! Following a stream: events to text, Ctrl-C to a cancel, the last event to an exit.

use std::pin::pin;
use std::time::Duration;

use api_types::{FinishReason, TaskEvent, TaskId};
use futures_util::StreamExt;
use llama_orch_client::{ClientError, StreamItem};
use tokio::time::timeout;

use super::Session;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render::events::{Piece, View};

/// Most events that are shown with one write. Bounds the memory of a stream that comes faster than it is shown.
const BATCH: usize = 256;

/// How long a cancel may take, and then how long its last event. A person has pressed Ctrl-C and waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// Follows a task to its end; `inputs` are the texts it was given, where it ranks them. Ctrl-C cancels it; the next one leaves at once.
pub(super) async fn follow(
    session: &Session<'_>,
    task: TaskId,
    last_event_id: Option<String>,
    inputs: Option<Vec<String>>,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let view = View::new(session.console.json()).with_inputs(inputs.unwrap_or_default());
    let mut showing = pin!(show(session, task, last_event_id, view));
    tokio::select! {
        biased;
        () = interrupts.next() => {}
        exit = &mut showing => return exit,
    }
    session.console.note("cancelling; Ctrl-C again leaves at once");
    let end = async {
        if cancel(session, task).await == Canceled::Acknowledged {
            // The exit is Ctrl-C's, however the task ended.
            let _last_event_or_late = timeout(PATIENCE, &mut showing).await;
        }
    };
    tokio::select! {
        biased;
        () = interrupts.next() => {}
        () = end => {}
    }
    Ok(Exit::Interrupted)
}

/// What came of a cancel that is the command's last act.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Canceled {
    /// No more text will come; the last event will.
    Acknowledged,
    /// Nobody knows; the person has been told.
    Unknown,
}

/// Cancels a task as this command's last act: a failure is told, and nothing follows from it.
pub(super) async fn cancel(session: &Session<'_>, task: TaskId) -> Canceled {
    let problem = match timeout(PATIENCE, session.client.cancel(task)).await {
        Ok(Ok(())) => return Canceled::Acknowledged,
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "no answer".to_owned(),
    };
    session
        .console
        .error(&format!("the task may go on, cancel failed: {problem}\n"));
    Canceled::Unknown
}

async fn show(
    session: &Session<'_>,
    task: TaskId,
    last_event_id: Option<String>,
    mut view: View,
) -> Result<Exit, Failure> {
    let stream = session.client.stream(task, last_event_id);
    let mut batches = pin!(stream.ready_chunks(BATCH));
    while let Some(batch) = batches.next().await {
        if let Some(exit) = show_batch(session, &mut view, batch).await? {
            session.console.end_line();
            return Ok(exit);
        }
    }
    session.console.note("nothing more: the task had ended before");
    Ok(Exit::Success)
}

async fn show_batch(
    session: &Session<'_>,
    view: &mut View,
    batch: Vec<Result<StreamItem, ClientError>>,
) -> Result<Option<Exit>, Failure> {
    let mut last = None;
    let mut failure = None;
    for item in batch {
        match item {
            Ok(item) => {
                last = exit_of(&item.event);
                view.take(item);
            }
            Err(error) => failure = Some(error),
        }
    }
    write(session.console, view.pieces()).await?;
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(last),
    }
}

async fn write(console: &Console, pieces: Vec<Piece>) -> Result<(), Failure> {
    for piece in pieces {
        match piece {
            Piece::Data(bytes) => console.out(bytes).await?,
            Piece::Aside(text) => console.aside(&text),
            Piece::Note(line) => console.note(&line),
            Piece::Status(line) => console.status(&line),
            Piece::Error(text) => console.error(&text),
        }
    }
    Ok(())
}

/// The exit of a terminal event.
fn exit_of(event: &TaskEvent) -> Option<Exit> {
    match event {
        TaskEvent::End(end) => Some(match end.finish_reason {
            FinishReason::Stop | FinishReason::Length => Exit::Success,
            FinishReason::Canceled | FinishReason::Deadline => Exit::TaskFailed,
        }),
        TaskEvent::Error(_) => Some(Exit::TaskFailed),
        TaskEvent::Started(_)
        | TaskEvent::Token(_)
        | TaskEvent::Metrics(_)
        | TaskEvent::Narration(_)
        | TaskEvent::Resync(_) => None,
    }
}
