//! The recorded exchanges: files, the bytes of their responses, and what a naive reader sees in them.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// Names of all recorded exchanges, sorted.
pub(crate) fn names() -> Vec<String> {
    let entries = fs::read_dir(folder()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".txt"))
        .collect();
    names.sort();
    names
}

/// The bytes that the server sent.
pub(crate) fn response(name: &str) -> Vec<u8> {
    let file = fs::read(folder().join(name)).unwrap();
    if let Some(exact) = exact_response(&file) {
        return exact;
    }
    match name {
        "92-slots-fail-on-no-slot-503.txt" => status_and_body(&file),
        // Its first part: two answers on one connection.
        "160-keepalive-headers.txt" => section(&file, 0),
        _ => panic!("{name}: no response in it"),
    }
}

/// The stream of the keep-alive recording. The tool that recorded it took the chunks apart.
pub(crate) fn keep_alive_stream() -> Vec<u8> {
    let file = fs::read(folder().join("160-keepalive-headers.txt")).unwrap();
    let section = section(&file, 1);
    let (head, body) = split(&section);
    let mut out = head.to_vec();
    out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n0\r\n\r\n");
    out
}

/// The texts of a recorded stream up to its first end, by lines and whole JSON trees.
pub(crate) fn texts(response: &[u8]) -> Vec<String> {
    let (head, body) = split(response);
    assert!(String::from_utf8_lossy(head).contains("Transfer-Encoding: chunked"));
    let body = String::from_utf8(without_chunks(body)).unwrap();
    body.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .take_while(|data| *data != "[DONE]")
        .map(|json| serde_json::from_str::<Value>(json).unwrap())
        .take_while(|frame| frame["stop"] != true && frame["error"].is_null())
        .filter_map(|frame| {
            let delta = &frame["choices"][0]["delta"]["content"];
            frame["content"].as_str().or(delta.as_str()).map(str::to_owned)
        })
        .filter(|text| !text.is_empty())
        .collect()
}

/// `### RESPONSE (exact bytes, HTTP framing included; N bytes)`, then N bytes.
fn exact_response(file: &[u8]) -> Option<Vec<u8>> {
    let heading = b"### RESPONSE (exact bytes, HTTP framing included; ";
    let at = find(file, heading)?;
    let rest = &file[at + heading.len()..];
    let line = find(rest, b"\n")?;
    let bytes = std::str::from_utf8(&rest[..line])
        .unwrap()
        .strip_suffix(" bytes)")
        .unwrap();
    let body = &rest[line + 1..];
    Some(body[..bytes.parse().unwrap()].to_vec())
}

/// A recording of status and body alone: `HTTP 503`, then the body.
fn status_and_body(file: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(file).unwrap();
    let (status, body) = text.split_once('\n').unwrap();
    let status = status.strip_prefix("HTTP ").unwrap();
    let body = body.trim_end();
    format!(
        "HTTP/1.1 {status} -\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The n-th part of a recording with several `### NOTE` lines.
fn section(file: &[u8], n: usize) -> Vec<u8> {
    let mut rest = file;
    for _ in 0..=n {
        let at = find(rest, b"### NOTE").unwrap();
        rest = &rest[at..];
        rest = &rest[find(rest, b"\n").unwrap() + 1..];
    }
    let end = find(rest, b"### NOTE").unwrap_or(rest.len());
    rest[..end].to_vec()
}

/// Head with its blank line, and body.
fn split(response: &[u8]) -> (&[u8], &[u8]) {
    response.split_at(find(response, b"\r\n\r\n").unwrap() + 4)
}

fn without_chunks(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(line) = find(body, b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        out.extend_from_slice(&body[line + 2..][..len]);
        body = &body[line + 2 + len + 2..];
        if len == 0 {
            break;
        }
    }
    out
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
