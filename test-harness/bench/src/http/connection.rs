//! One connection to a server: a request, its response, the next request. Touches its socket and the clock.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::chunked::Dechunker;
use super::head::{Framing, Head};
use crate::clock;

/// Room for one read: what a relay writes at a wake-up, many times over.
const READ: usize = 64 << 10;

/// A connection that is kept open from request to request.
#[derive(Debug)]
pub(crate) struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    inbox: BytesMut,
    body: Body,
    received_ns: u64,
    closes: bool,
}

#[derive(Debug)]
enum Body {
    Length(usize),
    Chunked(Dechunker),
}

/// A piece of a response body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// When its last byte was received: the monotonic clock, ns.
    pub(crate) received_ns: u64,
    /// The body ends with it.
    pub(crate) is_last: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The server does not accept.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            address,
            stream,
            inbox: BytesMut::new(),
            body: Body::Length(0),
            received_ns: 0,
            closes: false,
        })
    }

    /// Whether the server keeps the connection open.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.closes
    }

    /// Sends a GET and reads the head of the answer.
    ///
    /// # Errors
    /// The exchange fails.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Head> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n",
            self.address
        );
        self.exchange(request.as_bytes()).await
    }

    /// Sends a POST of JSON and reads the head of the answer.
    ///
    /// # Errors
    /// The exchange fails.
    pub(crate) async fn post(&mut self, path: &str, body: &[u8]) -> Result<Head> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.exchange(&[head.as_bytes(), body].concat()).await
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Head> {
        self.stream
            .write_all(request)
            .await
            .context("sending a request")?;
        let end = loop {
            if let Some(end) = memmem::find(&self.inbox, b"\r\n\r\n") {
                break end;
            }
            self.read().await?;
        };
        let head = Head::parse(&self.inbox[..end])?;
        self.inbox.advance(end + 4);
        self.closes = head.closes;
        self.body = match head.framing {
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Dechunker::default()),
        };
        Ok(head)
    }

    /// Appends what is there of the body to `out`; waits if nothing is.
    ///
    /// # Errors
    /// The connection is cut, or the body is malformed.
    pub(crate) async fn part(&mut self, out: &mut Vec<u8>) -> Result<Part> {
        if self.inbox.is_empty() && !self.body.is_done() {
            self.read().await?;
        }
        let used = self.body.take(&self.inbox, out)?;
        self.inbox.advance(used);
        Ok(Part {
            received_ns: self.received_ns,
            is_last: self.body.is_done(),
        })
    }

    /// The whole body of an answer with this status.
    ///
    /// # Errors
    /// Another status, with what the server said.
    pub(crate) async fn whole(&mut self, head: &Head, status: u16) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while !self.part(&mut body).await?.is_last {}
        ensure!(
            head.status == status,
            "answer {}: {}",
            head.status,
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }

    async fn read(&mut self) -> Result<()> {
        self.inbox.reserve(READ);
        let length = self
            .stream
            .read_buf(&mut self.inbox)
            .await
            .context("reading an answer")?;
        self.received_ns = clock::now_ns();
        if length == 0 {
            bail!("the connection was closed in the middle of an answer");
        }
        Ok(())
    }
}

impl Body {
    fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        match self {
            Self::Chunked(decoder) => decoder.push(input, out),
            Self::Length(left) => {
                let taken = input.len().min(*left);
                out.extend_from_slice(&input[..taken]);
                *left -= taken;
                Ok(taken)
            }
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Chunked(decoder) => decoder.is_done(),
            Self::Length(left) => *left == 0,
        }
    }
}
