//! A server of files that does what it is told, also what no server should: cut answers, lie about lengths, ignore ranges,
//! change between two parts. Plain HTTP/1.1, one request per connection. Listens on loopback.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

mod exchange;

pub use exchange::Seen;

/// More head than any client of ours sends.
const MAX_HEAD: usize = 64 << 10;

/// What is served under a path.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// Its bytes.
    pub body: Bytes,
    /// Its validator, with its quotes.
    pub etag: Option<String>,
    /// More header fields of every answer.
    pub headers: Vec<(String, String)>,
}

impl Resource {
    /// With a strong validator of its own.
    pub fn new(body: impl Into<Bytes>, etag: &str) -> Self {
        Self {
            body: body.into(),
            etag: Some(format!("\"{etag}\"")),
            headers: Vec::new(),
        }
    }

    /// JSON.
    pub fn json(value: &serde_json::Value) -> Self {
        Self {
            body: value.to_string().into(),
            etag: None,
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        }
    }

    /// With a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What goes wrong with one answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is closed after so many bytes of the body.
    CutAfter(u64),
    /// The connection is reset after so many bytes of the body.
    ResetAfter(u64),
    /// The whole file with 200, whatever was asked for.
    IgnoreRange,
    /// Another validator.
    Etag(String),
    /// No validator.
    NoEtag,
    /// The announced length is off by this much; the body is what it is.
    LengthOff(i64),
    /// The whole size in `Content-Range` is off by this much.
    TotalOff(i64),
    /// The range answered begins this many bytes later than the one asked for.
    RangeOff(u64),
    /// The body has no announced length: it comes in chunks.
    Chunked,
    /// The byte at this place of the file is another one.
    Flip(u64),
    /// Another status, with header fields and a body.
    Status(u16, Vec<(String, String)>, String),
    /// 302 to there.
    Redirect(String),
    /// So many bytes at a time, with a pause behind each.
    Slow(usize, Duration),
    /// The head comes and then nothing.
    Silent,
}

#[derive(Default)]
struct Script {
    resources: HashMap<String, Resource>,
    /// For the next answers under a path, one each.
    next: HashMap<String, VecDeque<Option<Fault>>>,
    /// For every answer under a path.
    always: HashMap<String, Vec<Fault>>,
    /// What `Authorization` must be under a path.
    locked: HashMap<String, String>,
    seen: Vec<Seen>,
}

/// The server; it ends with this value.
pub struct FileServer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _serving: JoinSet<()>,
}

impl FileServer {
    /// Listens on a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let script = Arc::new(Mutex::new(Script::default()));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&script)));
        Ok(Self {
            address,
            script,
            _serving: serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT` and the path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves this under a path, from now on.
    pub fn serve(&self, path: &str, resource: Resource) {
        self.script(|script| script.resources.insert(path.to_owned(), resource));
    }

    /// The next answers under a path have these faults, one each.
    pub fn next(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.plan(path, faults.into_iter().map(Some));
    }

    /// The same, where `None` is an answer without fault.
    pub fn plan(&self, path: &str, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.script(|script| script.next.entry(path.to_owned()).or_default().extend(faults));
    }

    /// Every answer under a path has this fault, and those it had before.
    pub fn always(&self, path: &str, fault: Fault) {
        self.script(|script| script.always.entry(path.to_owned()).or_default().push(fault));
    }

    /// No faults any more.
    pub fn mend(&self) {
        self.script(|script| {
            script.next.clear();
            script.always.clear();
        });
    }

    /// Under this path, `Authorization` must be this; else 401.
    pub fn lock(&self, path: &str, authorization: &str) {
        self.script(|script| script.locked.insert(path.to_owned(), authorization.to_owned()));
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.script(|script| script.seen.clone())
    }

    /// The requests for one path.
    pub fn seen_of(&self, path: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|request| request.path == path);
        seen
    }

    /// No code under the lock waits.
    fn script<T>(&self, with: impl FnOnce(&mut Script) -> T) -> T {
        with(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(listener: TcpListener, script: Arc<Mutex<Script>>) {
    let mut open = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let script = Arc::clone(&script);
        open.spawn(async move {
            // A client that goes away in the middle is what many tests are about.
            let _gone = converse(socket, &script).await;
        });
        while open.try_join_next().is_some() {}
    }
}

async fn converse(mut socket: TcpStream, script: &Mutex<Script>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = memchr::memmem::find(&head, b"\r\n\r\n") {
            break end;
        }
        if head.len() > MAX_HEAD || socket.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let Some(seen) = Seen::parse(&head[..end]) else {
        return Ok(());
    };
    let answer = {
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        script.seen.push(seen.clone());
        script.answer(&seen)
    };
    answer.send(&mut socket).await
}

impl Script {
    fn answer(&mut self, seen: &Seen) -> exchange::Reply {
        let mut faults = self.always.get(&seen.path).cloned().unwrap_or_default();
        if let Some(next) = self.next.get_mut(&seen.path).and_then(VecDeque::pop_front) {
            faults.extend(next);
        }
        let locked = self.locked.get(&seen.path);
        if locked.is_some_and(|wanted| seen.header("authorization") != Some(wanted)) {
            return exchange::Reply::status(401, Vec::new(), "who are you");
        }
        match self.resources.get(&seen.path) {
            Some(resource) => exchange::Reply::of(seen, resource, &faults),
            None => exchange::Reply::without(&faults),
        }
    }
}

/// Sends bytes as the faults have it.
async fn trickle(socket: &mut TcpStream, body: &[u8], slow: Option<(usize, Duration)>) -> io::Result<()> {
    let Some((piece, pause)) = slow else {
        return socket.write_all(body).await;
    };
    for piece in body.chunks(piece.max(1)) {
        socket.write_all(piece).await?;
        sleep(pause).await;
    }
    Ok(())
}
