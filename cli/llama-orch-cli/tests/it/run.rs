//! `run`, `task …` and the tables as a person or a script sees them.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::process::{command, ended};
use crate::server::{Server, TASK, answer};

pub(crate) fn started() -> String {
    format!(
        "id: 0.0\nevent: started\ndata: {{\"task_id\":\"{TASK}\",\"queue_position\":1,\"model_ref\":\"tiny\",\
         \"correlation_id\":\"c-1\"}}\n\n"
    )
}

pub(crate) fn token(index: u64, text: &str) -> String {
    let n = index + 1;
    format!("id: 0.{n}\nevent: token\ndata: {{\"t\":{text:?},\"i\":{index}}}\n\n")
}

pub(crate) const NARRATION: &str = "event: narration\ndata: {\"human\":\"interactive task goes to gpu0: free slot\",\
    \"actor\":\"orchestratord\",\"action\":\"placement\"}\n\n";

pub(crate) fn end(reason: &str) -> String {
    format!(
        "id: 0.9\nevent: end\ndata: {{\"finish_reason\":\"{reason}\",\"tokens_in\":3,\"tokens_out\":2,\
         \"queue_time_ms\":1,\"first_token_ms\":35,\"decode_time_ms\":5,\"decode_ms\":5,\"seed\":7,\
         \"pool_id\":\"gpu0\",\"kv_warmth\":false}}\n\n"
    )
}

pub(crate) fn whole() -> String {
    [
        started(),
        NARRATION.into(),
        token(0, "Hello"),
        token(1, ", wörld"),
        end("stop"),
    ]
    .concat()
}

#[test]
fn text_goes_to_stdout_and_the_story_to_stderr() -> anyhow::Result<()> {
    let server = Server::streaming(whole())?;
    let done = ended(&mut command(server.addr, &["run", "tiny", "hi", "--seed", "7"]))?;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.out, "Hello, wörld");
    assert!(
        done.err.contains("▸ interactive task goes to gpu0: free slot\n"),
        "{}",
        done.err
    );
    assert!(done.err.contains("✓ stop · 3 tokens in, 2 out"), "{}", done.err);
    assert!(!done.err.contains('\x1b'), "{:?}", done.err);
    let body: Value = serde_json::from_str(&server.seen.wait_for("POST /v1/tasks")?.body)?;
    assert_eq!(body["prompt"], "hi");
    assert_eq!(body["seed"], 7);
    assert!(body["task_id"].is_string(), "{body}");
    Ok(())
}

#[test]
fn quiet_leaves_the_text_alone() -> anyhow::Result<()> {
    let server = Server::streaming(whole())?;
    let done = ended(&mut command(server.addr, &["-q", "run", "tiny", "hi"]))?;
    assert_eq!((done.out.as_str(), done.err.as_str()), ("Hello, wörld", ""));
    Ok(())
}

#[test]
fn a_prompt_may_come_from_stdin() -> anyhow::Result<()> {
    let server = Server::streaming(whole())?;
    let mut child = command(server.addr, &["run", "tiny", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all("zwei\nZeilen".as_bytes()))?;
    child.wait_with_output()?;
    let body: Value = serde_json::from_str(&server.seen.wait_for("POST /v1/tasks")?.body)?;
    assert_eq!(body["prompt"], "zwei\nZeilen");
    Ok(())
}

#[test]
fn submit_prints_the_id_and_nothing_else() -> anyhow::Result<()> {
    let server = Server::streaming("")?;
    let done = ended(&mut command(
        server.addr,
        &["task", "submit", "tiny", "hi", "--priority", "batch"],
    ))?;
    assert_eq!(done.out, format!("{TASK}\n"));
    assert!(
        done.err.contains("1 ahead · starts in about 900 ms"),
        "{}",
        done.err
    );
    Ok(())
}

#[test]
fn stream_goes_on_after_an_event() -> anyhow::Result<()> {
    let server = Server::streaming([token(1, "rest"), end("length")].concat())?;
    let done = ended(&mut command(
        server.addr,
        &["task", "stream", TASK, "--last-event-id", "0.1"],
    ))?;
    assert_eq!((done.code, done.out.as_str()), (Some(0), "rest"));
    assert_eq!(server.seen.wait_for("/stream")?.last_event_id, "0.1");
    Ok(())
}

#[test]
fn a_stream_that_had_ended_before_is_no_failure() -> anyhow::Result<()> {
    let server = Server::answering("204 No Content", "")?;
    let done = ended(&mut command(
        server.addr,
        &["task", "stream", TASK, "--last-event-id", "0.9"],
    ))?;
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""));
    assert!(done.err.contains("had ended before"), "{}", done.err);
    Ok(())
}

