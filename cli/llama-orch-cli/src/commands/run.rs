//! `run`, `embed`, `rerank`: submit, then follow to the end. The task belongs to this command: what ends the command ends the task.

use std::io::{self, Read};

use api_types::{Limits, TaskId, TaskRequest};
use uuid::Uuid;

use super::Session;
use super::follow;
use crate::args::{EmbedArgs, RerankArgs, TaskArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render::events;

pub(super) async fn run(session: &Session<'_>, task: &TaskArgs) -> Result<Exit, Failure> {
    perform(session, request(task)?).await
}

pub(super) async fn embed(session: &Session<'_>, args: &EmbedArgs) -> Result<Exit, Failure> {
    let inputs = texts(&args.texts)?;
    perform(
        session,
        args.request(args.common.task_id.unwrap_or_else(new_id), inputs)?,
    )
    .await
}

pub(super) async fn rerank(session: &Session<'_>, args: &RerankArgs) -> Result<Exit, Failure> {
    let inputs = texts(&args.documents)?;
    perform(
        session,
        args.request(args.common.task_id.unwrap_or_else(new_id), inputs)?,
    )
    .await
}

async fn perform(session: &Session<'_>, request: TaskRequest) -> Result<Exit, Failure> {
    let task_id = request.task_id.unwrap_or_else(new_id);
    let mut interrupts = Interrupts::listen()?;
    let submitted = tokio::select! {
        biased;
        () = interrupts.next() => return leave(session, task_id, &mut interrupts).await,
        submitted = session.client.submit(&request) => submitted?,
    };
    if let Some(line) = events::budgets(&submitted.budgets) {
        session.console.note(&line);
    }
    let followed = follow::follow(session, task_id, None, request.inputs, &mut interrupts).await;
    if let Err(Failure::OutputClosed) = followed {
        follow::cancel(session, task_id).await;
    }
    followed
}

/// Ctrl-C before the receipt: the request may have been acted upon.
async fn leave(session: &Session<'_>, task_id: TaskId, interrupts: &mut Interrupts) -> Result<Exit, Failure> {
    tokio::select! {
        biased;
        () = interrupts.next() => {}
        _ = follow::cancel(session, task_id) => {}
    }
    Ok(Exit::Interrupted)
}

/// The request that the arguments make. The id is chosen here, so that the task can be named before its receipt has
/// come.
pub(super) fn request(task: &TaskArgs) -> Result<TaskRequest, Failure> {
    let prompt = match task.prompt.as_str() {
        "-" => read_prompt(&mut io::stdin().lock())?,
        text => text.to_owned(),
    };
    Ok(task.request(task.task_id.unwrap_or_else(new_id), prompt)?)
}

/// The texts of the command line, or those of stdin in place of a single `-`: one a line, empty lines left out.
fn texts(given: &[String]) -> Result<Vec<String>, Failure> {
    match given {
        [dash] if dash == "-" => Ok(lines(&read_prompt(&mut io::stdin().lock())?)),
        given => Ok(given.to_vec()),
    }
}

fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

fn new_id() -> TaskId {
    TaskId::new(Uuid::now_v7())
}

/// Reads at most one byte more than a prompt may have; the check of the request names the limit.
fn read_prompt(input: &mut impl Read) -> Result<String, Failure> {
    let most = Limits::CONTRACT.prompt_bytes as u64 + 1;
    let mut prompt = Vec::new();
    let read = input.take(most).read_to_end(&mut prompt);
    read.map_err(|e| Failure::io("reading the prompt from stdin", e))?;
    let cut_short = prompt.len() as u64 == most;
    match String::from_utf8(prompt) {
        Ok(prompt) => Ok(prompt),
        // The limit may fall into the middle of a character; then the length is what is wrong.
        Err(error) if cut_short => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Err(error) => Err(Failure::io(
            "reading the prompt from stdin",
            io::Error::other(error.utf8_error()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_read_whole_or_refused() {
        assert_eq!(read_prompt(&mut "häh\n".as_bytes()).unwrap(), "häh\n");
        assert!(matches!(read_prompt(&mut &b"\xff"[..]), Err(Failure::Io { .. })));
    }

    #[test]
    fn every_line_of_stdin_is_a_text() {
        assert_eq!(lines("one\r\n\ntwo words\nlast"), ["one", "two words", "last"]);
    }

    #[test]
    fn an_endless_prompt_is_cut_just_beyond_the_limit() {
        let prompt = read_prompt(&mut io::repeat(0xc3)).unwrap();
        assert!(prompt.len() > Limits::CONTRACT.prompt_bytes);
    }
}
