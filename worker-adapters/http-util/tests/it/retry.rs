//! Retries: which failures, how often, and with which pauses.

use std::cell::Cell;
use std::time::Duration;

use http::StatusCode;
use http_util::retry::{RetryPolicy, is_retriable};
use http_util::{HttpError, Request};
use tokio::time::Instant;

use crate::server::{Server, Step, patient, reply};

const POLICY: RetryPolicy = RetryPolicy {
    attempts: 5,
    base_delay: Duration::from_millis(100),
    max_delay: Duration::from_secs(1),
};

/// The error of a real exchange that was answered so.
async fn answered(status: &str, headers: &str) -> anyhow::Result<HttpError> {
    let server = Server::always(vec![Step::Hear, reply(status, headers, "")]).await?;
    let outcome = server.endpoint(patient())?.send(Request::get("/")).await;
    outcome
        .err()
        .ok_or_else(|| anyhow::anyhow!("{status} is no error"))
}

fn same_status(error: &HttpError) -> HttpError {
    let HttpError::Status {
        target,
        status,
        excerpt,
        retry_after,
    } = error
    else {
        unreachable!("{error:?}")
    };
    HttpError::Status {
        target: target.clone(),
        status: *status,
        excerpt: excerpt.clone(),
        retry_after: *retry_after,
    }
}

/// Runs a call that always fails like `error`, on a paused clock, and returns the pauses between its tries.
async fn pauses(error: &HttpError) -> Vec<Duration> {
    tokio::time::pause();
    let tries = Cell::new(Vec::new());
    let outcome = POLICY
        .run_idempotent(|| async {
            let mut so_far = tries.take();
            so_far.push(Instant::now());
            tries.set(so_far);
            Err::<(), _>(same_status(error))
        })
        .await;
    tokio::time::resume();
    assert_eq!(outcome.err().and_then(|e| e.status()), error.status());
    tries.take().windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// ORCH-3612.
#[tokio::test]
async fn pauses_double_with_jitter_up_to_the_cap() -> anyhow::Result<()> {
    let busy = answered("503 Service Unavailable", "").await?;
    let first = pauses(&busy).await;
    let bounds = [100, 200, 400, 500].map(Duration::from_millis);
    assert_eq!(first.len(), bounds.len());
    for (pause, low) in first.iter().zip(bounds) {
        assert!(
            (low..=2 * low + Duration::from_millis(2)).contains(pause),
            "{first:?}"
        );
    }
    assert_ne!(
        first,
        pauses(&busy).await,
        "two callers come back at different moments"
    );
    Ok(())
}

#[tokio::test]
async fn retry_after_is_a_lower_bound() -> anyhow::Result<()> {
    let asked = answered("429 Too Many Requests", "retry-after: 1\r\n").await?;
    for pause in pauses(&asked).await {
        assert!(
            (Duration::from_secs(1)..=Duration::from_millis(2002)).contains(&pause),
            "{pause:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_retry_after_beyond_the_cap_ends_the_tries() -> anyhow::Result<()> {
    let later = answered("503 Service Unavailable", "retry-after: 60\r\n").await?;
    assert_eq!(pauses(&later).await, []);
    Ok(())
}

/// ORCH-3612.
#[tokio::test]
async fn statuses_that_say_no_are_final() -> anyhow::Result<()> {
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "404 Not Found",
        "500 Internal Server Error",
    ] {
        let error = answered(status, "").await?;
        assert!(!is_retriable(&error), "{status}");
        assert_eq!(pauses(&error).await, [], "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_dies_is_tried_again() -> anyhow::Result<()> {
    let scripts = vec![
        vec![],
        vec![Step::Hear],
        vec![Step::Hear, reply("200 OK", "", "{}")],
    ];
    let server = Server::start(scripts).await?;
    let endpoint = server.endpoint(patient())?;
    let policy = RetryPolicy {
        base_delay: Duration::from_millis(1),
        ..POLICY
    };
    let found = policy.run_idempotent(|| endpoint.send(Request::get("/"))).await?;
    assert_eq!((found.status, server.seen().connections), (StatusCode::OK, 3));
    Ok(())
}

/// The server closes kept connections whenever it likes; an idempotent call survives that.
#[tokio::test]
async fn a_kept_connection_closed_by_the_server_is_replaced() -> anyhow::Result<()> {
    let server = Server::always(vec![Step::Hear, reply("200 OK", "", "{}")]).await?;
    let endpoint = server.endpoint(patient())?;
    for _ in 0..20 {
        POLICY.run_idempotent(|| endpoint.send(Request::get("/"))).await?;
    }
    assert_eq!(server.seen().connections, 20);
    Ok(())
}

/// ORCH-3612.
#[tokio::test]
async fn a_reply_that_had_begun_is_not_asked_for_again() -> anyhow::Result<()> {
    let script = vec![
        Step::Hear,
        crate::server::say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"),
    ];
    let server = Server::always(script).await?;
    let endpoint = server.endpoint(patient())?;
    let error = POLICY
        .run_idempotent(|| endpoint.send(Request::get("/")))
        .await
        .err();
    assert!(matches!(error, Some(HttpError::Reset { .. })), "{error:?}");
    assert_eq!(server.seen().connections, 1);
    Ok(())
}
