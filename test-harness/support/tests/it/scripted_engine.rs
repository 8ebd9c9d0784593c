//! The scripted engine over real sockets: routes, streams, slots, keys, as the real server has them.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use test_harness_support::http1::{Answer, Call, Connection, call};
use test_harness_support::scripted_engine::{DISCLAIMER, End, Launch, Script, ScriptedEngine, Text};
use test_harness_support::sse::{Error as SseError, SseReader};
use test_harness_support::wait::{Look, wait_for};

pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) fn completion(body: Value) -> Call {
    Call::post_json("/completion", &body)
}

pub(crate) fn streamed(prompt: &str) -> Call {
    completion(json!({"prompt": prompt, "stream": true, "seed": 1}))
}

async fn ask(address: SocketAddr, request: Call) -> Answer {
    call(address, &request).await.unwrap()
}

/// The frames of a stream that ends properly.
async fn frames(address: SocketAddr, request: Call) -> Vec<Value> {
    let mut reader = SseReader::open(address, &request).await.unwrap();
    let events = reader.all_events(SOON).await.unwrap();
    events
        .iter()
        .map(|event| serde_json::from_str(&event.data).unwrap())
        .collect()
}

fn text_of(frames: &[Value]) -> String {
    frames
        .iter()
        .filter_map(|frame| frame["content"].as_str())
        .collect()
}

#[tokio::test]
async fn a_stream_has_the_recorded_form() {
    let engine = ScriptedEngine::start(Script::default()).await.unwrap();
    let request = completion(json!({"prompt": "the moon", "n_predict": 4, "stream": true, "seed": 42}));
    let mut reader = SseReader::open(engine.address(), &request).await.unwrap();
    assert_eq!(reader.head().header("x-accel-buffering"), Some("no"));
    assert_eq!(reader.head().header("keep-alive"), Some("timeout=5, max=100"));
    let events = reader.all_events(SOON).await.unwrap();
    let first = format!(
        r#"{{"index":0,"content":"{DISCLAIMER}","tokens":[259],"stop":false,"id_slot":-1,"tokens_predicted":1,"tokens_evaluated":9}}"#
    );
    assert_eq!(events[0].data, first);
    let last: Value = serde_json::from_str(&events[4].data).unwrap();
    assert_eq!(events.len(), 5, "four tokens and the final frame, no [DONE]");
    assert_eq!(
        (last["stop_type"].as_str(), last["tokens_predicted"].as_u64()),
        (Some("limit"), Some(4))
    );
    assert_eq!(
        (last["prompt"].as_str(), last["id_slot"].as_i64()),
        (Some("<s> the moon"), Some(0))
    );
    assert_eq!(last["generation_settings"]["seed"], 42);
    assert!(last["timings"]["predicted_ms"].is_number());
}

#[tokio::test]
async fn the_same_seed_says_the_same_streamed_or_not() {
    let engine = ScriptedEngine::start(Script::default()).await.unwrap();
    let request = |seed: u64, stream| completion(json!({"prompt": "x", "seed": seed, "stream": stream}));
    let one = text_of(&frames(engine.address(), request(1, true)).await);
    let again: Value = ask(engine.address(), request(1, false)).await.json().unwrap();
    assert_eq!(Some(one.as_str()), again["content"].as_str());
    assert_ne!(one, text_of(&frames(engine.address(), request(2, true)).await));
    let random = || async { text_of(&frames(engine.address(), request(4_294_967_295, true)).await) };
    assert_ne!(random().await, random().await);
}

