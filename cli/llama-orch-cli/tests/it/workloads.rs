//! `embed`, `rerank` and chats that reason, as a person or a script sees them (ORCH-3527).

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::process::{command, ended};
use crate::run::{end, started, token};
use crate::server::Server;

/// A stream without tokens whose end has this result.
fn with_result(result: &str) -> String {
    let end = end("stop").replace(
        "\"kv_warmth\":false",
        &format!("\"kv_warmth\":false,\"result\":{result}"),
    );
    started() + &end
}

const VECTORS: &str = r#"{"type":"embedding","dimensions":2,"embeddings":[[0.5,-1.0],[0.25,2.0]]}"#;
const SCORES: &str = r#"{"type":"rerank","scores":[{"index":1,"score":0.75},{"index":0,"score":-2.5}]}"#;

fn sent(server: &Server) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(
        &server.seen.wait_for("POST /v1/tasks")?.body,
    )?)
}

#[test]
fn embed_prints_a_line_of_json_a_text() -> anyhow::Result<()> {
    let server = Server::streaming(with_result(VECTORS))?;
    let done = ended(&mut command(server.addr, &["embed", "tiny", "the moon", "a"]))?;
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), "[0.5,-1.0]\n[0.25,2.0]\n"),
        "{done:?}"
    );
    assert!(done.err.contains("✓ stop"), "{}", done.err);
    let body = sent(&server)?;
    assert_eq!(
        (&body["workload"], &body["inputs"]),
        (&json!("embedding"), &json!(["the moon", "a"]))
    );
    Ok(())
}

#[test]
fn rerank_prints_score_place_and_document() -> anyhow::Result<()> {
    let server = Server::streaming(with_result(SCORES))?;
    let line = ["rerank", "tiny", "--query", "what shines?", "bread", "the moon"];
    let done = ended(&mut command(server.addr, &line))?;
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), "0.75\t1\tthe moon\n-2.5\t0\tbread\n"),
        "{done:?}"
    );
    let body = sent(&server)?;
    assert_eq!(
        (&body["query"], &body["inputs"]),
        (&json!("what shines?"), &json!(["bread", "the moon"]))
    );
    Ok(())
}

#[test]
fn json_is_one_line_per_event_and_holds_the_result() -> anyhow::Result<()> {
    let server = Server::streaming(with_result(VECTORS))?;
    let done = ended(&mut command(server.addr, &["embed", "tiny", "a", "b", "--json"]))?;
    let lines: Vec<Value> = done
        .out
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), 2, "{}", done.out);
    assert_eq!(
        lines[1]["data"]["result"],
        serde_json::from_str::<Value>(VECTORS)?
    );
    Ok(())
}

#[test]
fn a_dash_reads_one_text_a_line() -> anyhow::Result<()> {
    let server = Server::streaming(with_result(VECTORS))?;
    let mut child = command(server.addr, &["embed", "tiny", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"the moon\n\na\n")?;
    }
    assert_eq!(sent(&server)?["inputs"], json!(["the moon", "a"]));
    assert!(crate::process::wait(&mut child)?.success());
    Ok(())
}

#[test]
fn what_a_model_thinks_is_no_answer() -> anyhow::Result<()> {
    let thought = token(0, "hm").replace("\"i\":0", "\"i\":0,\"kind\":\"reasoning\"");
    let server = Server::streaming([started(), thought, token(1, "42"), end("stop")].concat())?;
    let line = ["run", "tiny", "hi", "--chat", "--system", "be brief"];
    let done = ended(&mut command(server.addr, &line))?;
    assert_eq!((done.code, done.out.as_str()), (Some(0), "42"), "{done:?}");
    assert!(done.err.contains("hm\n"), "{:?}", done.err);
    let body = sent(&server)?;
    assert_eq!(
        body["messages"][0],
        json!({"role": "system", "content": "be brief"})
    );
    let quiet = ended(&mut command(server.addr, &["run", "tiny", "hi", "--chat", "-q"]))?;
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("42", ""), "{quiet:?}");
    Ok(())
}
