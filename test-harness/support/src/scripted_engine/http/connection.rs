//! One client's connection: reads requests, notices that the client has gone, writes bytes as the
//! script wants them written. Touches its socket.

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::request::{Framing, Malformed, Request};

/// The real server closes a connection that has been idle for so long.
const IDLE: Duration = Duration::from_secs(5);
/// More than any client sends in a head.
const MAX_HEAD: usize = 64 << 10;
/// More than any test sends in a body, little enough for a test machine.
const MAX_BODY: usize = 256 << 20;

/// The client closed the connection, or its writing half (which the real server takes for the same).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scripted_engine) struct Gone;

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scripted_engine) enum Wake {
    Due,
    ClientGone,
}

/// How to write.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::scripted_engine) struct Fragments {
    pub(in crate::scripted_engine) bytes: Option<NonZeroUsize>,
    pub(in crate::scripted_engine) delay: Duration,
}

/// One client's connection.
pub(in crate::scripted_engine) struct Connection {
    stream: TcpStream,
    /// Bytes read and not used yet.
    inbox: BytesMut,
    pub(in crate::scripted_engine) fragments: Fragments,
}

impl Connection {
    pub(in crate::scripted_engine) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            inbox: BytesMut::new(),
            fragments: Fragments::default(),
        })
    }

    /// The next request; `None` when the client is gone, idle for too long, or not speaking HTTP.
    pub(in crate::scripted_engine) async fn next_request(&mut self) -> Option<Request> {
        let reading = timeout(IDLE, self.read_head()).await.ok()?;
        let (mut request, framing) = reading.ok()??;
        if request.expects_continue() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        }
        request.body = match framing {
            Framing::Length(length) if length > MAX_BODY => return None,
            Framing::Length(length) => self.take(length).await.ok()?.freeze(),
            Framing::Chunked => self.read_chunks().await.ok()?.freeze(),
        };
        Some(request)
    }

    async fn read_head(&mut self) -> Result<Option<(Request, Framing)>, Gone> {
        loop {
            if let Some(end) = memmem::find(&self.inbox, b"\r\n\r\n") {
                let head = self.inbox.split_to(end);
                self.inbox.advance(4);
                return Ok(Request::parse_head(&head).map_err(|Malformed| ()).ok());
            }
            if self.inbox.len() > MAX_HEAD {
                return Ok(None);
            }
            self.read_more().await?;
        }
    }

    async fn read_chunks(&mut self) -> Result<BytesMut, Gone> {
        let mut body = BytesMut::new();
        loop {
            let line = self.take_line().await?;
            let size = std::str::from_utf8(&line)
                .ok()
                .and_then(|line| usize::from_str_radix(line, 16).ok());
            let size = size.filter(|size| body.len() + size <= MAX_BODY).ok_or(Gone)?;
            body.extend_from_slice(&self.take(size).await?);
            self.take_line().await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn take_line(&mut self) -> Result<BytesMut, Gone> {
        loop {
            if let Some(end) = memmem::find(&self.inbox, b"\r\n") {
                let line = self.inbox.split_to(end);
                self.inbox.advance(2);
                return Ok(line);
            }
            self.read_more().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Result<BytesMut, Gone> {
        self.inbox.reserve(length.saturating_sub(self.inbox.len()));
        while self.inbox.len() < length {
            self.read_more().await?;
        }
        Ok(self.inbox.split_to(length))
    }

    async fn read_more(&mut self) -> Result<(), Gone> {
        match self.stream.read_buf(&mut self.inbox).await {
            Ok(0) | Err(_) => Err(Gone),
            Ok(_) => Ok(()),
        }
    }

    /// Waits for `due`, or for the client to go.
    pub(in crate::scripted_engine) async fn wait_until(&mut self, due: Instant) -> Wake {
        tokio::select! {
            biased;
            () = sleep_until(due) => Wake::Due,
            Gone = self.gone() => Wake::ClientGone,
        }
    }

    /// Ends when the client is gone. What it sends meanwhile is kept for the next request; a client
    /// that sends too much counts as gone.
    pub(in crate::scripted_engine) async fn gone(&mut self) -> Gone {
        while self.inbox.len() <= MAX_HEAD {
            if let Err(gone) = self.read_more().await {
                return gone;
            }
        }
        Gone
    }

    /// Looks without waiting whether the client is gone.
    pub(in crate::scripted_engine) fn is_gone(&mut self) -> bool {
        match self.stream.try_read_buf(&mut self.inbox) {
            Ok(0) => true,
            Ok(_) => self.inbox.len() > MAX_HEAD,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Writes everything, in fragments when the script says so.
    pub(in crate::scripted_engine) async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let Some(size) = self.fragments.bytes else {
            return self.stream.write_all(bytes).await.map_err(|_| Gone);
        };
        for fragment in bytes.chunks(size.get()) {
            self.stream.write_all(fragment).await.map_err(|_| Gone)?;
            if !self.fragments.delay.is_zero() {
                sleep(self.fragments.delay).await;
            }
        }
        Ok(())
    }

    /// Resets the connection: the client sees ECONNRESET instead of an end.
    pub(in crate::scripted_engine) fn reset(self) {
        // A socket that refuses the option is already dead, and closing it is all that remains.
        let _ = self.stream.set_zero_linger();
    }
}