#[tokio::test]
async fn special_lengths_are_those_of_the_real_server() {
    let engine = ScriptedEngine::launch(
        Launch {
            ctx: 256,
            parallel: Some(1),
            ..Launch::default()
        },
        Script::default(),
    )
    .await
    .unwrap();
    let address = engine.address();
    let zero = frames(
        address,
        completion(json!({"prompt": "x", "n_predict": 0, "stream": true})),
    )
    .await;
    assert_eq!(zero.last().unwrap()["tokens_predicted"], 1);
    let eos = frames(address, completion(json!({"prompt": "x", "stream": true}))).await;
    let (eos_frame, last) = (&eos[eos.len() - 2], &eos[eos.len() - 1]);
    assert_eq!(
        (&eos_frame["content"], &eos_frame["tokens"]),
        (&json!(""), &json!([2]))
    );
    assert_eq!(last["stop_type"], "eos");
    let full = frames(
        address,
        completion(json!({"prompt": "x", "ignore_eos": true, "stream": true})),
    )
    .await;
    let last = full.last().unwrap();
    assert_eq!(
        (&last["truncated"], &last["stop_type"]),
        (&json!(true), &json!("limit"))
    );
    assert_eq!(last["tokens_predicted"], 254, "256 less the prompt's two tokens");
}

#[tokio::test]
async fn characters_of_several_tokens_make_the_count_jump() {
    let script = Script {
        text: Text::Multibyte,
        ..Script::default()
    }
    .tokens(30);
    let engine = ScriptedEngine::start(script).await.unwrap();
    let frames = frames(engine.address(), streamed("x")).await;
    let last = frames.last().unwrap();
    assert!(last["tokens_predicted"].as_u64().unwrap() > frames.len() as u64);
    assert!(
        text_of(&frames)
            .chars()
            .any(|c| c.len_utf8() == 4 || c.len_utf8() == 3)
    );
}

#[tokio::test]
async fn the_final_frame_can_be_trimmed_and_ends_with_a_stop_word() {
    let engine = ScriptedEngine::start(Script::default()).await.unwrap();
    let request = json!({
        "prompt": "x", "stream": true, "seed": 5, "stop": ["no inference"],
        "response_fields": ["stop_type", "tokens_predicted", "stopping_word", "timings/predicted_n"]
    });
    let frames = frames(engine.address(), completion(request)).await;
    assert_eq!(text_of(&frames), "[scripted engine: ");
    let expected = json!({"stop_type": "word", "tokens_predicted": 1, "stopping_word": "no inference", "timings/predicted_n": 1});
    assert_eq!(frames.last().unwrap(), &expected);
}

#[tokio::test]
async fn while_loading_every_route_says_so() {
    let engine = ScriptedEngine::start(Script::default().loading_for(600_000))
        .await
        .unwrap();
    for request in [Call::get("/health"), Call::get("/nope"), streamed("x")] {
        let answer = ask(engine.address(), request).await;
        let body = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
        assert_eq!((answer.status, answer.text().as_str()), (503, body));
    }
    engine.set_script(Script::default());
    let answer = ask(engine.address(), Call::get("/health")).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, r#"{"status":"ok"}"#)
    );
}

#[tokio::test]
async fn what_it_tells_about_itself_fits_its_launch() {
    let launch = Launch {
        ctx: 1024,
        parallel: Some(2),
        alias: Some("m".to_owned()),
        metrics: true,
        ..Launch::default()
    };
    let engine = ScriptedEngine::launch(launch, Script::default()).await.unwrap();
    let address = engine.address();
    let props: Value = ask(address, Call::get("/props")).await.json().unwrap();
    assert_eq!(
        (
            &props["total_slots"],
            &props["default_generation_settings"]["n_ctx"]
        ),
        (&json!(2), &json!(512))
    );
    assert_eq!(
        props["default_generation_settings"]["params"]["seed"],
        4_294_967_295_u64
    );
    let models: Value = ask(address, Call::get("/v1/models")).await.json().unwrap();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][0]["meta"]["n_ctx"]),
        (&json!("m"), &json!(512))
    );
    let slots: Value = ask(address, Call::get("/slots")).await.json().unwrap();
    assert_eq!(
        slots[1],
        json!({"id": 1, "n_ctx": 512, "speculative": false, "is_processing": false})
    );
    frames(
        address,
        completion(json!({"prompt": "abc", "n_predict": 5, "stream": true})),
    )
    .await;
    let slots: Value = ask(address, Call::get("/slots")).await.json().unwrap();
    assert_eq!(
        (&slots[0]["is_processing"], &slots[0]["n_prompt_tokens"]),
        (&json!(false), &json!(4))
    );
    let metrics = ask(address, Call::get("/metrics")).await.text();
    assert!(
        metrics.contains("\nllamacpp:tokens_predicted_total 5\n"),
        "{metrics}"
    );
    let tokens: Value = ask(address, Call::post_json("/tokenize", &json!({"content": "é!"})))
        .await
        .json()
        .unwrap();
    let text: Value = ask(address, Call::post_json("/detokenize", &tokens))
        .await
        .json()
        .unwrap();
    assert_eq!(text, json!({"content": "é!"}));
}

