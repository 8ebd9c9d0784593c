//! What lies between two programs of a test: an address that is not loopback, and a gate that can be closed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Any address of another network. Nothing is ever sent there.
const ELSEWHERE: &str = "203.0.113.1:9";

/// Most bytes that a gate reads at once to rename a host in them.
const HEAD_BYTES: usize = 64 << 10;

/// Where a second box of a test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address on this machine.
    pub ip: IpAddr,
    /// Whether daemons take it for another host's by themselves.
    pub beyond_loopback: bool,
}

/// An address of this machine beyond loopback, where it has one; else another loopback address.
pub fn another_place() -> Place {
    match outward_address() {
        Some(ip) => Place {
            ip,
            beyond_loopback: true,
        },
        None => Place {
            ip: Ipv4Addr::new(127, 0, 0, 2).into(),
            beyond_loopback: false,
        },
    }
}

/// The address from which this machine would speak to another network. Connecting a datagram socket chooses it and
/// sends nothing.
fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(ELSEWHERE).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// A port that leads to a program while the gate is open. Closing it cuts every connection that goes through, and lets
/// none in until it is opened again. Dropping it closes it.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    leads_to: watch::Sender<Option<SocketAddr>>,
    _connections: JoinSet<()>,
}

impl Gate {
    /// A closed gate.
    ///
    /// # Errors
    /// There is no port.
    pub async fn closed() -> io::Result<Self> {
        Self::new(None).await
    }

    /// A closed gate whose requests will name another `Host`, as behind a proxy that was not told better. A head must come
    /// in one piece.
    ///
    /// # Errors
    /// There is no port.
    pub async fn renaming(host: &str) -> io::Result<Self> {
        Self::new(Some(host.to_owned())).await
    }

    async fn new(host: Option<String>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (leads_to, watched) = watch::channel(None);
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, host, watched));
        Ok(Self {
            address,
            leads_to,
            _connections: connections,
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets everything in to a program.
    pub fn open_to(&self, target: SocketAddr) {
        self.leads_to.send_replace(Some(target));
    }

    /// Cuts what goes through, and lets nothing in.
    pub fn close(&self) {
        self.leads_to.send_replace(None);
    }
}

async fn accept(listener: TcpListener, host: Option<String>, leads_to: watch::Receiver<Option<SocketAddr>>) {
    let mut connections = JoinSet::new();
    while let Ok((outer, _)) = listener.accept().await {
        let target = *leads_to.borrow();
        if let Some(target) = target {
            connections.spawn(forward(outer, target, host.clone(), leads_to.clone()));
        }
    }
}

/// A connection ends when either side ends it or the gate closes; both see it.
async fn forward(
    outer: TcpStream,
    target: SocketAddr,
    host: Option<String>,
    mut leads_to: watch::Receiver<Option<SocketAddr>>,
) {
    let Ok(inner) = TcpStream::connect(target).await else {
        return;
    };
    let (mut up, mut down) = (outer.into_split(), inner.into_split());
    let passing = async {
        let there = pass(&mut up.0, &mut down.1, host);
        let back = async { copy(&mut down.0, &mut up.1).await.map(drop) };
        tokio::select! {
            ended = there => ended,
            ended = back => ended,
        }
    };
    tokio::select! {
        // How a connection ends is for its two ends to judge.
        _ended_or_broken = passing => {}
        _closed_or_dropped = leads_to.wait_for(|to| *to != Some(target)) => {}
    }
}

async fn pass(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, host: Option<String>) -> io::Result<()> {
    let Some(host) = host else {
        return copy(from, to).await.map(drop);
    };
    let mut bytes = vec![0; HEAD_BYTES];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&renamed(&bytes[..read], &host)).await?;
    }
}

/// A request's head with another host.
fn renamed(head: &[u8], host: &str) -> Vec<u8> {
    let name = b"\r\nhost: ";
    let Some(start) = memmem::find(&head.to_ascii_lowercase(), name).map(|at| at + name.len()) else {
        return head.to_vec();
    };
    let end = memmem::find(&head[start..], b"\r\n").map_or(head.len(), |length| start + length);
    [&head[..start], host.as_bytes(), &head[end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_renamed_and_nothing_else() {
        let head = b"GET / HTTP/1.1\r\nA: b\r\nHost: one:1\r\nC: d\r\n\r\nbody";
        let expected = b"GET / HTTP/1.1\r\nA: b\r\nHost: two\r\nC: d\r\n\r\nbody";
        assert_eq!(renamed(head, "two"), expected);
        assert_eq!(renamed(b"no head", "two"), b"no head");
    }

    #[tokio::test]
    async fn a_closed_gate_cuts_what_goes_through_and_lets_nothing_in() -> io::Result<()> {
        let program = TcpListener::bind("127.0.0.1:0").await?;
        let gate = Gate::closed().await?;
        gate.open_to(program.local_addr()?);
        let mut outer = TcpStream::connect(gate.address()).await?;
        let (mut inner, _) = program.accept().await?;
        outer.write_all(b"there").await?;
        let mut heard = [0; 5];
        inner.read_exact(&mut heard).await?;
        assert_eq!(&heard, b"there");
        gate.close();
        assert!(
            matches!(outer.read(&mut heard).await, Ok(0) | Err(_)),
            "the outer end hears nothing of it"
        );
        assert!(
            matches!(inner.read(&mut heard).await, Ok(0) | Err(_)),
            "the inner end hears nothing of it"
        );
        let mut refused = TcpStream::connect(gate.address()).await?;
        assert!(
            matches!(refused.read(&mut heard).await, Ok(0) | Err(_)),
            "a closed gate lets in"
        );
        gate.open_to(program.local_addr()?);
        let mut outer = TcpStream::connect(gate.address()).await?;
        let (mut inner, _) = program.accept().await?;
        inner.write_all(b"again").await?;
        outer.read_exact(&mut heard).await?;
        assert_eq!(&heard, b"again");
        Ok(())
    }
}
