//! The listening socket. Bound before anything expensive, with the options every accepted socket
//! inherits.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::throttle::Throttle;

/// Length of the kernel's queue of connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// Send buffer of a connection, bytes (the kernel doubles it). Bounded so that a slow reader pushes
/// back after a few hundred frames instead of the several MiB that autotuning allows.
const SEND_BUFFER_BYTES: u32 = 64 * 1_024;
/// A peer that acknowledges nothing for this long is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// A silent peer is asked after this long, then twice more at the interval.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// Pause after a failed accept: without free file descriptors it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a daemon cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}{}", hint(source))]
pub struct BindError {
    /// Where.
    pub addr: SocketAddr,
    /// Why.
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program listens there)",
        io::ErrorKind::AddrNotAvailable => " (no such address on this host)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege)",
        _ => "",
    }
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    addr: SocketAddr,
    failures: Throttle,
}

impl Listener {
    /// Binds and listens; from within a tokio runtime. Port 0 takes a free one.
    ///
    /// # Errors
    /// [`BindError`] with the address.
    pub fn bind(addr: SocketAddr) -> Result<Self, BindError> {
        let bound = listen(addr).and_then(|inner| Ok((inner.local_addr()?, inner)));
        let (addr, inner) = bound.map_err(|source| BindError { addr, source })?;
        Ok(Self {
            inner,
            addr,
            failures: Throttle::new(),
        })
    }

    /// The bound address, with the real port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next connection. Failures are waited out: a listener never stops because of them.
    pub(crate) async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.inner.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if concerns_one_peer(&error) => {}
                Err(error) => self.wait_out(&error).await,
            }
        }
    }

    async fn wait_out(&self, error: &io::Error) {
        if let Some(more) = self.failures.allow() {
            tracing::error!(%error, more, addr = %self.addr, "cannot accept connections");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restarted daemon gets its port back although old connections still linger.
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_keepalive(true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(&socket, UNACKNOWLEDGED.as_millis() as u32)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_sockets_inherit_the_options() {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (_client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()), listener.accept());
        let socket = accepted.0;
        assert!(sockopt::tcp_nodelay(&socket).unwrap());
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), KEEPALIVE_IDLE);
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 30_000);
        let send_buffer = sockopt::socket_send_buffer_size(&socket).unwrap();
        assert_eq!(send_buffer, 2 * SEND_BUFFER_BYTES as usize);
    }

    #[test]
    fn only_faults_of_the_process_are_waited_out() {
        let of = |errno: rustix::io::Errno| concerns_one_peer(&io::Error::from(errno));
        assert!(of(rustix::io::Errno::CONNABORTED));
        assert!(
            !of(rustix::io::Errno::MFILE) && !of(rustix::io::Errno::NFILE) && !of(rustix::io::Errno::NOMEM)
        );
    }
}
