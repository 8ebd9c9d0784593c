//! Chats, embeddings and scores against the scripted engine: a live server in the same dialect that goes wrong on request.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::time::Duration;

use adapter_api::{Adapter, AdapterErrorKind as Kind, FinishCause, Job, Timeouts, TokenBatch};
use api_types::{Message, Role, TaskResult, TokenKind};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;
use test_harness_support::scripted_engine::{
    DISCLAIMER, EngineError, Fault, FaultKind, Launch, Script, ScriptedEngine, Text,
};
use test_harness_support::wait::{Look, wait_for};
use tokio::runtime::Builder;

use crate::common::{HASTY, Output, PATIENT, adapter, chat, config, embed, generate, rerank};

const LONG: Duration = Duration::from_secs(30);

/// An engine that serves everything.
async fn engine(script: Script) -> ScriptedEngine {
    let launch = Launch {
        embeddings: true,
        reranking: true,
        ..Launch::default()
    };
    ScriptedEngine::launch(launch, script).await.unwrap()
}

async fn run(script: Script, job: &Job, timeouts: Timeouts) -> Output {
    let engine = engine(script).await;
    generate(&adapter(&engine.base_url(), None, timeouts), job).await
}

fn result(output: &Output) -> &TaskResult {
    let finish = output.end.as_ref().unwrap();
    assert_eq!((finish.tokens_out, finish.cause), (0, FinishCause::Stop));
    assert!(output.texts.is_empty(), "{output:?}");
    finish.result.as_deref().unwrap()
}

/// ORCH-3522, ORCH-3523.
#[tokio::test]
async fn a_chat_costs_what_was_counted_before_it() {
    let engine = engine(Script::default().tokens(20)).await;
    let adapter = adapter(&engine.base_url(), None, PATIENT);
    let output = generate(&adapter, &chat("the moon é", 5)).await;
    assert!(output.texts.concat().starts_with(DISCLAIMER), "{output:?}");
    let finish = output.end.unwrap();
    assert_eq!(
        (finish.cause, finish.tokens_out, output.generated),
        (FinishCause::Length, 5, 5)
    );
    let messages = [Message::new(Role::User, "the moon é")];
    assert_eq!(
        adapter.count_chat_tokens(&messages).await,
        Ok(Some(finish.tokens_in))
    );
    assert!(output.kinds.iter().all(|kind| *kind == TokenKind::Text));
}

#[tokio::test]
async fn reasoning_comes_apart_and_whole() {
    let plain = run(Script::default().tokens(9), &chat("hi", 64), PATIENT).await;
    let script = Script {
        reasoning: 4,
        ..Script::default().tokens(9)
    };
    let output = run(script, &chat("hi", 64), PATIENT).await;
    assert_eq!(output.texts, plain.texts);
    let thoughts = output
        .kinds
        .iter()
        .filter(|kind| **kind == TokenKind::Reasoning)
        .count();
    assert_eq!((thoughts, output.kinds.len()), (4, 9));
}

#[tokio::test]
async fn characters_of_a_chat_stay_whole_however_bytes_arrive() {
    let script = || Script {
        text: Text::Multibyte,
        ..Script::default().tokens(12)
    };
    let whole = run(script(), &chat("hi", 64), PATIENT).await;
    let fragmented = Script {
        fragment_bytes: NonZeroUsize::new(1),
        ..script()
    };
    let fragmented = run(fragmented, &chat("hi", 64), PATIENT).await;
    assert_eq!(fragmented.texts, whole.texts);
    assert!(whole.end.is_ok() && whole.texts.iter().any(|text| !text.is_ascii()));
}

