//! Every fault of the scripted engine, as a client sees it.

use std::time::Duration;

use serde_json::json;
use test_harness_support::http1::{self, Call, Connection, call};
use test_harness_support::scripted_engine::{
    End, EngineError, Fault, FaultKind, Health, Script, ScriptedEngine,
};
use test_harness_support::sse::{Error, Item, SseReader};
use test_harness_support::wait::{Look, wait_for};

use super::scripted_engine::{SOON, completion, streamed};

async fn with_fault(kind: FaultKind) -> ScriptedEngine {
    ScriptedEngine::start(Script::default().tokens(10).fault(Fault::at(2, kind)))
        .await
        .unwrap()
}

/// Events until the stream ends, and how it ended.
async fn read(engine: &ScriptedEngine) -> (Vec<String>, Result<(), Error>) {
    let mut reader = match SseReader::open(engine.address(), &streamed("x")).await {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut seen = Vec::new();
    loop {
        match reader.next_event(SOON).await {
            Ok(Some(event)) => seen.push(event.data),
            Ok(None) => return (seen, Ok(())),
            Err(error) => return (seen, Err(error)),
        }
    }
}

async fn fault_recorded(engine: &ScriptedEngine, name: &str) {
    let wanted = End::Fault(name.to_owned());
    wait_for("the fault in the report", SOON, || async {
        let end = engine.report().requests.remove(0).end;
        if end == wanted {
            Look::Ready(())
        } else {
            Look::NotYet(end)
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_in_stream_error_is_the_last_frame_of_a_proper_body() {
    let engine = with_fault(FaultKind::InStreamError(EngineError::default())).await;
    let (seen, end) = read(&engine).await;
    assert!(end.is_ok());
    assert_eq!(seen.len(), 3);
    assert_eq!(
        seen[2],
        r#"{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}"#
    );
    fault_recorded(&engine, "in_stream_error").await;
}

#[tokio::test]
async fn an_error_before_the_first_frame_is_a_plain_one() {
    let fault = Fault::at(0, FaultKind::InStreamError(EngineError::default()));
    let engine = ScriptedEngine::start(Script::default().fault(fault))
        .await
        .unwrap();
    let (_, end) = read(&engine).await;
    assert!(matches!(end, Err(Error::Refused(answer)) if answer.status == 500));
}

#[tokio::test]
async fn a_clean_end_has_no_final_frame() {
    let engine = with_fault(FaultKind::CleanEof).await;
    let (seen, end) = read(&engine).await;
    assert!(end.is_ok() && seen.len() == 2 && seen.iter().all(|frame| frame.contains(r#""stop":false"#)));
}

#[tokio::test]
async fn a_lost_connection_has_no_end_at_all() {
    for kind in [FaultKind::Fin, FaultKind::CutFrame] {
        let engine = with_fault(kind.clone()).await;
        let (seen, end) = read(&engine).await;
        assert_eq!(seen.len(), 2);
        assert!(
            matches!(end, Err(Error::Http(http1::Error::Cut(_)))),
            "{kind:?}: {end:?}"
        );
    }
}

#[tokio::test]
async fn a_reset_is_one() {
    let engine = with_fault(FaultKind::Rst).await;
    let (_, end) = read(&engine).await;
    let Err(Error::Http(http1::Error::Io(error))) = end else {
        panic!("{end:?}")
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    fault_recorded(&engine, "rst").await;
}

#[tokio::test]
async fn a_stalled_stream_pings_and_says_no_more() {
    let script = Script {
        ping_interval_ms: Some(20),
        ..Script::default()
    }
    .fault(Fault::at(1, FaultKind::Stall));
    let engine = ScriptedEngine::start(script).await.unwrap();
    let mut reader = SseReader::open(engine.address(), &streamed("x")).await.unwrap();
    assert!(matches!(reader.next(SOON).await.unwrap(), Some(Item::Event(_))));
    for _ in 0..3 {
        assert_eq!(
            reader.next(SOON).await.unwrap(),
            Some(Item::Comment(String::new()))
        );
    }
    assert_eq!(engine.report().active, 1);
}

#[tokio::test]
async fn odd_frames_are_odd_and_the_stream_goes_on() {
    let engine = with_fault(FaultKind::MalformedJson).await;
    let (seen, end) = read(&engine).await;
    assert!(end.is_ok());
    let broken: Vec<bool> = seen
        .iter()
        .map(|frame| serde_json::from_str::<serde_json::Value>(frame).is_err())
        .collect();
    assert_eq!(broken.iter().filter(|broken| **broken).count(), 1);
    assert!(broken[2] && seen.len() > 4);
    let (_, end) = read(&with_fault(FaultKind::BadUtf8).await).await;
    assert!(
        matches!(
            end,
            Err(Error::Grammar {
                what: "a line is not UTF-8",
                ..
            })
        ),
        "{end:?}"
    );
    let (seen, _) = read(&with_fault(FaultKind::Oversized(1 << 20)).await).await;
    assert!(seen[2].len() > 1 << 20);
}

#[tokio::test]
async fn a_dying_engine_takes_its_connections_and_its_port_along() {
    for kind in [FaultKind::Abort, FaultKind::Exit(1)] {
        let engine = with_fault(kind).await;
        let (seen, end) = read(&engine).await;
        assert!(end.is_err() && seen.len() <= 2);
        wait_for("the closed port", SOON, || async {
            match Connection::open(engine.address()).await {
                Err(http1::Error::Connect { .. }) => Look::Ready(()),
                other => Look::NotYet(other.is_ok()),
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_fault_can_be_limited_to_some_requests() {
    let fault = Fault::at(1, FaultKind::Rst).times(1).only_prompts_containing("x");
    let engine = ScriptedEngine::start(Script::default().fault(fault))
        .await
        .unwrap();
    let other = completion(json!({"prompt": "other", "n_predict": 3}));
    assert_eq!(call(engine.address(), &other).await.unwrap().status, 200);
    assert!(read(&engine).await.1.is_err());
    assert!(read(&engine).await.1.is_ok());
}

#[tokio::test]
async fn chunking_and_fragments_change_no_byte_of_the_events() {
    let plain = read(&ScriptedEngine::start(Script::default()).await.unwrap())
        .await
        .0;
    let odd = Script {
        tokens_per_write: 7.try_into().unwrap(),
        fragment_bytes: Some(3.try_into().unwrap()),
        ..Script::default()
    };
    let odd = read(&ScriptedEngine::start(odd).await.unwrap()).await.0;
    assert_eq!(
        plain[..plain.len() - 1],
        odd[..odd.len() - 1],
        "all but the final frame's timings"
    );
}

#[tokio::test]
async fn stray_and_empty_frames_can_be_had() {
    let script = Script {
        null_frame: true,
        empty_every: Some(3.try_into().unwrap()),
        ..Script::default()
    };
    let (seen, end) = read(&ScriptedEngine::start(script).await.unwrap()).await;
    assert!(end.is_ok());
    assert_eq!(seen[0], "null");
    assert!(seen[3].contains(r#""content":"","#), "{}", seen[3]);
}

#[tokio::test]
async fn health_lies_on_demand() {
    let engine = ScriptedEngine::start(Script {
        health: Health::Error,
        ..Script::default()
    })
    .await
    .unwrap();
    assert_eq!(
        call(engine.address(), &Call::get("/health"))
            .await
            .unwrap()
            .status,
        500
    );
    assert_eq!(
        call(engine.address(), &Call::get("/props")).await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn an_infinite_stream_never_ends() {
    let engine = ScriptedEngine::start(Script {
        infinite: true,
        ..Script::default()
    })
    .await
    .unwrap();
    let request = completion(json!({"prompt": "x", "n_predict": 1, "stream": true}));
    let mut reader = SseReader::open(engine.address(), &request).await.unwrap();
    for _ in 0..40_000 {
        assert!(reader.next_event(Duration::from_secs(5)).await.unwrap().is_some());
    }
}
