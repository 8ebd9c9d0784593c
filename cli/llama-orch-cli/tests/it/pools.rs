//! `pool drain|load|unload|reload|logs` against scripted answers.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::process::{command, ended, interrupt, wait};
use crate::server::{Request, Server, answer};

const OPERATION: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

fn health(operation: &Value) -> String {
    json!({
        "live": true, "ready": true, "draining": false, "generation": 1, "last_operation": operation,
        "metrics": {"slots_total": 1, "slots_free": 1, "active_leases": 0, "restarts": 0}
    })
    .to_string()
}

fn operation(kind: &str, state: &str, phase: &str) -> Value {
    json!({"operation_id": OPERATION, "kind": kind, "state": state, "phase": phase})
}

/// Takes an operation, and tells these states of it one after the other, the last one for ever.
fn operated(states: Vec<Value>) -> io::Result<Server> {
    let asked = AtomicUsize::new(0);
    Server::start(move |request: &Request, stream: &mut TcpStream, _| {
        if let Some(path) = request.line.strip_prefix("POST ") {
            let kind = path.rsplit('/').next().unwrap_or_default();
            let accepted = json!({
                "pool_id": "p", "operation_id": OPERATION, "kind": kind, "health_url": "/v1/pools/p/health"
            });
            return answer(stream, "202 Accepted", &accepted.to_string());
        }
        let at = asked.fetch_add(1, Ordering::Relaxed).min(states.len() - 1);
        answer(stream, "200 OK", &health(&states[at]))
    })
}

#[test]
fn an_operation_is_seen_through_to_its_end() -> anyhow::Result<()> {
    let server = operated(vec![
        operation("drain", "running", "draining"),
        operation("drain", "succeeded", "steady"),
    ])?;
    let line = ["pool", "drain", "p", "--deadline", "5m"];
    let done = ended(&mut command(server.addr, &line))?;
    assert_eq!((done.code, done.out.as_str()), (Some(0), "p: drain: done\n"));
    assert!(done.err.contains("running tasks finish"), "{}", done.err);
    let asked = server.seen.wait_for("/v1/pools/p/drain")?;
    assert_eq!(
        serde_json::from_str::<Value>(&asked.body)?,
        json!({"deadline_ms": 300_000})
    );
    Ok(())
}

#[test]
fn one_that_fails_says_why_and_is_exit_1() -> anyhow::Result<()> {
    let mut failed = operation("reload", "failed", "steady");
    failed["model_ref"] = json!("file:/m/new.gguf");
    failed["reason"] = json!("no such tensor; file:/m/old.gguf is served again");
    let server = operated(vec![failed.clone()])?;
    let line = ["pool", "reload", "p", "file:/m/new.gguf", "--model-id", "new"];
    let done = ended(&mut command(server.addr, &line))?;
    assert_eq!(done.code, Some(1));
    assert_eq!(
        done.out,
        "p: reload file:/m/new.gguf: failed: no such tensor; file:/m/old.gguf is served again\n"
    );
    let asked = server.seen.wait_for("/v1/pools/p/reload")?;
    assert_eq!(
        serde_json::from_str::<Value>(&asked.body)?,
        json!({"new_model_ref": "file:/m/new.gguf", "model_id": "new"})
    );
    let line = ["--json", "pool", "reload", "p", "file:/m/new.gguf"];
    let done = ended(&mut command(server.addr, &line))?;
    assert_eq!(
        (done.code, serde_json::from_str::<Value>(&done.out)?),
        (Some(1), failed)
    );
    Ok(())
}

#[test]
fn without_waiting_only_the_id_is_printed() -> anyhow::Result<()> {
    let server = operated(vec![operation("load", "running", "loading")])?;
    let done = ended(&mut command(
        server.addr,
        &["pool", "load", "p", "tiny", "--no-wait"],
    ))?;
    assert_eq!((done.code, done.out), (Some(0), format!("{OPERATION}\n")));
    assert_eq!(server.seen.all().len(), 1);
    Ok(())
}

#[test]
fn an_operation_that_was_overtaken_is_not_taken_for_done() -> anyhow::Result<()> {
    let mut other = operation("load", "succeeded", "steady");
    other["operation_id"] = json!("0190a1b2-c3d4-7e5f-8a9b-000000000000");
    let server = operated(vec![operation("unload", "running", "stopping"), other])?;
    let done = ended(&mut command(server.addr, &["pool", "unload", "p"]))?;
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("another operation on p"), "{}", done.err);
    Ok(())
}

#[test]
fn ctrl_c_ends_the_wait_and_not_the_operation() -> anyhow::Result<()> {
    let server = operated(vec![operation("drain", "running", "draining")])?;
    let mut child = command(server.addr, &["pool", "drain", "p"]).spawn()?;
    server.seen.wait_for("/v1/pools/p/health")?;
    interrupt(&child)?;
    assert_eq!(wait(&mut child)?.code(), Some(130));
    assert!(
        server
            .seen
            .all()
            .iter()
            .filter(|seen| seen.line.starts_with("POST"))
            .count()
            == 1
    );
    Ok(())
}

#[test]
fn a_refusal_is_told_with_its_reason() -> anyhow::Result<()> {
    let body = json!({"code": "CONFLICT", "message": "operation x (drain) on the pool is not over", "retriable": false});
    let server = Server::answering("409 Conflict", body.to_string())?;
    let done = ended(&mut command(server.addr, &["pool", "unload", "p"]))?;
    assert_eq!(done.code, Some(5));
    assert!(done.err.contains("is not over"), "{}", done.err);
    Ok(())
}

#[test]
fn logs_are_shown_and_followed() -> anyhow::Result<()> {
    let server = Server::start(|request, stream, _| {
        if request.query.contains("follow=true") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")?;
            return stream.write_all(b"one\ntwo\nthr\x1bee");
        }
        let log = json!({
            "pool_id": "p", "replica_id": "r0", "generation": 3, "exit": "exit code 1", "lines": ["one", "two"]
        });
        answer(stream, "200 OK", &log.to_string())
    })?;
    let done = ended(&mut command(server.addr, &["pool", "logs", "p", "--tail", "2"]))?;
    assert_eq!((done.code, done.out.as_str()), (Some(0), "one\ntwo\n"));
    assert!(
        done.err.contains("r0, start 3, ended: exit code 1"),
        "{}",
        done.err
    );
    assert_eq!(server.seen.all()[0].query, "tail=2");
    let done = ended(&mut command(server.addr, &["pool", "logs", "p", "-f"]))?;
    assert_eq!(done.code, Some(0));
    assert!(
        done.out.starts_with("one\ntwo\nthr") && !done.out.contains('\x1b'),
        "{}",
        done.out
    );
    let done = ended(&mut command(server.addr, &["--json", "pool", "logs", "p", "-f"]))?;
    assert_eq!(done.out.lines().next(), Some("{\"line\":\"one\"}"));
    Ok(())
}