#[tokio::test]
async fn each_fault_of_a_chat_is_one_error_after_the_texts_before_it() {
    let healthy = run(Script::default().tokens(20), &chat("hi", 64), PATIENT).await;
    for (kind, expected) in [
        (FaultKind::InStreamError(EngineError::default()), Kind::Reset),
        (FaultKind::CleanEof, Kind::Reset),
        (FaultKind::Fin, Kind::Reset),
        (FaultKind::CutFrame, Kind::Reset),
        (FaultKind::Rst, Kind::Reset),
        (FaultKind::Stall, Kind::Timeout),
        (FaultKind::BadUtf8, Kind::Protocol),
        (FaultKind::MalformedJson, Kind::Protocol),
        (FaultKind::Oversized(9 << 20), Kind::Protocol),
    ] {
        let timeouts = if kind == FaultKind::Stall { HASTY } else { PATIENT };
        let script = Script::default().tokens(20).fault(Fault::at(3, kind.clone()));
        let output = run(script, &chat("hi", 64), timeouts).await;
        assert_eq!(output.error_kind(), Some(expected), "{kind:?}: {output:?}");
        // A reset may destroy what the client has not read yet.
        let complete = kind != FaultKind::Rst;
        assert!(
            healthy.texts[..3].starts_with(&output.texts),
            "{kind:?}: {output:?}"
        );
        assert!(!complete || output.texts.len() == 3, "{kind:?}: {output:?}");
    }
}

/// Whatever the chunking and the fault: texts of the healthy chat in order, then a finish or one error.
#[test]
fn token_star_then_one_end() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let healthy = runtime.block_on(run(Script::default().tokens(12), &chat("hi", 64), PATIENT));
    let kinds = vec![
        FaultKind::InStreamError(EngineError::default()),
        FaultKind::CleanEof,
        FaultKind::CutFrame,
        FaultKind::MalformedJson,
    ];
    let fault = (0..15_u32, prop::sample::select(kinds)).prop_map(|(at, kind)| Fault::at(at, kind));
    let knobs = (
        proptest::option::of(fault),
        proptest::option::of(1..200_usize),
        1..6_u32,
    );
    let mut runner = TestRunner::new(config(48));
    let ran = runner.run(&knobs, |(fault, fragment, per_write)| {
        let script = Script {
            fault: fault.clone(),
            fragment_bytes: fragment.and_then(NonZeroUsize::new),
            tokens_per_write: per_write.try_into().unwrap(),
            ..Script::default().tokens(12)
        };
        let output = runtime.block_on(run(script, &chat("hi", 64), PATIENT));
        prop_assert!(healthy.texts.starts_with(&output.texts), "{:?}", output);
        prop_assert!(output.end.is_ok() || fault.is_some(), "{:?}", output);
        Ok(())
    });
    ran.unwrap();
}

#[tokio::test]
async fn dropping_a_chat_or_a_wait_for_vectors_cancels() {
    let script = Script {
        infinite: true,
        ..Script::default().paced(0, 2_000)
    };
    let engine = engine(script).await;
    let adapter = adapter(&engine.base_url(), None, PATIENT);
    let active = |wanted: u32| {
        let engine = &engine;
        let look = move || async move {
            match engine.report().active {
                n if n == wanted => Look::Ready(()),
                n => Look::NotYet(n),
            }
        };
        wait_for("the engine's requests", LONG, look)
    };
    let mut stream = adapter.submit(&chat("hi", 64)).await.unwrap();
    let mut batch = TokenBatch::new();
    poll_fn(|cx| stream.poll_next(cx, &mut batch)).await.unwrap();
    active(1).await.unwrap();
    drop(stream);
    active(0).await.unwrap();

    engine.set_script(Script::default().paced(600_000, 0));
    let job = embed(&["a"]);
    tokio::select! {
        _ = adapter.submit(&job) => panic!("the answer is ten minutes away"),
        arrived = active(1) => arrived.unwrap(),
    }
    active(0).await.unwrap();
}

