//! An orchestrator without a mind of its own: a table of routes, each with a canned answer or a script.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const TASK: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

/// One request, as far as tests look at it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and path without the query.
    pub(crate) line: String,
    pub(crate) query: String,
    pub(crate) authorization: String,
    pub(crate) last_event_id: String,
    pub(crate) body: String,
}

/// What has been asked so far; waits for more.
#[derive(Default)]
pub(crate) struct Seen {
    requests: Mutex<Vec<Request>>,
    changed: Condvar,
}

impl Seen {
    fn add(&self, request: Request) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(request);
        self.changed.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<Request> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until a line that ends so has been asked for.
    pub(crate) fn wait_for(&self, line_end: &str) -> anyhow::Result<Request> {
        let found = |requests: &[Request]| requests.iter().find(|r| r.line.ends_with(line_end)).cloned();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(requests, PATIENCE, |requests| found(requests).is_none());
        let (requests, _timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        found(&requests).ok_or_else(|| anyhow::anyhow!("no request {line_end:?}, only {requests:?}"))
    }
}

pub(crate) type Script = dyn Fn(&Request, &mut TcpStream, &Seen) -> io::Result<()> + Send + Sync;

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

impl Server {
    /// Serves every request by the script, each connection in a thread and for one request.
    pub(crate) fn start(
        script: impl Fn(&Request, &mut TcpStream, &Seen) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        let (script, shared): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&shared));
                thread::spawn(move || serve(stream, &script, &seen));
            }
        });
        Ok(Self { addr, seen })
    }

    /// Answers every request with the same bytes.
    pub(crate) fn answering(head: &'static str, body: impl Into<String>) -> io::Result<Self> {
        let body = body.into();
        Self::start(move |_, stream, _| answer(stream, head, &body))
    }

    /// Takes any task and streams these frames for it.
    pub(crate) fn streaming(frames: impl Into<String>) -> io::Result<Self> {
        let frames = frames.into();
        Self::start(move |request, stream, _| {
            if request.line.ends_with("/stream") {
                open_stream(stream)?;
                stream.write_all(frames.as_bytes())
            } else {
                accept(request, stream)
            }
        })
    }
}

/// 202 for a task, 204 for a cancel.
pub(crate) fn accept(request: &Request, stream: &mut TcpStream) -> io::Result<()> {
    if request.line.ends_with("/cancel") {
        return answer(stream, "204 No Content", "");
    }
    let receipt = format!(
        "{{\"task_id\":\"{TASK}\",\"queue_position\":1,\"predicted_start_ms\":900,\"backoff_ms\":0,\"stream_url\":\"/s\"}}"
    );
    answer(stream, "202 Accepted", &receipt)
}

pub(crate) fn answer(stream: &mut TcpStream, head: &str, body: &str) -> io::Result<()> {
    let head = head.replace('\n', "\r\n");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

pub(crate) fn open_stream(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
}

fn serve(mut stream: TcpStream, script: &Arc<Script>, seen: &Seen) -> io::Result<()> {
    let request = read(&stream)?;
    seen.add(request.clone());
    script(&request, &mut stream, seen)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the client is done too: a reset could take away what it has not read.
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn read(stream: &TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        let mut lines = head.iter().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let target = head
        .first()
        .map(|line| line.trim_end_matches(" HTTP/1.1"))
        .unwrap_or_default();
    let (line, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Request {
        line: line.to_owned(),
        query: query.to_owned(),
        authorization: header("authorization"),
        last_event_id: header("last-event-id"),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
