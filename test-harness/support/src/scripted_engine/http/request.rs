//! Requests, as read from the wire. Pure parsing.

use bytes::Bytes;

/// One request.
#[derive(Clone, Debug, Default)]
pub(in crate::scripted_engine) struct Request {
    pub(in crate::scripted_engine) method: String,
    /// Path and query as sent.
    pub(in crate::scripted_engine) target: String,
    /// Names in lower case, in the order sent.
    pub(in crate::scripted_engine) headers: Vec<(String, String)>,
    pub(in crate::scripted_engine) body: Bytes,
    http10: bool,
}

/// How the body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
}

/// The head is not HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Request {
    /// Reads the head (without its empty line).
    pub(super) fn parse_head(head: &[u8]) -> Result<(Self, Framing), Malformed> {
        let text = std::str::from_utf8(head).map_err(|_| Malformed)?;
        let mut lines = text.split("\r\n");
        let mut first = lines.next().ok_or(Malformed)?.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (first.next(), first.next(), first.next(), first.next())
        else {
            return Err(Malformed);
        };
        let headers = lines.map(field).collect::<Result<_, _>>()?;
        let request = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
            body: Bytes::new(),
            http10: match version {
                "HTTP/1.1" => false,
                "HTTP/1.0" => true,
                _ => return Err(Malformed),
            },
        };
        let framing = request.framing()?;
        Ok((request, framing))
    }

    /// The field of this (lower-case) name.
    pub(in crate::scripted_engine) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    pub(in crate::scripted_engine) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or(&self.target)
    }

    /// The value of a query parameter.
    pub(in crate::scripted_engine) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Whether the client wants to use the connection again. The real server keeps an HTTP/1.0
    /// connection too.
    pub(in crate::scripted_engine) fn wants_keep_alive(&self) -> bool {
        !self
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Whether the client waits for leave to send the body.
    pub(super) fn expects_continue(&self) -> bool {
        let expect = self.header("expect");
        !self.http10 && expect.is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }

    fn framing(&self) -> Result<Framing, Malformed> {
        if self
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            return Ok(Framing::Chunked);
        }
        let length = self.header("content-length").map_or(Ok(0), str::parse);
        length.map(Framing::Length).map_err(|_| Malformed)
    }
}

fn field(line: &str) -> Result<(String, String), Malformed> {
    let (name, value) = line.split_once(':').ok_or(Malformed)?;
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let head =
            b"POST /slots?fail_on_no_slot=1&x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: Close";
        let (request, framing) = Request::parse_head(head).unwrap();
        assert_eq!(
            (request.path(), request.query("fail_on_no_slot")),
            ("/slots", Some("1"))
        );
        assert_eq!((framing, request.wants_keep_alive()), (Framing::Length(5), false));
    }

    #[test]
    fn refuses_what_is_not_http() {
        for junk in [
            "",
            "GET /",
            "GET / HTTP/2",
            "GET / HTTP/1.1\r\nno colon",
            "GET / HTTP/1.1\r\nContent-Length: x",
        ] {
            assert_eq!(
                Request::parse_head(junk.as_bytes()).unwrap_err(),
                Malformed,
                "{junk:?}"
            );
        }
    }
}
