//! `task …`: submit without waiting, follow, cancel, show, explain, list.

use api_types::{TaskId, TaskQuery};
use orchestrator_core::policy::{DecisionRecord, Replay};
use serde_json::json;

use super::{Session, follow, run};
use crate::args::{TaskArgs, TaskCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render::{decision, events, tasks};

pub(super) async fn perform(session: &Session<'_>, command: &TaskCommand) -> Result<Exit, Failure> {
    match command {
        TaskCommand::Submit(task) => submit(session, task).await?,
        TaskCommand::Stream { task, last_event_id } => {
            return follow::follow(
                session,
                *task,
                last_event_id.clone(),
                None,
                &mut Interrupts::listen()?,
            )
            .await;
        }
        TaskCommand::Cancel { task } => cancel(session, *task).await?,
        TaskCommand::Show { task } => show(session, *task).await?,
        TaskCommand::Explain { task } => {
            let record = session.client.decision(*task).await?;
            return explain(session, &record).await;
        }
        TaskCommand::Preview(task) => {
            let record = session.client.explain(&run::request(task)?).await?;
            return explain(session, &record).await;
        }
        TaskCommand::List { state, limit, cursor } => {
            let query = TaskQuery {
                state: *state,
                cursor: cursor.clone(),
                limit: *limit,
            };
            list(session, &query).await?;
        }
    }
    Ok(Exit::Success)
}

/// Only the id is data: a script can take it as it is.
async fn submit(session: &Session<'_>, task: &TaskArgs) -> Result<(), Failure> {
    let submitted = session.client.submit(&run::request(task)?).await?;
    let receipt = &submitted.receipt;
    if session.console.json() {
        session.console.document(receipt).await?;
    } else {
        session
            .console
            .out(format!("{}\n", receipt.task_id).into_bytes())
            .await?;
    }
    session.console.note(&tasks::receipt(receipt));
    if let Some(line) = events::budgets(&submitted.budgets) {
        session.console.note(&line);
    }
    Ok(())
}

async fn cancel(session: &Session<'_>, task: TaskId) -> Result<(), Failure> {
    session.client.cancel(task).await?;
    session
        .console
        .note("the task is cancelled, unless it had ended before");
    if session.console.json() {
        session.console.document(&json!({ "task_id": task })).await?;
    }
    Ok(())
}

async fn show(session: &Session<'_>, task: TaskId) -> Result<(), Failure> {
    let status = session.client.task(task).await?;
    session.show(&status, |_| tasks::show(&status)).await
}

/// Decides again on what the daemon says it decided on.
async fn explain(session: &Session<'_>, record: &DecisionRecord) -> Result<Exit, Failure> {
    let replay = record.replay();
    let document = decision::document(record, &replay);
    session
        .show(&document, |look| decision::show(record, &replay, look))
        .await?;
    Ok(match replay {
        Replay::Agrees => Exit::Success,
        Replay::Differs(_) | Replay::OtherRules { .. } | Replay::OtherInput | Replay::NoInput => {
            Exit::Unconfirmed
        }
    })
}

async fn list(session: &Session<'_>, query: &TaskQuery) -> Result<(), Failure> {
    let list = session.client.tasks(query).await?;
    session.show(&list, |look| tasks::list(&list, look)).await?;
    if let Some(cursor) = &list.next_cursor {
        session.console.note(&format!("more: --cursor {cursor}"));
    }
    Ok(())
}
