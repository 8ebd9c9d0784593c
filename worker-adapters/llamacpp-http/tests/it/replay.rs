//! A server that answers with bytes from a file, cut into pieces as a test wants them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// One answer per request, on any number of connections; the last one closes its connection. Stops when dropped.
pub(crate) struct Replay {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl Replay {
    /// Answers a single request with these pieces, each in a write of its own.
    pub(crate) async fn pieces(pieces: Vec<Vec<u8>>) -> Self {
        Self::answers(vec![pieces]).await
    }

    pub(crate) async fn whole(response: Vec<u8>) -> Self {
        Self::pieces(vec![response]).await
    }

    /// One answer after the other.
    pub(crate) async fn answers(answers: Vec<Vec<Vec<u8>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, answers, Arc::clone(&connections)));
        Self {
            address,
            connections,
            _server: server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, answers: Vec<Vec<Vec<u8>>>, connections: Arc<AtomicUsize>) {
    let mut answers = answers.into_iter().peekable();
    while answers.peek().is_some() {
        let (mut socket, _) = listener.accept().await.unwrap();
        connections.fetch_add(1, Ordering::SeqCst);
        socket.set_nodelay(true).unwrap();
        while answers.peek().is_some() && read_request(&mut socket).await.is_ok() {
            let pieces = answers.next().unwrap_or_default();
            // A client that has what it needs may leave before the last byte.
            if write(&mut socket, &pieces).await.is_err() {
                break;
            }
        }
    }
}

async fn write(socket: &mut TcpStream, pieces: &[Vec<u8>]) -> io::Result<()> {
    for piece in pieces {
        socket.write_all(piece).await?;
        // The reader runs on this thread: it sees most pieces alone.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Reads a head and the body it announces.
async fn read_request(socket: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |n| n.parse().unwrap());
    socket.read_exact(&mut vec![0; length]).await?;
    Ok(())
}
