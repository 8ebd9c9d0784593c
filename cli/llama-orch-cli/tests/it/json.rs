//! `--json`: stdout is JSON and nothing else, whatever happens.

use serde_json::{Value, json};

use crate::process::{command, ended};
use crate::run::{NARRATION, started, token, whole};
use crate::server::{Server, TASK};

fn lines(text: &str) -> anyhow::Result<Vec<Value>> {
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

#[test]
fn a_stream_is_one_line_per_event() -> anyhow::Result<()> {
    let server = Server::streaming(whole())?;
    let done = ended(&mut command(server.addr, &["--json", "run", "tiny", "hi"]))?;
    assert_eq!(done.code, Some(0), "{done:?}");
    let lines = lines(&done.out)?;
    let names: Vec<&Value> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(names, ["started", "narration", "token", "token", "end"]);
    assert_eq!(
        lines[2],
        json!({"id": "0.1", "event": "token", "data": {"t": "Hello", "i": 0}})
    );
    assert_eq!(lines[1]["id"], Value::Null);
    Ok(())
}

#[test]
fn answers_are_one_document() -> anyhow::Result<()> {
    let server = Server::streaming("")?;
    let done = ended(&mut command(
        server.addr,
        &["--json", "task", "submit", "tiny", "hi"],
    ))?;
    let receipt: Value = serde_json::from_str(&done.out)?;
    assert_eq!(receipt["task_id"], TASK);
    let done = ended(&mut command(server.addr, &["task", "cancel", TASK, "--json"]))?;
    assert_eq!(
        serde_json::from_str::<Value>(&done.out)?,
        json!({"task_id": TASK})
    );
    Ok(())
}

#[test]
fn a_refusal_is_a_document_too() -> anyhow::Result<()> {
    let refused =
        "{\"code\":\"ADMISSION_REJECT\",\"message\":\"full\",\"retriable\":true,\"retry_after_ms\":1500}";
    let server = Server::answering("429 Too Many Requests\nRetry-After: 2", refused)?;
    let done = ended(&mut command(server.addr, &["--json", "run", "tiny", "hi"]))?;
    assert_eq!(done.code, Some(6), "{done:?}");
    let expected = json!({
        "error": {"code": "ADMISSION_REJECT", "message": "full", "retriable": true, "retry_after_ms": 1500, "status": 429},
        "exit_code": 6
    });
    assert_eq!(lines(&done.out)?, [expected]);
    assert!(
        done.err.starts_with("error: ADMISSION_REJECT (429): full"),
        "{}",
        done.err
    );
    Ok(())
}

#[test]
fn a_stream_that_turns_to_rubbish_ends_with_a_document() -> anyhow::Result<()> {
    let rubbish = "id: 0.2\nevent: token\ndata: rubbish\n\n";
    let server = Server::streaming([&started(), NARRATION, &token(0, "a"), rubbish].concat())?;
    let done = ended(&mut command(server.addr, &["--json", "run", "tiny", "hi"]))?;
    assert_eq!(done.code, Some(7), "{done:?}");
    let lines = lines(&done.out)?;
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[3]["error"]["code"], "PROTOCOL");
    Ok(())
}
