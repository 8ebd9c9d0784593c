//! ORCH-3274, ORCH-3201, ORCH-3203, ORCH-3400: streams, resume, micro-batches, many viewers.

use serde_json::json;
use test_harness_support::http1::Call;
use test_harness_support::scripted_engine::{Script, Text};
use test_harness_support::stream_check::{StreamCheck, Terminal};

use crate::fixture::{Fixture, LIMIT, fast, paced, task, task_with};

/// ORCH-3305, ORCH-3310.
#[tokio::test]
async fn a_whole_stream_and_its_receipt() {
    let fixture = Fixture::one(1, fast()).await;
    let task = fixture.submit(&task(10)).await;
    let stream = fixture.read(&task).await;
    assert_eq!((stream.tokens.len(), stream.outcome()), (10, Some("length")));
    assert!(stream.text().starts_with("[scripted engine: no inference]"));
    let Terminal::End(end) = &stream.terminal else {
        panic!("{:?}", stream.terminal)
    };
    assert_eq!(end["tokens_out"], 10);
    assert_eq!(end["decode_ms"], end["decode_time_ms"]);
    assert_eq!(
        (&end["engine"], &end["engine_version"]),
        (&json!("llamacpp"), &json!("b1-test"))
    );
    assert_eq!(
        (&end["pool_id"], &end["replica_id"], &end["seed"]),
        (&json!("p"), &json!("r0"), &json!(7))
    );
    assert!(stream.metrics.iter().any(|frame| frame["phase"] == "decoding"));
    let actions: Vec<_> = stream
        .narration
        .iter()
        .map(|line| line["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["admission", "placement", "end"]);
    let status = fixture.status(&task).await;
    assert_eq!(
        (&status["state"], &status["usage"]["tokens_out"]),
        (&json!("completed"), &json!(10))
    );
}

#[tokio::test]
async fn resuming_after_every_frame_gives_exactly_the_rest() {
    let fixture = Fixture::one(1, fast()).await;
    let task = fixture.submit(&task(16)).await;
    let whole = fixture.open(&task, None).await.all_events(LIMIT).await.unwrap();
    let summary = StreamCheck::whole(&whole).unwrap();
    for n in 0..=16 {
        let id = format!("0.{n}");
        let rest = fixture
            .open(&task, Some(&id))
            .await
            .all_events(LIMIT)
            .await
            .unwrap();
        let mut check = StreamCheck::resumed_after(&id).unwrap();
        rest.iter().try_for_each(|event| check.event(event)).unwrap();
        assert_eq!(check.finish().unwrap().tokens, summary.tokens[n..], "after {id}");
    }
    let call = Call::get(&format!("/v1/tasks/{task}/stream")).header("Last-Event-ID", &summary.last_id);
    assert_eq!(fixture.call(call).await.status, 204);
}

#[tokio::test]
async fn viewers_that_join_late_or_resume_see_the_same() {
    let fixture = Fixture::start(&[("p", 1, paced())], "", &[("CANCEL_ON_DISCONNECT", "false")]).await;
    let task = fixture.submit(&task(60)).await;
    let mut first = fixture.open(&task, None).await;
    let mut last_id = None;
    for _ in 0..12 {
        let event = first.next_event(LIMIT).await.unwrap().unwrap();
        last_id = event.id.or(last_id);
    }
    drop(first);
    let last_id = last_id.unwrap();
    let (late, rest) = tokio::join!(fixture.read(&task), async {
        fixture
            .open(&task, Some(&last_id))
            .await
            .all_events(LIMIT)
            .await
            .unwrap()
    });
    let seen: usize = last_id.strip_prefix("0.").unwrap().parse().unwrap();
    let mut check = StreamCheck::resumed_after(&last_id).unwrap();
    rest.iter().try_for_each(|event| check.event(event)).unwrap();
    assert_eq!(check.finish().unwrap().tokens, late.tokens[seen..]);
    assert_eq!(late.tokens.len(), 60);
}

#[tokio::test]
async fn characters_survive_whatever_the_engine_does_to_its_bytes() {
    let script = Script {
        text: Text::Multibyte,
        fragment_bytes: std::num::NonZeroUsize::new(3),
        null_frame: true,
        empty_every: std::num::NonZeroU32::new(3),
        ..fast()
    };
    let whole = Fixture::one(
        1,
        Script {
            text: Text::Multibyte,
            ..fast()
        },
    )
    .await;
    let torn = Fixture::one(1, script).await;
    let a = whole.read(&whole.submit(&task(30)).await).await;
    let b = torn.read(&torn.submit(&task(30)).await).await;
    assert!(!a.text().is_ascii());
    assert!(!b.text().contains('\u{fffd}'), "{}", b.text());
}

/// ORCH-3209.
/// REQ-FAULT-ENGINE-ENDLESS.
#[tokio::test]
async fn an_engine_that_does_not_stop_is_stopped_at_max_tokens() {
    let fixture = Fixture::one(
        1,
        Script {
            infinite: true,
            ..fast()
        },
    )
    .await;
    let task = fixture.submit(&task(25)).await;
    let stream = fixture.read(&task).await;
    assert_eq!((stream.tokens.len(), stream.outcome()), (25, Some("length")));
    let Terminal::End(end) = &stream.terminal else {
        panic!("{:?}", stream.terminal)
    };
    assert_eq!(end["tokens_out"], 25, "{end}");
    fixture.wait_idle().await;
}

#[tokio::test]
async fn micro_batches_hold_the_same_tokens() {
    let burst = Script {
        tokens_per_write: 8.try_into().unwrap(),
        ..fast()
    };
    let fixture = Fixture::start(&[("p", 1, burst)], "", &[("ORCHD_SSE_MICROBATCH", "true")]).await;
    let task = fixture.submit(&task_with(32, json!({}))).await;
    let events = fixture.open(&task, None).await.all_events(LIMIT).await.unwrap();
    let tokens = events
        .iter()
        .filter(|event| event.name.as_deref() == Some("token"));
    let frames: Vec<serde_json::Value> = tokens
        .map(|event| serde_json::from_str(&event.data).unwrap())
        .collect();
    let batched = |frame: &serde_json::Value| frame["batch"].as_array().map_or(1, Vec::len);
    assert_eq!(frames.iter().map(batched).sum::<usize>(), 32);
    assert!(frames.len() < 32, "several tokens of one read share a frame");
}

/// ORCH-3207.
#[tokio::test]
async fn silence_is_broken_by_comments() {
    let silent = Script {
        first_token_delay_ms: 600,
        ..fast()
    };
    let fixture = Fixture::start(&[("p", 1, silent)], "", &[("ORCHD_SSE_HEARTBEAT_MS", "100")]).await;
    let task = fixture.submit(&task(2)).await;
    let mut reader = fixture.open(&task, None).await;
    let mut comments = 0;
    while let Some(item) = reader.next(LIMIT).await.unwrap() {
        comments += usize::from(matches!(item, test_harness_support::sse::Item::Comment(_)));
    }
    assert!(comments >= 2, "{comments}");
}

/// ORCH-3450: the header that HTTP/2 forbids is there on HTTP/1.1.
#[tokio::test]
async fn a_stream_over_http1_has_the_headers_that_keep_it_open_and_unbuffered() {
    let fixture = Fixture::one(1, fast()).await;
    let task = fixture.submit(&task(2)).await;
    let reader = fixture.open(&task, None).await;
    let headers = [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
        ("connection", "keep-alive"),
    ];
    for (name, value) in headers {
        assert_eq!(reader.head().header(name), Some(value), "{name}");
    }
    assert_eq!(reader.head().header("content-encoding"), None);
}