#[test]
fn cancel_is_asked_for_once() -> anyhow::Result<()> {
    let server = Server::streaming("")?;
    let done = ended(&mut command(server.addr, &["task", "cancel", TASK]))?;
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""));
    let lines: Vec<String> = server
        .seen
        .all()
        .into_iter()
        .map(|request| request.line)
        .collect();
    assert_eq!(lines, [format!("POST /v1/tasks/{TASK}/cancel")]);
    Ok(())
}

#[test]
fn list_passes_its_filter_on_and_tells_of_more() -> anyhow::Result<()> {
    let server = Server::answering("200 OK", "{\"tasks\":[],\"next_cursor\":\"n1\"}")?;
    let done = ended(&mut command(
        server.addr,
        &["task", "list", "--state", "queued", "--limit", "2"],
    ))?;
    assert_eq!(done.out, "TASK  STATE  PRIORITY  MODEL  POOL  QUEUE  TOKENS\n");
    assert!(done.err.contains("--cursor n1"), "{}", done.err);
    assert_eq!(server.seen.wait_for("/v1/tasks")?.query, "state=queued&limit=2");
    Ok(())
}

#[test]
fn each_table_asks_its_route() -> anyhow::Result<()> {
    let server = Server::start(|request, stream, _| {
        let body = match request.line.as_str() {
            "GET /v1/pools" => "{\"pools\":[]}",
            "GET /v1/nodes" => "{\"nodes\":[]}",
            "GET /v1/capabilities" => "{\"api_version\":\"1.0.0\",\"pools\":[],\"engines\":[]}",
            "GET /v1/pools/gpu0/health" => {
                "{\"live\":true,\"ready\":true,\"draining\":false,\"generation\":1,\"metrics\":\
                 {\"slots_total\":2,\"slots_free\":1,\"active_leases\":1,\"restarts\":0}}"
            }
            _ => return answer(stream, "500 Internal Server Error", "unexpected"),
        };
        answer(stream, "200 OK", body)
    })?;
    for (line, first) in [
        (&["pools"][..], "POOL  NODE"),
        (&["nodes"], "NODE  STATE"),
        (&["capabilities"], "MODEL  POOL"),
        (
            &["pool", "health", "gpu0"],
            "pool        gpu0\nstate       ready\nslots       1 of 2 free",
        ),
    ] {
        let done = ended(&mut command(server.addr, line))?;
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.out.starts_with(first), "{line:?}: {}", done.out);
    }
    Ok(())
}

#[test]
fn the_token_is_sent_and_not_shown() -> anyhow::Result<()> {
    let server = Server::streaming(whole())?;
    let token = "correct-horse-battery-staple";
    let done = ended(command(server.addr, &["run", "tiny", "hi"]).env("AUTH_TOKEN", token))?;
    assert_eq!(done.code, Some(0), "{done:?}");
    let authorization = server.seen.wait_for("POST /v1/tasks")?.authorization;
    assert_eq!(authorization, format!("Bearer {token}"));
    assert!(!format!("{done:?}").contains(token));
    Ok(())
}
