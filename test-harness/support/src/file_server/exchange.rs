//! One request and its answer, faults included.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Fault, Resource, trickle};

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// GET, HEAD.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the question mark.
    pub query: Option<String>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub(super) fn parse(head: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self {
            method,
            path: path.to_owned(),
            query,
            headers: lines.map(field).collect::<Option<_>>()?,
        })
    }

    /// A field by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// First and last byte asked for.
    fn range(&self) -> Option<(u64, Option<u64>)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    }
}

/// An answer as it will be sent.
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    head_only: bool,
    chunked: bool,
    cut: Option<(usize, bool)>,
    slow: Option<(usize, Duration)>,
    silent: bool,
}

impl Reply {
    pub(super) fn status(status: u16, headers: Vec<(String, String)>, body: &str) -> Self {
        let mut reply = Self {
            status,
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            head_only: false,
            chunked: false,
            cut: None,
            slow: None,
            silent: false,
        };
        reply.header("Content-Length", &body.len().to_string());
        reply
    }

    /// Of a path that nothing is served under.
    pub(super) fn without(faults: &[Fault]) -> Self {
        Self::early(faults).unwrap_or_else(|| Self::status(404, Vec::new(), "nothing is here"))
    }

    fn early(faults: &[Fault]) -> Option<Self> {
        faults.iter().find_map(|fault| match fault {
            Fault::Status(status, headers, body) => Some(Self::status(*status, headers.clone(), body)),
            Fault::Redirect(to) => Some(Self::status(302, vec![("Location".to_owned(), to.clone())], "")),
            _ => None,
        })
    }

    pub(super) fn of(seen: &Seen, resource: &Resource, faults: &[Fault]) -> Self {
        if let Some(early) = Self::early(faults) {
            return early;
        }
        let has = |wanted: fn(&Fault) -> bool| faults.iter().any(wanted);
        let etag = faults
            .iter()
            .find_map(|fault| match fault {
                Fault::Etag(etag) => Some(etag.clone()),
                _ => None,
            })
            .or_else(|| resource.etag.clone())
            .filter(|_| !has(|fault| matches!(fault, Fault::NoEtag)));
        let same = seen
            .header("if-range")
            .is_none_or(|wanted| Some(wanted) == etag.as_deref());
        let asked = seen
            .range()
            .filter(|_| same && !has(|fault| matches!(fault, Fault::IgnoreRange)));
        let mut body = resource.body.clone();
        for fault in faults {
            if let Fault::Flip(at) = fault
                && let Some(at) = usize::try_from(*at).ok().filter(|at| *at < body.len())
            {
                let mut bytes = body.to_vec();
                bytes[at] ^= 1;
                body = bytes.into();
            }
        }
        let mut reply = Self::ranged(asked, &body, faults);
        reply.head_only = seen.method == "HEAD";
        if let Some(etag) = etag {
            reply.header("ETag", &etag);
        }
        reply.headers.extend(resource.headers.iter().cloned());
        reply.misbehave(faults);
        reply
    }

    fn ranged(asked: Option<(u64, Option<u64>)>, whole: &Bytes, faults: &[Fault]) -> Self {
        let size = whole.len() as u64;
        let total = faults.iter().fold(size, |total, fault| match fault {
            Fault::TotalOff(by) => total.saturating_add_signed(*by),
            _ => total,
        });
        let Some((first, last)) = asked else {
            return Self::with_body(200, whole.clone());
        };
        if first >= size {
            return Self::status(
                416,
                vec![("Content-Range".to_owned(), format!("bytes */{size}"))],
                "",
            );
        }
        let last = last.unwrap_or(size - 1).min(size - 1);
        let off = faults.iter().fold(0, |off, fault| match fault {
            Fault::RangeOff(by) => *by,
            _ => off,
        });
        // Both lie inside a body in memory.
        let begin = usize::try_from(first).unwrap_or_default();
        let end = usize::try_from(last + 1).unwrap_or_default();
        let mut reply = Self::with_body(206, whole.slice(begin..end));
        reply.header(
            "Content-Range",
            &format!("bytes {}-{}/{total}", first + off, last + off),
        );
        reply
    }

    fn with_body(status: u16, body: Bytes) -> Self {
        let mut reply = Self::status(status, vec![("Accept-Ranges".to_owned(), "bytes".to_owned())], "");
        reply.headers.retain(|(name, _)| name != "Content-Length");
        reply.body = body;
        reply
    }

    fn misbehave(&mut self, faults: &[Fault]) {
        let mut length = self.body.len() as u64;
        for fault in faults {
            match fault {
                Fault::CutAfter(bytes) => self.cut = Some((narrow(*bytes), false)),
                Fault::ResetAfter(bytes) => self.cut = Some((narrow(*bytes), true)),
                Fault::LengthOff(by) => length = length.saturating_add_signed(*by),
                Fault::Chunked => self.chunked = true,
                Fault::Slow(piece, pause) => self.slow = Some((*piece, *pause)),
                Fault::Silent => self.silent = true,
                Fault::IgnoreRange
                | Fault::Etag(_)
                | Fault::NoEtag
                | Fault::TotalOff(_)
                | Fault::RangeOff(_)
                | Fault::Flip(_)
                | Fault::Status(..)
                | Fault::Redirect(_) => {}
            }
        }
        self.headers.retain(|(name, _)| name != "Content-Length");
        if self.chunked {
            self.header("Transfer-Encoding", "chunked");
        } else {
            self.header("Content-Length", &length.to_string());
        }
    }

    fn header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(super) async fn send(self, socket: &mut TcpStream) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.extend([name.as_str(), ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        socket.write_all(head.as_bytes()).await?;
        if self.silent {
            // Until the client gives up.
            let _closed = socket.read_u8().await;
            return Ok(());
        }
        if self.head_only {
            return socket.shutdown().await;
        }
        let kept = self
            .cut
            .map_or(self.body.len(), |(bytes, _)| bytes.min(self.body.len()));
        let body = self.body.slice(..kept);
        if self.chunked {
            socket
                .write_all(format!("{:x}\r\n", body.len()).as_bytes())
                .await?;
            trickle(socket, &body, self.slow).await?;
            if self.cut.is_none() {
                socket.write_all(b"\r\n0\r\n\r\n").await?;
            }
        } else {
            trickle(socket, &body, self.slow).await?;
        }
        match self.cut {
            Some((_, true)) => {
                socket.flush().await?;
                socket.set_zero_linger()
            }
            Some((_, false)) | None => socket.shutdown().await,
        }
    }
}

fn narrow(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
