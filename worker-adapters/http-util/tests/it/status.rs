//! What is kept of an error reply.

use std::time::Duration;

use http::StatusCode;
use http_util::HttpError;
use http_util::client::MAX_EXCERPT_BYTES;

use crate::limits::failure;
use crate::server::{Server, Step, patient, reply, say};

#[tokio::test]
async fn an_error_status_keeps_a_redacted_excerpt() -> anyhow::Result<()> {
    let body = r#"{"error":{"message":"Invalid API Key","echo":"Authorization: Bearer canary-4711"}}"#;
    let server = Server::always(vec![
        Step::Hear,
        reply("401 Unauthorized", "retry-after: 3\r\n", body),
    ])
    .await?;
    let error = failure(&server, patient()).await?;
    assert!(!format!("{error} {error:?}").contains("canary-4711"), "{error:?}");
    let HttpError::Status {
        status,
        excerpt,
        retry_after,
        ..
    } = error
    else {
        anyhow::bail!("{error:?}")
    };
    assert_eq!(
        (status, retry_after),
        (StatusCode::UNAUTHORIZED, Some(Duration::from_secs(3)))
    );
    assert_eq!(excerpt, body.replace("Bearer canary-4711", "[redacted]"));
    Ok(())
}

#[tokio::test]
async fn an_endless_error_body_is_cut() -> anyhow::Result<()> {
    let head = say("HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n");
    let flood = Step::Flood("6\r\n€€\r\n".repeat(1000).into_bytes());
    let server = Server::always(vec![Step::Hear, head, flood]).await?;
    let error = failure(&server, patient()).await?;
    let HttpError::Status { excerpt, .. } = error else {
        anyhow::bail!("{error:?}")
    };
    assert!(
        (MAX_EXCERPT_BYTES - 2..=MAX_EXCERPT_BYTES).contains(&excerpt.len()),
        "{}",
        excerpt.len()
    );
    Ok(())
}

#[tokio::test]
async fn a_broken_error_body_still_gives_the_status() -> anyhow::Result<()> {
    let server = Server::always(vec![
        Step::Hear,
        say("HTTP/1.1 500 Oops\r\ncontent-length: 99\r\n\r\nout of mem"),
    ])
    .await?;
    let error = failure(&server, patient()).await?;
    let HttpError::Status { status, excerpt, .. } = error else {
        anyhow::bail!("{error:?}")
    };
    assert_eq!((status.as_u16(), excerpt.as_str()), (500, "out of mem"));
    Ok(())
}

#[tokio::test]
async fn retry_after_may_be_a_date() -> anyhow::Result<()> {
    let cases = [
        (
            "retry-after: Sun, 06 Nov 1994 08:50:07 GMT\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            Some(30),
        ),
        (
            "retry-after: Sun, 06 Nov 1994 08:49:07 GMT\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            Some(0),
        ),
        ("retry-after: Sun, 06 Nov 1994 08:50:07 GMT\r\n", None),
        ("retry-after: soon\r\n", None),
        ("retry-after: -1\r\n", None),
        ("", None),
    ];
    for (headers, seconds) in cases {
        let server = Server::always(vec![Step::Hear, reply("429 Too Many Requests", headers, "")]).await?;
        let error = failure(&server, patient()).await?;
        assert_eq!(error.retry_after(), seconds.map(Duration::from_secs), "{headers}");
    }
    Ok(())
}
