//! The socket under a connection. When the server closes while a client is still sending, it says
//! so and then reads on for a moment: closing with unread input resets the connection, and the
//! reset can destroy the answer (a 413, a 401) before the client has read it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::sent::Sent;
use crate::body::Progress;

/// Longest reading on after our end is closed.
const LINGER: Duration = Duration::from_secs(2);
/// Most bytes thrown away after our end is closed.
const LINGER_BYTES: usize = 16 << 20;
const CHUNK_BYTES: usize = 8 << 10;

pub(crate) struct LingeringIo {
    inner: TokioIo<TcpStream>,
    progress: Arc<Progress>,
    sent: Sent,
    closing: Closing,
}

enum Closing {
    Open,
    Lingering { until: Pin<Box<Sleep>>, budget: usize },
    Done,
}

impl LingeringIo {
    pub(crate) fn new(stream: TcpStream, progress: Arc<Progress>, sent: Sent) -> Self {
        Self {
            inner: TokioIo::new(stream),
            progress,
            sent,
            closing: Closing::Open,
        }
    }

    /// A write begins, unless the connection was cut.
    #[inline]
    fn begin_write(&self) -> io::Result<()> {
        if self.sent.is_cut() {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        }
        self.sent.begin();
        Ok(())
    }
}

impl Drop for LingeringIo {
    fn drop(&mut self) {
        self.sent.close();
    }
}

impl Read for LingeringIo {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl Write for LingeringIo {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.begin_write()?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The HTTP implementation flushes when its own buffer is empty.
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.sent.flushed();
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin_write()?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.closing, Closing::Open) {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            this.closing = Closing::after_shutdown(&this.progress);
        }
        if let Closing::Lingering { until, budget } = &mut this.closing {
            if until.as_mut().poll(cx).is_pending() {
                ready!(poll_discard(this.inner.inner_mut(), budget, cx));
            }
            this.closing = Closing::Done;
        }
        Poll::Ready(Ok(()))
    }
}

impl Closing {
    fn after_shutdown(progress: &Progress) -> Self {
        if progress.unread.load(Ordering::Relaxed) {
            Self::Lingering {
                until: Box::pin(sleep(LINGER)),
                budget: LINGER_BYTES,
            }
        } else {
            Self::Done
        }
    }
}

/// Ready at the peer's end, at an error, or when the budget is used up.
fn poll_discard(stream: &mut TcpStream, budget: &mut usize, cx: &mut Context<'_>) -> Poll<()> {
    let mut chunk = [0; CHUNK_BYTES];
    while *budget > 0 {
        let mut buf = ReadBuf::new(&mut chunk);
        if ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)).is_err() || buf.filled().is_empty() {
            break;
        }
        *budget = budget.saturating_sub(buf.filled().len());
    }
    Poll::Ready(())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio_util::task::TaskTracker;

    use super::*;

    /// A client, and the server's end being closed.
    async fn closing(unread: bool) -> (TcpStream, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let progress = Arc::new(Progress::new());
        progress.unread.store(unread, Ordering::Relaxed);
        let mut io = LingeringIo::new(accepted.unwrap().0, progress, Sent::default());
        let closing = async move { poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await.unwrap() };
        (client.unwrap(), TaskTracker::new().spawn(closing))
    }

    #[tokio::test]
    async fn a_client_that_still_sends_is_read_to_its_end() {
        let (mut client, closing) = closing(true).await;
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        // Far more than the socket buffers hold: somebody must be reading, and nobody resets.
        client.write_all(&vec![b'x'; 12 << 20]).await.unwrap();
        assert!(!closing.is_finished());
        drop(client);
        closing.await.unwrap();
    }

    /// Waiting would move the paused clock.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_was_read_to_its_end_is_not_waited_for() {
        let start = tokio::time::Instant::now();
        let (_client, closing) = closing(false).await;
        closing.await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_cut_connection_writes_nothing_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let (mut client, sent) = (client.unwrap(), Sent::default());
        let mut io = LingeringIo::new(accepted.unwrap().0, Arc::new(Progress::new()), sent.clone());
        poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"before"))
            .await
            .unwrap();
        sent.cut();
        let after = poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"after")).await;
        assert_eq!(after.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(io);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"before");
    }

    #[tokio::test]
    async fn lingering_ends_at_its_budget() {
        let (mut client, closing) = closing(true).await;
        let flood = vec![b'x'; LINGER_BYTES * 2];
        // The reset that follows is the point.
        let _ = client.write_all(&flood).await;
        closing.await.unwrap();
    }
}
