//! A tiny HTTP/1.1 client for tests: sends exactly the bytes it is told to and shows exactly what came
//! back. No pool, no redirects, no retries. Touches one socket per connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

mod message;

pub use message::{Answer, Call, Head};

/// How long [`call`] waits in all: far longer than any answer takes, so that a hang is an error.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// More head than any server of ours sends.
const MAX_HEAD: usize = 64 << 10;

/// What can go wrong with an exchange.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The server closed the connection before the end of what it had begun.
    #[error("the server closed the connection in the middle of {0}")]
    Cut(&'static str),
    /// Not HTTP/1.1.
    #[error("this is no HTTP: {0:?}")]
    Malformed(String),
    /// No whole answer in time.
    #[error("no whole answer within {0:?}")]
    TimedOut(Duration),
}

/// One exchange on a connection of its own.
///
/// # Errors
/// No whole answer came within 30 s.
pub async fn call(address: SocketAddr, call: &Call) -> Result<Answer, Error> {
    let exchange = async {
        let mut connection = Connection::open(address).await?;
        let closing = call.clone().header("Connection", "close");
        connection.send(&closing.bytes(&address.to_string())).await?;
        connection.answer().await
    };
    timeout(CALL_LIMIT, exchange)
        .await
        .unwrap_or(Err(Error::TimedOut(CALL_LIMIT)))
}

/// A connection under the test's control.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    inbox: BytesMut,
    framing: Framing,
}

/// What remains of the body being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    /// Bytes left in the chunk begun; 0 is before a chunk.
    Chunked(usize),
    UntilClose,
    Done,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|source| Error::Connect { address, source })?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            inbox: BytesMut::new(),
            framing: Framing::Done,
        })
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Closes the sending half.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn finish_sending(&mut self) -> Result<(), Error> {
        Ok(self.stream.shutdown().await?)
    }

    /// Resets the connection.
    ///
    /// # Errors
    /// The socket refuses.
    pub fn reset(self) -> Result<(), Error> {
        Ok(self.stream.set_zero_linger()?)
    }

    /// Ends when the server has closed the connection; gives what it sent before.
    ///
    /// # Errors
    /// The connection broke in another way.
    pub async fn read_to_close(&mut self) -> Result<Vec<u8>, Error> {
        while self.read_more().await? {}
        Ok(self.inbox.split().to_vec())
    }

    /// Reads the head of an answer, skipping interim ones (1xx).
    ///
    /// # Errors
    /// There is none.
    pub async fn head(&mut self) -> Result<Head, Error> {
        loop {
            let Some(end) = memmem::find(&self.inbox, b"\r\n\r\n") else {
                if self.inbox.len() > MAX_HEAD {
                    return Err(Error::Malformed("an endless head".to_owned()));
                }
                self.more("a head").await?;
                continue;
            };
            let head = Head::parse(&self.inbox.split_to(end))?;
            self.inbox.advance(4);
            if head.status >= 200 {
                self.framing = framing(&head)?;
                return Ok(head);
            }
        }
    }

    /// The next bytes of the body; `None` at its proper end.
    ///
    /// # Errors
    /// The body was cut off.
    pub async fn body_part(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self.framing {
            Framing::Done | Framing::Length(0) => Ok(None),
            Framing::UntilClose => self.part_until_close().await,
            Framing::Length(left) => {
                let part = self.take_up_to(left).await?;
                self.framing = Framing::Length(left - part.len());
                Ok(Some(part))
            }
            Framing::Chunked(0) => self.chunk_start().await,
            Framing::Chunked(left) => {
                let part = self.take_up_to(left).await?;
                self.framing = Framing::Chunked(left - part.len());
                if left == part.len() {
                    self.line().await?;
                }
                Ok(Some(part))
            }
        }
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    /// It is not whole.
    pub async fn answer(&mut self) -> Result<Answer, Error> {
        let head = self.head().await?;
        let mut body = Vec::new();
        while let Some(part) = self.body_part().await? {
            body.extend_from_slice(&part);
        }
        Ok(Answer {
            status: head.status,
            head,
            body,
        })
    }

    async fn part_until_close(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.inbox.is_empty() && !self.read_more().await? {
            self.framing = Framing::Done;
            return Ok(None);
        }
        Ok(Some(self.inbox.split().to_vec()))
    }

    /// Reads a chunk's size; an empty part stands for "go on".
    async fn chunk_start(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let line = self.line().await?;
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| Error::Malformed(line.clone()))?;
        if size > 0 {
            self.framing = Framing::Chunked(size);
            return Ok(Some(Vec::new()));
        }
        while !self.line().await?.is_empty() {}
        self.framing = Framing::Done;
        Ok(None)
    }

    async fn line(&mut self) -> Result<String, Error> {
        loop {
            if let Some(end) = memmem::find(&self.inbox, b"\r\n") {
                let line = self.inbox.split_to(end);
                self.inbox.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.more("a chunk").await?;
        }
    }

    async fn take_up_to(&mut self, most: usize) -> Result<Vec<u8>, Error> {
        if self.inbox.is_empty() {
            self.more("a body").await?;
        }
        Ok(self.inbox.split_to(most.min(self.inbox.len())).to_vec())
    }

    async fn more(&mut self, of: &'static str) -> Result<(), Error> {
        if self.read_more().await? {
            Ok(())
        } else {
            Err(Error::Cut(of))
        }
    }

    /// `false` when the server has closed the connection.
    async fn read_more(&mut self) -> Result<bool, Error> {
        Ok(self.stream.read_buf(&mut self.inbox).await? > 0)
    }
}

fn framing(head: &Head) -> Result<Framing, Error> {
    if matches!(head.status, 204 | 304) {
        return Ok(Framing::Done);
    }
    if head
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        return Ok(Framing::Chunked(0));
    }
    let Some(length) = head.header("content-length") else {
        return Ok(Framing::UntilClose);
    };
    length
        .parse()
        .map(Framing::Length)
        .map_err(|_| Error::Malformed(length.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_apart() {
        let head = Head::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nX: a: b").unwrap();
        assert_eq!((head.status, head.header("x")), (200, Some("a: b")));
        assert_eq!(framing(&head).unwrap(), Framing::Chunked(0));
        assert!(Head::parse(b"SSH-2.0").is_err());
    }
}
