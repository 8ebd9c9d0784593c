//! A scripted HTTP server on a raw socket: says exactly the bytes it is told to, and records what it hears.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http_util::{Client, ClientOptions, Endpoint};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::Url;

/// Longest wait for a condition. Reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a connection does next. After its last step the server closes it.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Reads one request.
    Hear,
    /// Sends bytes.
    Say(Vec<u8>),
    /// Sends bytes until the peer stops listening.
    Flood(Vec<u8>),
    /// Waits until the test opens the gate.
    Gate,
    /// Waits until the peer closes.
    AwaitClose,
    /// Closes with a TCP reset.
    Reset,
}

pub(crate) fn say(text: &str) -> Step {
    Step::Say(text.as_bytes().to_vec())
}

/// A reply whose length is announced.
pub(crate) fn reply(status: &str, headers: &str, body: &str) -> Step {
    say(&format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    ))
}

/// The head of a chunked event stream.
pub(crate) fn stream_head() -> Step {
    say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
}

/// What the server has seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    pub(crate) requests: Vec<String>,
    pub(crate) closed_by_peer: usize,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    seen: watch::Receiver<Seen>,
    gate: Arc<Semaphore>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Debug)]
struct Connection {
    seen: watch::Sender<Seen>,
    gate: Arc<Semaphore>,
}

impl Server {
    /// Connection n follows script n; further ones follow the last.
    pub(crate) async fn start(scripts: Vec<Vec<Step>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (sender, seen) = watch::channel(Seen::default());
        let gate = Arc::new(Semaphore::new(0));
        let connection = Connection {
            seen: sender,
            gate: Arc::clone(&gate),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, scripts, connection));
        Ok(Self {
            addr,
            seen,
            gate,
            _tasks: tasks,
        })
    }

    /// One script for every connection.
    pub(crate) async fn always(script: Vec<Step>) -> anyhow::Result<Self> {
        Self::start(vec![script]).await
    }

    pub(crate) fn endpoint(&self, options: ClientOptions) -> anyhow::Result<Endpoint> {
        endpoint(self.addr, options)
    }

    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(1);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    pub(crate) async fn wait_for(&mut self, condition: impl Fn(&Seen) -> bool) -> anyhow::Result<Seen> {
        let met = timeout(PATIENCE, self.seen.wait_for(|seen| condition(seen)))
            .await
            .map(|met| met.map(|s| s.clone()));
        Ok(met.with_context(|| format!("condition not met; last state: {:?}", self.seen.borrow()))??)
    }
}

pub(crate) fn endpoint(addr: SocketAddr, options: ClientOptions) -> anyhow::Result<Endpoint> {
    let base = Url::parse(&format!("http://{addr}"))?;
    Ok(Client::new(options)?.endpoint(base, None)?)
}

/// Limits that no test reaches; a test shortens the one it is about.
pub(crate) fn patient() -> ClientOptions {
    ClientOptions {
        connect_timeout: PATIENCE,
        first_byte_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        pool_idle_timeout: PATIENCE,
        request_timeout: None,
        ..ClientOptions::default()
    }
}

/// Longer than a local exchange takes, short enough to wait for.
pub(crate) const SHORT: Duration = Duration::from_millis(150);

pub(crate) fn token(text: &str) -> SecretString {
    SecretString::from(text)
}

async fn accept(listener: TcpListener, scripts: Vec<Vec<Step>>, connection: Connection) {
    let mut open = JoinSet::new();
    let mut scripts = scripts.into_iter().peekable();
    while let Some(script) = scripts.next() {
        let repeat = scripts.peek().is_none();
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                return;
            };
            connection.seen.send_modify(|seen| seen.connections += 1);
            open.spawn(connection.clone().follow(socket, script.clone()));
            if !repeat {
                break;
            }
        }
    }
}

impl Connection {
    /// A failing step ends the connection, as an unplugged server would; the test sees it from the client's side.
    async fn follow(self, mut socket: TcpStream, script: Vec<Step>) {
        let mut heard = Vec::new();
        for step in script {
            if self.step(&mut socket, &mut heard, step).await.is_err() {
                return;
            }
        }
    }

    async fn step(&self, socket: &mut TcpStream, heard: &mut Vec<u8>, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Hear => {
                let request = hear(socket, heard).await?;
                self.seen.send_modify(|seen| seen.requests.push(request));
            }
            Step::Say(bytes) => socket.write_all(&bytes).await?,
            Step::Flood(bytes) => loop {
                socket.write_all(&bytes).await?;
            },
            Step::Gate => self.gate.acquire().await?.forget(),
            Step::AwaitClose => {
                while matches!(socket.read_buf(heard).await, Ok(1..)) {}
                self.seen.send_modify(|seen| seen.closed_by_peer += 1);
            }
            Step::Reset => socket.set_zero_linger()?,
        }
        Ok(())
    }
}

/// Reads one request with a body of announced length.
async fn hear(socket: &mut TcpStream, heard: &mut Vec<u8>) -> anyhow::Result<String> {
    loop {
        if let Some(len) = request_len(heard) {
            return Ok(String::from_utf8(heard.drain(..len).collect())?);
        }
        anyhow::ensure!(socket.read_buf(heard).await? > 0, "peer closed");
    }
}

fn request_len(heard: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(heard).ok()?.split_once("\r\n\r\n")?.0;
    let announced = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|n| n.parse().ok());
    let len = head.len() + 4 + announced.unwrap_or(0);
    (heard.len() >= len).then_some(len)
}
