//! What a program writes: drained on a thread, the last MiB kept. Touches the pipe.

use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Output kept per stream; older bytes are dropped.
const KEPT_OUTPUT: usize = 1 << 20;

/// The end of what a stream said, and how far it has come.
#[derive(Debug)]
pub(super) struct Output {
    kept: Mutex<Vec<u8>>,
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    first_line: Option<String>,
    closed: bool,
}

impl Output {
    /// Reads on a thread until the stream closes, so that the program never waits for a reader. The
    /// thread is not waited for: a descendant may keep the stream open for longer than the program.
    pub(super) fn drain(stream: Option<impl Read + Send + 'static>) -> Arc<Self> {
        let progress = watch::Sender::new(Progress::default());
        let output = Arc::new(Self {
            kept: Mutex::default(),
            progress,
        });
        let ours = Arc::clone(&output);
        drop(std::thread::spawn(move || ours.read(stream)));
        output
    }

    fn read(&self, stream: Option<impl Read>) {
        let mut buffer = vec![0; 64 << 10];
        if let Some(mut stream) = stream {
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                self.keep(&buffer[..length]);
            }
        }
        self.progress.send_modify(|progress| progress.closed = true);
    }

    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.kept();
        kept.extend_from_slice(bytes);
        if self.progress.borrow().first_line.is_none()
            && let Some(end) = memchr::memchr(b'\n', &kept)
        {
            let line = String::from_utf8_lossy(&kept[..end]).into_owned();
            self.progress
                .send_modify(|progress| progress.first_line = Some(line));
        }
        if kept.len() > 2 * KEPT_OUTPUT {
            let surplus = kept.len() - KEPT_OUTPUT;
            drop(kept.drain(..surplus));
        }
    }

    pub(super) async fn first_line(&self) -> Option<String> {
        let mut progress = self.progress.subscribe();
        let known = progress
            .wait_for(|progress| progress.first_line.is_some() || progress.closed)
            .await;
        known.ok()?.first_line.clone()
    }

    /// Ends when the stream is closed and all of it is here.
    pub(super) async fn closed(&self) {
        // The sender is a field of `self`: it cannot go while we are here.
        let _ = self
            .progress
            .subscribe()
            .wait_for(|progress| progress.closed)
            .await;
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept()).into_owned()
    }

    fn kept(&self) -> MutexGuard<'_, Vec<u8>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