#[tokio::test]
async fn errors_have_the_recorded_status_and_type() {
    let engine = ScriptedEngine::launch(
        Launch {
            ctx: 512,
            parallel: Some(1),
            ..Launch::default()
        },
        Script::default(),
    )
    .await
    .unwrap();
    let long = json!({"prompt": "x".repeat(2401), "stream": true});
    for (request, status, kind) in [
        (Call::post("/completion").body("{"), 500, "server_error"),
        (completion(json!({"n_predict": 1})), 400, "invalid_request_error"),
        (completion(long), 400, "exceed_context_size_error"),
        (Call::get("/completion"), 404, "not_found_error"),
        (Call::get("/metrics"), 501, "not_supported_error"),
    ] {
        let answer = ask(engine.address(), request).await;
        let body: Value = answer.json().unwrap();
        assert_eq!(
            (answer.status, body["error"]["type"].as_str()),
            (status, Some(kind))
        );
    }
    let overflow: Value = ask(engine.address(), completion(json!({"prompt": "x".repeat(2401)})))
        .await
        .json()
        .unwrap();
    assert_eq!(
        (&overflow["error"]["n_prompt_tokens"], &overflow["error"]["n_ctx"]),
        (&json!(2402), &json!(512))
    );
}

#[tokio::test]
async fn a_key_guards_all_but_health() {
    let engine = ScriptedEngine::launch(
        Launch {
            api_keys: vec!["k".to_owned()],
            ..Launch::default()
        },
        Script::default(),
    )
    .await
    .unwrap();
    let address = engine.address();
    assert_eq!(ask(address, Call::get("/health")).await.status, 200);
    let refused = ask(address, Call::get("/props")).await;
    let body = r#"{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}"#;
    assert_eq!((refused.status, refused.text().as_str()), (401, body));
    assert_eq!(ask(address, Call::get("/props").bearer("k")).await.status, 200);
    assert_eq!(
        ask(address, Call::get("/props").header("X-Api-Key", "k"))
            .await
            .status,
        200
    );
    assert_eq!(
        ask(address, Call::get("/props").bearer("wrong")).await.status,
        401
    );
}

