//! An engine's log while it is written, as a response that ends when the process has, when the reader goes, or when the
//! daemon stops. A reader that does not read holds nothing but its place in the file.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::engine::output::Output;
use crate::engine::shim::Follow;

/// Between two looks for new lines: soon for a person, seldom for a disk.
const INTERVAL: Duration = Duration::from_millis(200);

const TEXT: &str = "text/plain; charset=utf-8";

/// The last `tail` lines and all that follow.
pub(super) fn followed(output: Arc<Output>, tail: usize, stopping: CancellationToken) -> Response {
    let reader = Reader {
        follow: None,
        output,
        tail,
        stopping,
    };
    let lines = stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, io::Error>(reader.next().await?.map(|text| (text, reader)))
    });
    (
        [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")],
        Body::from_stream(lines),
    )
        .into_response()
}

struct Reader {
    follow: Option<Follow>,
    output: Arc<Output>,
    tail: usize,
    stopping: CancellationToken,
}

impl Reader {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            // Asked before the look: what was written until the end is read by a look that begins after it.
            let ended = self.output.end().is_some();
            let text = self.more().await?;
            if !text.is_empty() {
                return Ok(Some(text));
            }
            if ended || self.stopping.is_cancelled() {
                return Ok(None);
            }
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }

    async fn more(&mut self) -> io::Result<String> {
        let (follow, output, tail) = (self.follow.take(), Arc::clone(&self.output), self.tail);
        let looking = spawn_blocking(move || {
            let mut follow = follow.unwrap_or_else(|| output.files().follow(output.shown(tail)));
            let text = follow.more();
            (follow, text)
        });
        let (follow, text) = looking.await.map_err(io::Error::other)?;
        self.follow = Some(follow);
        text
    }
}
