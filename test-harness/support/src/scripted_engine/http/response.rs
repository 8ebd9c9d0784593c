//! Responses, byte for byte in the order and spelling of the real server (cpp-httplib). Pure encoding.

use std::io::Write as _;

use bytes::{BufMut as _, BytesMut};

/// A whole response.
#[derive(Debug)]
pub(in crate::scripted_engine) struct Response {
    pub(in crate::scripted_engine) status: u16,
    pub(in crate::scripted_engine) body: Body,
    /// Lines that belong to this response alone, each with its line end.
    pub(in crate::scripted_engine) extra_lines: String,
    /// The request's `Origin`, which the real server echoes.
    pub(in crate::scripted_engine) origin: String,
}

/// What a response carries.
#[derive(Debug)]
pub(in crate::scripted_engine) enum Body {
    Json(String),
    /// Prometheus text.
    Metrics(String),
    Empty,
}

/// Whether the connection stays open after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scripted_engine) enum KeepAlive {
    Yes,
    No,
}

impl KeepAlive {
    fn line(self) -> &'static str {
        match self {
            Self::Yes => "Keep-Alive: timeout=5, max=100",
            Self::No => "Connection: close",
        }
    }
}

impl Response {
    pub(in crate::scripted_engine) fn json(status: u16, body: String) -> Self {
        Self {
            status,
            body: Body::Json(body),
            extra_lines: String::new(),
            origin: String::new(),
        }
    }

    /// Appends the response; without its body for a HEAD request.
    pub(in crate::scripted_engine) fn encode(&self, out: &mut BytesMut, keep: KeepAlive, head_only: bool) {
        let (content_type, body) = match &self.body {
            Body::Json(text) => ("application/json; charset=utf-8", text.as_str()),
            Body::Metrics(text) => ("text/plain; version=0.0.4", text.as_str()),
            Body::Empty => ("text/html", ""),
        };
        status_lines(out, self.status, &self.origin);
        put(
            out,
            format_args!(
                "{}Content-Type: {content_type}\r\nContent-Length: {}\r\n{}\r\n\r\n",
                self.extra_lines,
                body.len(),
                keep.line()
            ),
        );
        if !head_only {
            out.put_slice(body.as_bytes());
        }
    }
}

/// Appends the head of a streamed response.
pub(in crate::scripted_engine) fn stream_head(out: &mut BytesMut, origin: &str, keep: KeepAlive) {
    status_lines(out, 200, origin);
    put(
        out,
        format_args!(
            "X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{}\r\n\r\n",
            keep.line()
        ),
    );
}

/// Appends `data` as one HTTP chunk.
pub(in crate::scripted_engine) fn chunk(out: &mut BytesMut, data: &[u8]) {
    put(out, format_args!("{:x}\r\n", data.len()));
    out.put_slice(data);
    out.put_slice(b"\r\n");
}

/// Appends the end of a chunked body.
pub(in crate::scripted_engine) fn last_chunk(out: &mut BytesMut) {
    out.put_slice(b"0\r\n\r\n");
}

fn status_lines(out: &mut BytesMut, status: u16, origin: &str) {
    let reason = reason(status);
    put(
        out,
        format_args!(
            "HTTP/1.1 {status} {reason}\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: {origin}\r\n"
        ),
    );
}

/// A `BytesMut` grows instead of failing.
fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    let _ = out.writer().write_fmt(text);
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_the_real_servers_bytes() {
        let mut out = BytesMut::new();
        Response::json(200, r#"{"status":"ok"}"#.to_owned()).encode(&mut out, KeepAlive::No, false);
        let expected = "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n\
            Content-Type: application/json; charset=utf-8\r\nContent-Length: 15\r\nConnection: close\r\n\r\n\
            {\"status\":\"ok\"}";
        assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn chunks_have_a_bare_hexadecimal_size() {
        let mut out = BytesMut::new();
        chunk(&mut out, b":\n\n");
        last_chunk(&mut out);
        assert_eq!(&out[..], b"3\r\n:\n\n\r\n0\r\n\r\n");
    }
}