#[tokio::test]
async fn a_queued_request_gets_no_byte_until_a_slot_is_free() {
    let script = Script {
        infinite: true,
        ..Script::default()
    }
    .paced(0, 1_000);
    let engine = ScriptedEngine::launch(
        Launch {
            parallel: Some(1),
            ..Launch::default()
        },
        script,
    )
    .await
    .unwrap();
    let address = engine.address();
    let mut first = SseReader::open(address, &streamed("first")).await.unwrap();
    first.next_event(SOON).await.unwrap();
    let mut second = Connection::open(address).await.unwrap();
    second.send(&streamed("second").bytes("engine")).await.unwrap();
    let busy = ask(address, Call::get("/slots?fail_on_no_slot=1")).await;
    let body = r#"{"error":{"code":503,"message":"no slot available","type":"unavailable_error"}}"#;
    assert_eq!((busy.status, busy.text().as_str()), (503, body));
    let silent = tokio::time::timeout(Duration::from_millis(100), second.head()).await;
    assert!(silent.is_err(), "the second request was answered: {silent:?}");
    assert_eq!(engine.report().active, 1);
    drop(first);
    assert_eq!(second.head().await.unwrap().status, 200);
    assert_eq!(engine.report().active_high_water, 1);
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_slot_and_is_recorded() {
    let script = Script {
        infinite: true,
        ..Script::default()
    }
    .paced(0, 1_000);
    let engine = ScriptedEngine::launch(
        Launch {
            parallel: Some(1),
            ..Launch::default()
        },
        script,
    )
    .await
    .unwrap();
    let mut reader = SseReader::open(engine.address(), &streamed("x").header("X-Mark", "7"))
        .await
        .unwrap();
    for _ in 0..3 {
        reader.next_event(SOON).await.unwrap().unwrap();
    }
    // Closing the writing half counts too, as with the real server.
    let mut connection = reader.into_connection();
    connection.finish_sending().await.unwrap();
    let record = wait_for("the disconnect", SOON, || async {
        let record = engine.report().requests.remove(0);
        if record.end == End::ClientGone {
            Look::Ready(record)
        } else {
            Look::NotYet(record)
        }
    });
    let record = record.await.unwrap();
    assert!(record.tokens_written >= 3 && record.client_gone_us.is_some() && record.slot_us.is_some());
    assert_eq!(record.headers.get("x-mark").map(String::as_str), Some("7"));
    assert_eq!(record.body.unwrap()["prompt"], "x");
    assert_eq!(engine.report().active, 0);
}

#[tokio::test]
async fn a_connection_serves_a_hundred_requests_and_no_more() {
    let engine = ScriptedEngine::start(Script::default()).await.unwrap();
    let mut connection = Connection::open(engine.address()).await.unwrap();
    for served in 1..=100 {
        connection
            .send(&Call::get("/health").bytes("engine"))
            .await
            .unwrap();
        let answer = connection.answer().await.unwrap();
        let close = answer.header("connection");
        assert_eq!(close, (served == 100).then_some("close"), "request {served}");
    }
    assert_eq!(connection.read_to_close().await.unwrap(), b"");
}

#[tokio::test]
async fn tokens_keep_an_absolute_schedule() {
    let engine = ScriptedEngine::start(Script::default().paced(20, 2_000).tokens(50))
        .await
        .unwrap();
    let started = tokio::time::Instant::now();
    frames(engine.address(), streamed("x")).await;
    // 20 ms and 50 steps of 2 ms. Only the lower bound is certain on a loaded machine.
    assert!(
        started.elapsed() >= Duration::from_millis(120),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_refused_completion_is_a_plain_error() {
    let error = test_harness_support::scripted_engine::EngineError::new(503, "unavailable_error", "busy");
    let engine = ScriptedEngine::start(Script {
        refuse_completions: Some(error),
        ..Script::default()
    })
    .await
    .unwrap();
    let refused = SseReader::open(engine.address(), &streamed("x"))
        .await
        .unwrap_err();
    let SseError::Refused(answer) = refused else {
        panic!("{refused}")
    };
    assert_eq!(answer.status, 503);
}

/// Whether the server closes the connection of a completion that it has promised to keep.
pub(crate) async fn closes_after(address: SocketAddr, request: &Call) -> bool {
    let mut connection = Connection::open(address).await.unwrap();
    connection.send(&request.bytes("engine")).await.unwrap();
    let answer = connection.answer().await.unwrap();
    assert_eq!(answer.head.header("keep-alive"), Some("timeout=5, max=100"));
    // A closed connection may take the next request, but never answers it.
    let next = connection.send(&Call::get("/health").bytes("engine")).await;
    next.is_err() || connection.answer().await.is_err()
}

#[tokio::test]
async fn the_connection_of_a_stream_is_closed_against_the_servers_word() {
    let engine = ScriptedEngine::start(Script::default()).await.unwrap();
    assert!(closes_after(engine.address(), &streamed("x")).await);
    let whole = completion(json!({"prompt": "x", "stream": false}));
    assert!(!closes_after(engine.address(), &whole).await);
}
