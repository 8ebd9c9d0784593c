//! A running server and a client that writes raw bytes.

use std::net::SocketAddr;
use std::time::Duration;

use config_schema::{Auth, Http};
use http_front::{Front, Limits, Listener, Served, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::routes::{WORKER_ROUTE, router};

/// Ends a test that hangs; no test measures it.
pub(crate) const HANG: Duration = Duration::from_secs(30);

pub(crate) const TOKEN: &str = "correct-horse-battery";

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) auth: Auth,
    pub(crate) http: Http,
    pub(crate) limits: Limits,
}

impl Options {
    pub(crate) fn with_token() -> Self {
        let mut options = Self::default();
        options.auth.token = Some(TOKEN.into());
        options
    }

    pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut options = Self::default();
        change(&mut options.limits);
        options
    }
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) end_stream: CancellationToken,
    serving: JoinHandle<Served>,
}

impl Server {
    pub(crate) fn start(options: Options) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let front = Front::new("test", &options.auth, &options.http, addr).unwrap();
        let listener = Listener::bind(addr).unwrap();
        let (shutdown, end_stream) = (CancellationToken::new(), CancellationToken::new());
        let router = front
            .always_token(&[WORKER_ROUTE])
            .wrap(router(end_stream.clone()));
        Self {
            addr: listener.local_addr(),
            serving: TaskTracker::new().spawn(serve(listener, router, options.limits, shutdown.clone())),
            shutdown,
            end_stream,
        }
    }

    /// How serving ended, once it has.
    pub(crate) async fn served(self) -> Served {
        timeout(HANG, self.serving).await.unwrap().unwrap()
    }

    pub(crate) async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.addr).await.unwrap(),
            received: Vec::new(),
        }
    }

    /// One request on a connection of its own. `head` is the request line and headers without
    /// `Host`.
    pub(crate) async fn send(&self, head: &str, body: &[u8]) -> Answer {
        let mut client = self.connect().await;
        let host = format!("Host: {}\r\nContent-Length: {}\r\n", self.addr, body.len());
        client.write(format!("{head}\r\n{host}\r\n").as_bytes()).await;
        client.write(body).await;
        client.answer().await
    }

    pub(crate) async fn get(&self, path: &str, headers: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1{headers}"), b"").await
    }

    pub(crate) async fn post(&self, path: &str, json: &str) -> Answer {
        let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/json");
        self.send(&head, json.as_bytes()).await
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        timeout(HANG, self.stream.write_all(bytes))
            .await
            .unwrap()
            .unwrap();
    }

    /// Waits until the server has closed the connection; returns what it said before.
    pub(crate) async fn closed(&mut self) -> String {
        // A reset is a close as well.
        let _ = timeout(HANG, self.stream.read_to_end(&mut self.received))
            .await
            .unwrap();
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// Reads until the text has come.
    pub(crate) async fn until(&mut self, text: &str) {
        let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(text);
        while !has(&self.received) {
            self.more().await;
        }
    }

    async fn more(&mut self) {
        let read = timeout(HANG, self.stream.read_buf(&mut self.received))
            .await
            .unwrap()
            .unwrap();
        assert_ne!(
            read,
            0,
            "the server closed after {:?}",
            String::from_utf8_lossy(&self.received)
        );
    }

    /// Whether something comes soon. Only ever asserted to be false.
    pub(crate) async fn hears_soon(&mut self) -> bool {
        let soon = Duration::from_millis(100);
        timeout(soon, self.stream.read_buf(&mut self.received))
            .await
            .is_ok()
    }

    /// The next response with a `Content-Length`; the connection stays open.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            if let Some((answer, used)) = Answer::parse(&self.received) {
                self.received.drain(..used);
                return answer;
            }
            self.more().await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let head_len = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
        let mut answer = Self {
            status: head.split(' ').nth(1)?.parse().ok()?,
            head,
            body: String::new(),
        };
        let body_len: usize = answer
            .header("content-length")
            .map_or(0, |len| len.parse().unwrap());
        let body = bytes.get(head_len..head_len + body_len)?;
        answer.body = String::from_utf8_lossy(body).into_owned();
        Some((answer, head_len + body_len))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| Value::String(self.body.clone()))
    }

    /// Status and error code, after checking what every error has.
    pub(crate) fn error(&self) -> (u16, String) {
        let body = self.json();
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(
            self.header("x-correlation-id"),
            body["correlation_id"].as_str(),
            "{self:?}"
        );
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{self:?}");
        (self.status, body["code"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// An error's status and code.
pub(crate) fn error(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}
