//! The load against a real scripted engine on a real socket: healthy, paced, fragmented, and in every way wrong.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use test_harness_support::scripted_engine::{EngineError, Fault, FaultKind, Script, ScriptedEngine};
use test_harness_support::wait::{Look, wait_for};

use super::*;
use crate::stream::{Heard, Stamps};

async fn engine(script: Script) -> (ScriptedEngine, Target) {
    let engine = ScriptedEngine::start(script.tokens(u32::MAX)).await.unwrap();
    let template = json!({"stream": true, "cache_prompt": true});
    let dialect = Dialect::Completion(Arc::new(template.as_object().unwrap().clone()));
    let target = Target {
        address: engine.address(),
        dialect,
    };
    (engine, target)
}

fn jobs() -> impl ExactSizeIterator<Item = Job> {
    (0..4).map(|number| Job::numbered(number, 20))
}

async fn run(script: Script, stamps: Stamps) -> anyhow::Result<Vec<Heard>> {
    let (_engine, target) = engine(script).await;
    together(&target, jobs(), stamps, Duration::ZERO).await
}

fn texts(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|heard| heard.text.as_str()).collect()
}

#[tokio::test]
async fn the_same_jobs_give_the_same_texts_however_they_come() {
    let plain = run(Script::default(), Stamps::Absent).await.unwrap();
    let fragments = Script {
        fragment_bytes: NonZeroUsize::new(7),
        ..Script::default()
    };
    let stamped = Script {
        stamp_tokens: true,
        ..Script::default().paced(1, 500)
    };
    let batched = Script {
        tokens_per_write: std::num::NonZeroU32::new(8).unwrap(),
        ..Script::default()
    };
    assert_eq!(
        texts(&run(fragments, Stamps::Absent).await.unwrap()),
        texts(&plain)
    );
    assert_eq!(
        texts(&run(stamped, Stamps::Present).await.unwrap()),
        texts(&plain)
    );
    assert_eq!(texts(&run(batched, Stamps::Absent).await.unwrap()), texts(&plain));
    assert_ne!(plain[0].text, plain[1].text, "different prompts");
}

#[tokio::test]
async fn every_stamped_token_has_an_age() {
    let script = Script {
        stamp_tokens: true,
        ..Script::default()
    };
    let heard = run(script, Stamps::Present).await.unwrap();
    assert!(heard.iter().all(|heard| heard.ages_ns.len() == 20));
    assert!(
        run(Script::default(), Stamps::Present).await.is_err(),
        "an engine that does not stamp"
    );
}

#[tokio::test]
async fn one_broken_stream_fails_the_run() {
    for kind in [
        FaultKind::InStreamError(EngineError::default()),
        FaultKind::CleanEof,
        FaultKind::Fin,
        FaultKind::CutFrame,
        FaultKind::Rst,
        FaultKind::BadUtf8,
        FaultKind::MalformedJson,
        FaultKind::Oversized(10),
    ] {
        let script = Script::default().fault(Fault::at(7, kind.clone()).times(1));
        assert!(run(script, Stamps::Absent).await.is_err(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words() {
    let script = Script {
        refuse_completions: Some(EngineError::default()),
        ..Script::default()
    };
    let message = format!("{:#}", run(script, Stamps::Absent).await.unwrap_err());
    assert!(message.contains("Context size has been exceeded"), "{message}");
}

/// The engine closes each connection after 100 requests.
#[tokio::test]
async fn a_client_goes_on_when_its_connection_ends() {
    let (engine, target) = engine(Script::default()).await;
    let heard = together(&target, jobs(), Stamps::Absent, Duration::ZERO)
        .await
        .unwrap();
    let known: Arc<[Known]> = jobs()
        .zip(heard)
        .map(|(job, heard)| Known {
            job,
            text: heard.text,
        })
        .collect();
    one_after_the_other(&target, &known, 2, 110).await.unwrap();
    assert_eq!(engine.report().requests_total, 4 + 220);
    let wrong: Arc<[Known]> = known
        .iter()
        .map(|known| Known {
            text: "other".to_owned(),
            ..known.clone()
        })
        .collect();
    assert!(one_after_the_other(&target, &wrong, 1, 1).await.is_err());
}

#[tokio::test]
async fn held_streams_arrive_stay_and_go() {
    let (engine, target) = engine(Script::default().paced(0, 2_000)).await;
    let job = Job::numbered(0, 10_000);
    let text = test_harness_support::scripted_engine::DISCLAIMER.to_owned();
    let mut held = HeldStreams::open(&target, &Arc::new(Known { job, text }), 4, Duration::ZERO);
    held.all_arrived().await.unwrap();
    held.still_open().unwrap();
    assert_eq!(engine.report().active, 4);
    drop(held);
    wait_for("an engine without clients", Duration::from_secs(10), || async {
        match engine.report().active {
            0 => Look::Ready(()),
            active => Look::NotYet(active),
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_held_stream_that_ends_or_says_something_else_is_an_error() {
    let (_engine, target) = engine(Script::default()).await;
    for text in [
        test_harness_support::scripted_engine::DISCLAIMER,
        "something else",
    ] {
        let known = Known {
            job: Job::numbered(0, 5),
            text: text.to_owned(),
        };
        let mut held = HeldStreams::open(&target, &Arc::new(known), 2, Duration::ZERO);
        let arrived = held.all_arrived().await;
        let ended = arrived.and(all_end(&mut held).await);
        assert!(ended.is_err(), "{text}");
    }
}

async fn all_end(held: &mut HeldStreams) -> anyhow::Result<()> {
    let looked = wait_for("the end of a stream", Duration::from_secs(10), || {
        let look = match held.still_open() {
            Ok(()) => Look::NotYet("open"),
            Err(error) => Look::Ready(error),
        };
        std::future::ready(look)
    });
    Err(looked.await?)
}
