//! `artifact put|get|list` against scripted answers.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::process::{command, ended};
use crate::server::{Server, answer};

const ID: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn info() -> Value {
    json!({
        "id": ID, "kind": "plan", "media_type": "text/plain; charset=utf-8", "bytes": 3, "tags": ["a"],
        "created_unix_ms": 1
    })
}

#[test]
fn put_sends_the_file_and_prints_the_id() -> anyhow::Result<()> {
    let server = Server::answering("201 Created", info().to_string())?;
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(b"abc")?;
    let path = file.path().to_str().unwrap();
    let line = ["artifact", "put", path, "--kind", "plan", "--tag", "a"];
    let done = ended(&mut command(server.addr, &line))?;
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), format!("{ID}\n").as_str())
    );
    assert!(done.err.contains("stored: plan of 3 B · a"), "{}", done.err);
    let sent: Value = serde_json::from_str(&server.seen.all()[0].body)?;
    let expected = json!({"kind": "plan", "content": "abc", "encoding": "utf8", "tags": ["a"]});
    assert_eq!(sent, expected);
    let done = ended(&mut command(server.addr, &["--json", "artifact", "put", path]))?;
    assert_eq!(serde_json::from_str::<Value>(&done.out)?, info());
    Ok(())
}

#[test]
fn bytes_from_stdin_travel_as_base64() -> anyhow::Result<()> {
    let server = Server::answering("200 OK", info().to_string())?;
    let mut child = command(server.addr, &["artifact", "put", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    child.stdin.take().unwrap().write_all(&[0xff, 0, 1])?;
    let output = child.wait_with_output()?;
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("was there"));
    let sent: Value = serde_json::from_str(&server.seen.all()[0].body)?;
    assert_eq!(
        (&sent["encoding"], &sent["content"]),
        (&json!("base64"), &json!("/wAB"))
    );
    Ok(())
}

#[test]
fn get_writes_the_bytes_and_nothing_else() -> anyhow::Result<()> {
    let shown = |encoding: &str, content: &str| {
        let mut artifact = info();
        artifact["encoding"] = json!(encoding);
        artifact["content"] = json!(content);
        artifact.to_string()
    };
    let server = Server::answering("200 OK", shown("base64", "/wAB"))?;
    let output = command(server.addr, &["artifact", "get", ID]).output()?;
    assert_eq!((output.status.code(), output.stdout), (Some(0), vec![0xff, 0, 1]));
    assert_eq!(server.seen.all()[0].line, format!("GET /v1/artifacts/{ID}"));
    let server = Server::answering("200 OK", shown("utf8", "abc"))?;
    let done = ended(&mut command(server.addr, &["artifact", "get", ID, "--json"]))?;
    assert_eq!(serde_json::from_str::<Value>(&done.out)?["content"], "abc");
    let server = Server::answering("200 OK", "rubbish")?;
    assert_eq!(
        ended(&mut command(server.addr, &["artifact", "get", ID]))?.code,
        Some(7)
    );
    Ok(())
}

#[test]
fn list_sends_its_filters_and_tells_of_more() -> anyhow::Result<()> {
    let page = json!({"artifacts": [info()], "next_cursor": "17"});
    let server = Server::start(move |_, stream, _| answer(stream, "200 OK", &page.to_string()))?;
    let line = [
        "artifact", "list", "--tag", "task:1", "--kind", "trace", "--limit", "1", "--cursor", "9",
    ];
    let done = ended(&mut command(server.addr, &line))?;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.out.contains(ID) && done.err.contains("more: --cursor 17"),
        "{done:?}"
    );
    assert_eq!(
        server.seen.all()[0].query,
        "tag=task%3A1&kind=trace&cursor=9&limit=1"
    );
    Ok(())
}

#[test]
fn a_file_that_is_not_there_is_named() -> anyhow::Result<()> {
    let server = Server::answering("201 Created", info().to_string())?;
    let done = ended(&mut command(server.addr, &["artifact", "put", "/nonesuch/file"]))?;
    assert_eq!(done.code, Some(8), "{done:?}");
    assert!(done.err.contains("/nonesuch/file"), "{}", done.err);
    let empty = tempfile::NamedTempFile::new()?;
    let done = ended(&mut command(
        server.addr,
        &["artifact", "put", empty.path().to_str().unwrap()],
    ))?;
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.err.contains("content: must not be empty"), "{}", done.err);
    Ok(())
}
