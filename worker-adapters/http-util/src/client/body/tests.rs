//! The silence clock on a paused clock, over bodies without sockets.

use std::convert::Infallible;

use futures_util::stream;
use http::Method;
use tokio::time::{Instant, advance, sleep};
use url::Url;

use super::*;

const IDLE: Duration = Duration::from_secs(30);

/// A body that sends a byte after each of the pauses, then falls silent for ever.
fn body(pauses: Vec<Duration>) -> anyhow::Result<ByteStream> {
    let pieces = stream::unfold(pauses.into_iter(), |mut pauses| async {
        match pauses.next() {
            Some(pause) => sleep(pause).await,
            None => std::future::pending().await,
        }
        Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), pauses))
    });
    let target = Target::new(&Method::GET, &Url::parse("http://127.0.0.1/stream")?);
    Ok(ByteStream::new(reqwest::Body::wrap_stream(pieces), IDLE, target))
}

/// ORCH-3611.
#[tokio::test(start_paused = true)]
async fn a_stream_may_last_far_longer_than_any_timeout() -> anyhow::Result<()> {
    let mut body = body(vec![IDLE - Duration::from_millis(1); 1000])?;
    for _ in 0..1000 {
        assert!(body.chunk().await?.is_some());
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn silence_ends_the_stream_exactly_at_the_limit() -> anyhow::Result<()> {
    let mut body = body(vec![Duration::from_secs(7)])?;
    assert!(body.chunk().await?.is_some());
    let silent_from = Instant::now();
    let error = body.chunk().await;
    assert!(
        matches!(
            error,
            Err(HttpError::IdleTimeout {
                limit: IDLE,
                bytes_received: 1,
                ..
            })
        ),
        "{error:?}"
    );
    let waited = silent_from.elapsed();
    assert!(
        (IDLE..IDLE + Duration::from_millis(2)).contains(&waited),
        "{waited:?}"
    );
    assert!(body.chunk().await?.is_none(), "a failed stream has ended");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_pauses_does_not_use_up_the_limit() -> anyhow::Result<()> {
    let second = Duration::from_secs(1);
    let mut body = body(vec![second; 3])?;
    for _ in 0..3 {
        assert!(body.chunk().await?.is_some());
        advance(10 * IDLE).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_unwatched_body_may_be_silent_for_ever() -> anyhow::Result<()> {
    let mut body = body(vec![1000 * IDLE])?.unwatched();
    assert!(body.chunk().await?.is_some());
    assert!(tokio::time::timeout(1000 * IDLE, body.chunk()).await.is_err());
    Ok(())
}