/// ORCH-3524: a result for every input, and the same for the same input.
#[tokio::test]
async fn vectors_and_scores_are_deterministic() {
    let engine = engine(Script::default()).await;
    let adapter = adapter(&engine.base_url(), None, PATIENT);
    let first = generate(&adapter, &embed(&["the moon", "a"])).await;
    let second = generate(&adapter, &embed(&["the moon", "a"])).await;
    assert_eq!(first, second);
    let TaskResult::Embedding {
        dimensions,
        embeddings,
    } = result(&first)
    else {
        panic!("{first:?}")
    };
    assert!(
        embeddings
            .iter()
            .all(|vector| vector.len() == *dimensions as usize)
    );
    assert_eq!(first.end.as_ref().unwrap().tokens_in, 9 + 2);
    let ranked = generate(&adapter, &rerank("the moon", &["bread", "the moon of the river"])).await;
    let TaskResult::Rerank { scores } = result(&ranked) else {
        panic!("{ranked:?}")
    };
    assert_eq!(scores.iter().map(|score| score.index).collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test]
async fn only_the_listed_fields_are_sent() {
    let engine = engine(Script::default()).await;
    let adapter = adapter(&engine.base_url(), None, PATIENT);
    generate(&adapter, &embed(&["a"])).await.end.unwrap();
    generate(&adapter, &rerank("q", &["a", "b"])).await.end.unwrap();
    let bodies: Vec<_> = engine
        .report()
        .requests
        .into_iter()
        .map(|r| (r.target, r.body.unwrap()))
        .collect();
    assert_eq!(
        bodies,
        [
            (
                "/v1/embeddings".to_owned(),
                json!({"input": ["a"], "encoding_format": "float"})
            ),
            (
                "/v1/rerank".to_owned(),
                json!({"query": "q", "documents": ["a", "b"], "top_n": 2})
            ),
        ]
    );
}

#[tokio::test]
async fn an_engine_that_was_not_started_for_it_is_named() {
    let engine = ScriptedEngine::start(Script::default()).await.unwrap();
    let adapter = adapter(&engine.base_url(), None, PATIENT);
    for (job, flag) in [
        (embed(&["a"]), "`--embeddings`"),
        (rerank("q", &["a"]), "`--reranking`"),
    ] {
        let error = generate(&adapter, &job).await.end.unwrap_err();
        assert_eq!(error.kind, Kind::Protocol);
        assert!(
            error.message.contains(flag) && error.message.contains("configuration"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_input_beyond_the_batch_is_refused_with_the_numbers() {
    let output = run(Script::default(), &embed(&["a", &"x".repeat(512)]), PATIENT).await;
    let error = output.end.unwrap_err();
    assert_eq!(error.kind, Kind::Rejected);
    assert!(
        error.message.contains("513 tokens") && error.message.contains("512"),
        "{error}"
    );
}

/// ORCH-3525: an answer that would fill the memory is not read.
#[tokio::test]
async fn an_answer_beyond_the_limit_is_refused_with_the_limit() {
    let fault = Fault::at(0, FaultKind::Oversized(65 << 20));
    let output = run(Script::default().fault(fault), &embed(&["a"]), PATIENT).await;
    let error = output.end.unwrap_err();
    assert_eq!(error.kind, Kind::Rejected);
    assert!(error.message.contains("67108864 bytes"), "{error}");
}

#[tokio::test]
async fn each_fault_of_an_answer_is_one_error() {
    for (kind, expected) in [
        (FaultKind::InStreamError(EngineError::default()), Kind::Reset),
        (FaultKind::Fin, Kind::Unavailable),
        (FaultKind::Rst, Kind::Unavailable),
        (FaultKind::Stall, Kind::Timeout),
        (FaultKind::MalformedJson, Kind::Protocol),
    ] {
        let timeouts = if kind == FaultKind::Stall { HASTY } else { PATIENT };
        for job in [embed(&["a"]), rerank("q", &["a"])] {
            let script = Script::default().fault(Fault::at(0, kind.clone()));
            let output = run(script, &job, timeouts).await;
            assert_eq!(output.error_kind(), Some(expected), "{kind:?}: {output:?}");
        }
    }
}
