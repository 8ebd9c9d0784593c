//! Ctrl-C and closed pipes: the task ends with the command, and the command ends.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Child;

use anyhow::Context;

use crate::process::{command, interrupt, wait};
use crate::run::{end, started, token};
use crate::server::{PATIENCE, Request, Seen, Server, accept, open_stream};

/// Streams one token, then waits for the cancel, then ends the stream.
fn until_cancelled(request: &Request, stream: &mut TcpStream, seen: &Seen) -> io::Result<()> {
    if !request.line.ends_with("/stream") {
        return accept(request, stream);
    }
    open_stream(stream)?;
    stream.write_all([started(), token(0, "Hello")].concat().as_bytes())?;
    seen.wait_for("/cancel").map_err(io::Error::other)?;
    stream.write_all(end("canceled").as_bytes())
}

/// Streams tokens for as long as somebody takes them.
fn without_end(request: &Request, stream: &mut TcpStream) -> io::Result<()> {
    if !request.line.ends_with("/stream") {
        return accept(request, stream);
    }
    open_stream(stream)?;
    stream.write_all(started().as_bytes())?;
    stream.set_write_timeout(Some(PATIENCE))?;
    for index in 0.. {
        stream.write_all(token(index, &"x".repeat(4096)).as_bytes())?;
    }
    Ok(())
}

/// Never answers a cancel.
fn deaf(request: &Request, stream: &mut TcpStream) -> io::Result<()> {
    if request.line.ends_with("/cancel") {
        return stream.read_to_end(&mut Vec::new()).map(drop);
    }
    without_end(request, stream)
}

fn read_some(child: &mut Child, bytes: usize) -> anyhow::Result<String> {
    let mut text = vec![0; bytes];
    child
        .stdout
        .as_mut()
        .context("no stdout")?
        .read_exact(&mut text)?;
    Ok(String::from_utf8(text)?)
}

fn read_errors(child: &mut Child) -> anyhow::Result<String> {
    let mut text = String::new();
    child
        .stderr
        .as_mut()
        .context("no stderr")?
        .read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn ctrl_c_cancels_the_task_and_waits_for_its_end() -> anyhow::Result<()> {
    let server = Server::start(until_cancelled)?;
    let mut child = command(server.addr, &["run", "tiny", "hi"]).spawn()?;
    assert_eq!(read_some(&mut child, 5)?, "Hello");
    interrupt(&child)?;
    let status = wait(&mut child)?;
    assert_eq!(status.code(), Some(130));
    let sent: serde_json::Value = serde_json::from_str(&server.seen.wait_for("POST /v1/tasks")?.body)?;
    let task = sent["task_id"].as_str().context("no task id")?;
    server.seen.wait_for(&format!("POST /v1/tasks/{task}/cancel"))?;
    let errors = read_errors(&mut child)?;
    assert!(
        errors.contains("cancelling") && errors.contains("■ canceled"),
        "{errors}"
    );
    Ok(())
}

#[test]
fn a_second_ctrl_c_leaves_at_once_though_nobody_reads_or_answers() -> anyhow::Result<()> {
    let server = Server::start(|request, stream, _| deaf(request, stream))?;
    let mut child = command(server.addr, &["run", "tiny", "hi"]).spawn()?;
    // The pipe to this test fills up: the command hangs in a write.
    read_some(&mut child, 1)?;
    interrupt(&child)?;
    server.seen.wait_for("/cancel")?;
    interrupt(&child)?;
    assert_eq!(wait(&mut child)?.code(), Some(130));
    Ok(())
}

#[test]
fn an_unanswered_cancel_does_not_hold_up_the_exit() -> anyhow::Result<()> {
    let server = Server::start(|request, stream, _| deaf(request, stream))?;
    let mut child = command(server.addr, &["-q", "run", "tiny", "hi"]).spawn()?;
    read_some(&mut child, 1)?;
    interrupt(&child)?;
    assert_eq!(wait(&mut child)?.code(), Some(130));
    let errors = read_errors(&mut child)?;
    assert!(errors.contains("the task may go on"), "{errors}");
    Ok(())
}

#[test]
fn ctrl_c_before_the_receipt_cancels_by_the_id_that_was_sent() -> anyhow::Result<()> {
    let server = Server::start(|request, stream, seen| {
        if request.line == "POST /v1/tasks" {
            seen.wait_for("/cancel").map_err(io::Error::other)?;
        }
        accept(request, stream)
    })?;
    let mut child = command(server.addr, &["run", "tiny", "hi"]).spawn()?;
    let sent: serde_json::Value = serde_json::from_str(&server.seen.wait_for("POST /v1/tasks")?.body)?;
    interrupt(&child)?;
    assert_eq!(wait(&mut child)?.code(), Some(130));
    let task = sent["task_id"].as_str().context("no task id")?;
    server.seen.wait_for(&format!("POST /v1/tasks/{task}/cancel"))?;
    Ok(())
}

#[test]
fn a_reader_that_goes_away_ends_the_task_without_a_word() -> anyhow::Result<()> {
    let server = Server::start(|request, stream, _| without_end(request, stream))?;
    let mut child = command(server.addr, &["-q", "run", "tiny", "hi"]).spawn()?;
    read_some(&mut child, 10)?;
    drop(child.stdout.take());
    assert_eq!(wait(&mut child)?.code(), Some(0));
    server.seen.wait_for("/cancel")?;
    assert_eq!(read_errors(&mut child)?, "");
    Ok(())
}

#[test]
fn a_watcher_that_goes_away_leaves_the_task_alone() -> anyhow::Result<()> {
    let server = Server::start(|request, stream, _| without_end(request, stream))?;
    let mut child = command(server.addr, &["-q", "task", "stream", crate::server::TASK]).spawn()?;
    read_some(&mut child, 10)?;
    drop(child.stdout.take());
    assert_eq!(wait(&mut child)?.code(), Some(0));
    assert!(
        server
            .seen
            .all()
            .iter()
            .all(|request| !request.line.ends_with("/cancel"))
    );
    Ok(())
}
