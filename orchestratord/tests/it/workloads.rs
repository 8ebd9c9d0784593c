//! Chat, embedding and rerank through both daemons and engine processes that were started for them
//! (ORCH-3520 … ORCH-3526).

use serde_json::{Value, json};
use test_harness_support::http1::{Answer, Call};
use test_harness_support::scripted_engine::{Fault, FaultKind, RequestRecord, Script};
use test_harness_support::sse::{Event, SseReader};
use test_harness_support::stream_check::{StreamCheck, Summary, Terminal};
use test_harness_support::system::{MODEL, Plan, PoolPlan, System};
use test_harness_support::wait::{Look, wait_for};

use crate::fixture::LIMIT;

/// Tokens of one slot's context.
const CTX: u32 = 1024;

fn pool(id: &str, gpu: usize, workloads: &str, script: Script) -> PoolPlan {
    PoolPlan {
        ctx: CTX,
        extra: format!("workloads = {workloads}"),
        ..PoolPlan::new(id, gpu, 1).script(script)
    }
}

/// One pool for each kind of work, all for the same model.
async fn system(script: &Script) -> System {
    let pools = vec![
        pool("text", 0, r#"["completion", "chat"]"#, script.clone()),
        pool("vectors", 1, r#"["embedding"]"#, script.clone()),
        pool("scores", 1, r#"["rerank"]"#, script.clone()),
    ];
    let plan = Plan {
        pools,
        ..Plan::default()
    };
    System::start(plan).await.unwrap()
}

fn chat(content: &str, more: Value) -> Value {
    let messages = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": content}]);
    with(
        json!({"model_ref": MODEL, "workload": "chat", "messages": messages, "seed": 7}),
        more,
    )
}

fn embedding(inputs: &[&str]) -> Value {
    json!({"model_ref": MODEL, "workload": "embedding", "inputs": inputs})
}

fn rerank(query: &str, inputs: &[&str]) -> Value {
    json!({"model_ref": MODEL, "workload": "rerank", "query": query, "inputs": inputs})
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

async fn post(system: &System, body: &Value) -> Answer {
    system.call(Call::post_json("/v1/tasks", body)).await.unwrap()
}

async fn submit(system: &System, body: &Value) -> String {
    let answer = post(system, body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let receipt: Value = answer.json().unwrap();
    receipt["task_id"].as_str().unwrap().to_owned()
}

async fn events(system: &System, task: &str) -> Vec<Event> {
    let call = Call::get(&format!("/v1/tasks/{task}/stream"));
    let mut reader = SseReader::open(system.address(), &call).await.unwrap();
    reader.all_events(LIMIT).await.unwrap()
}

async fn run(system: &System, body: &Value) -> Summary {
    let task = submit(system, body).await;
    let events = events(system, &task).await;
    StreamCheck::whole(&events).unwrap_or_else(|violation| panic!("{violation}\n{}", system.logs()))
}

fn end(summary: &Summary) -> &Value {
    match &summary.terminal {
        Terminal::End(end) => end,
        Terminal::Error(error) => panic!("{error}"),
    }
}

async fn asked(system: &System, pool: &str, target: &str) -> Vec<RequestRecord> {
    let report = system.engine(pool).await.unwrap().report().await.unwrap();
    report
        .requests
        .into_iter()
        .filter(|r| r.target == target)
        .collect()
}

/// What the scripted template makes of [`chat`]: one token a byte and one for the beginning.
fn rendered_tokens(content: &str) -> u64 {
    1 + "[system] be brief\n[user] \n[assistant] ".len() as u64 + content.len() as u64
}

#[tokio::test]
async fn a_chat_streams_its_tokens_and_is_counted_as_the_template_renders_it() {
    let system = system(&Script::default().tokens(2000)).await;
    let summary = run(&system, &chat("what shines?", json!({"max_tokens": 6}))).await;
    assert_eq!(summary.tokens.len(), 6);
    let end = end(&summary);
    assert_eq!(
        (&end["finish_reason"], &end["pool_id"]),
        (&json!("length"), &json!("text"))
    );
    assert_eq!(
        (end["tokens_in"].as_u64(), end["tokens_out"].as_u64()),
        (Some(rendered_tokens("what shines?")), Some(6))
    );
    assert_eq!(end.get("result"), None);
    let requests = asked(&system, "text", "/v1/chat/completions").await;
    let sent = requests[0].body.as_ref().unwrap();
    assert_eq!(
        sent["messages"][1],
        json!({"role": "user", "content": "what shines?"})
    );
    let again = run(&system, &chat("what shines?", json!({"max_tokens": 6}))).await;
    assert_eq!(again.tokens, summary.tokens, "the same seed says the same");
}

/// ORCH-3523: what the engine tells apart stays apart, and indexes count everything.
#[tokio::test]
async fn reasoning_is_told_apart_from_the_answer() {
    let script = Script {
        reasoning: 3,
        ..Script::default().tokens(8)
    };
    let system = system(&script).await;
    let task = submit(&system, &chat("hi", json!({}))).await;
    let events = events(&system, &task).await;
    StreamCheck::whole(&events).unwrap();
    let tokens: Vec<Value> = events
        .iter()
        .filter(|event| event.name.as_deref() == Some("token"))
        .map(|event| serde_json::from_str(&event.data).unwrap())
        .collect();
    let kinds: Vec<Option<&str>> = tokens.iter().map(|token| token["kind"].as_str()).collect();
    let thought = Some("reasoning");
    assert_eq!(kinds, [thought, thought, thought, None, None, None, None, None]);
    assert!((0..8).eq(tokens.iter().map(|token| token["i"].as_u64().unwrap())));
}

#[tokio::test]
async fn embeddings_come_whole_in_the_end_event() {
    let system = system(&Script::default()).await;
    let body = embedding(&["the moon", "a", "the moon"]);
    let summary = run(&system, &body).await;
    assert!(summary.tokens.is_empty());
    let end = end(&summary);
    assert_eq!(
        (
            &end["tokens_in"],
            &end["tokens_out"],
            &end["pool_id"],
            &end["finish_reason"]
        ),
        (&json!(9 + 2 + 9), &json!(0), &json!("vectors"), &json!("stop"))
    );
    let result = &end["result"];
    assert_eq!(result["type"], "embedding");
    let vectors = result["embeddings"].as_array().unwrap();
    let length = result["dimensions"].as_u64().unwrap() as usize;
    assert!(length > 0 && vectors.iter().all(|v| v.as_array().unwrap().len() == length));
    assert_eq!(vectors.len(), 3);
    assert!(vectors[0] == vectors[2] && vectors[0] != vectors[1]);
    let again = run(&system, &body).await;
    assert_eq!(
        &self::end(&again)["result"],
        result,
        "the same inputs give the same numbers"
    );
}

#[tokio::test]
async fn rerank_scores_every_input_best_first() {
    let system = system(&Script::default()).await;
    let summary = run(
        &system,
        &rerank(
            "the moon",
            &["bread and butter", "the moon of the river", "the sun"],
        ),
    )
    .await;
    assert!(summary.tokens.is_empty());
    let end = end(&summary);
    assert_eq!(
        (&end["tokens_out"], &end["pool_id"]),
        (&json!(0), &json!("scores"))
    );
    assert!(end["tokens_in"].as_u64().unwrap() > 0);
    assert_eq!(end["result"]["type"], "rerank");
    let scores = end["result"]["scores"].as_array().unwrap();
    let order: Vec<u64> = scores
        .iter()
        .map(|score| score["index"].as_u64().unwrap())
        .collect();
    assert_eq!(order, [1, 2, 0]);
    let values: Vec<f64> = scores
        .iter()
        .map(|score| score["score"].as_f64().unwrap())
        .collect();
    assert!(values.is_sorted_by(|a, b| a >= b), "{values:?}");
}

/// ORCH-3526: what a pool is configured for is what is shown, and what is placed there.
#[tokio::test]
async fn every_pool_says_truthfully_what_it_serves() {
    let system = system(&Script::default()).await;
    let answer = system.call(Call::get("/v1/capabilities")).await.unwrap();
    let shown: Value = answer.json().unwrap();
    let of = |id: &str| {
        let pools = shown["pools"].as_array().unwrap();
        pools.iter().find(|pool| pool["pool_id"] == id).unwrap()["supported_workloads"].clone()
    };
    assert_eq!(of("text"), json!(["completion", "chat"]));
    assert_eq!(of("vectors"), json!(["embedding"]));
    assert_eq!(of("scores"), json!(["rerank"]));
    let pinned = with(
        embedding(&["a"]),
        json!({"placement": {"mode": "pin", "pin_pool_id": "text"}}),
    );
    let answer = post(&system, &pinned).await;
    let body: Value = answer.json().unwrap();
    assert_eq!(
        (answer.status, &body["code"]),
        (503, &json!("POOL_UNAVAILABLE")),
        "{body}"
    );
    assert!(body["message"].as_str().unwrap().contains("embedding"), "{body}");
}

/// ORCH-3522: before anything waits, with both numbers.
#[tokio::test]
async fn what_cannot_fit_is_refused_before_it_is_enqueued() {
    let system = system(&Script::default().tokens(2000)).await;
    // The content alone would fit; the template's text around it does not.
    let longest = u64::from(CTX) - rendered_tokens("") - 8;
    let fits = "x".repeat(longest as usize);
    let summary = run(&system, &chat(&fits, json!({"max_tokens": 8}))).await;
    assert_eq!(end(&summary)["tokens_in"], longest + rendered_tokens(""));
    let input = "x".repeat(CTX as usize - 2);
    let summary = run(&system, &embedding(&["a", &input])).await;
    assert_eq!(
        end(&summary)["tokens_in"],
        2 + CTX - 1,
        "the longest input that fits, counted with its beginning"
    );
    for (body, field, number) in [
        (
            chat(&format!("{fits}x"), json!({"max_tokens": 8})),
            "messages",
            "1017 tokens",
        ),
        (embedding(&["a", &format!("{input}x")]), "inputs", "1024 tokens"),
        (rerank("why", &["a", &input]), "inputs", "tokens"),
    ] {
        let answer = post(&system, &body).await;
        let told: Value = answer.json().unwrap();
        let message = told["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (answer.status, &told["code"]),
            (400, &json!("INVALID_PARAMS")),
            "{told}"
        );
        assert!(message.starts_with(&format!("{field}: ")), "{message}");
        assert!(message.contains(number) && message.contains("1024"), "{message}");
    }
    assert_eq!(asked(&system, "text", "/v1/chat/completions").await.len(), 1);
    assert_eq!(
        asked(&system, "vectors", "/v1/embeddings")
            .await
            .iter()
            .filter(|r| r.body != Some(json!({})))
            .count(),
        1
    );
    assert_eq!(
        asked(&system, "scores", "/v1/rerank")
            .await
            .iter()
            .filter(|r| r.body != Some(json!({})))
            .count(),
        0
    );
}

/// ORCH-3520: every field against every workload it does not belong to, over HTTP.
#[tokio::test]
async fn a_field_of_another_workload_is_named() {
    let system = system(&Script::default()).await;
    let own = |workload: &str| match workload {
        "completion" => json!({"prompt": "p"}),
        "chat" => json!({"messages": [{"role": "user", "content": "c"}]}),
        "embedding" => json!({"inputs": ["i"]}),
        _ => json!({"inputs": ["i"], "query": "q"}),
    };
    for workload in ["completion", "chat", "embedding", "rerank"] {
        for (field, value) in [
            ("prompt", json!("p")),
            ("messages", json!([{"role": "user", "content": "c"}])),
            ("inputs", json!(["i"])),
            ("query", json!("q")),
            ("max_tokens", json!(4)),
            ("sampling", json!({"temperature": 0.5})),
        ] {
            let base = with(json!({"model_ref": MODEL, "workload": workload}), own(workload));
            let steers = matches!(field, "max_tokens" | "sampling");
            let generates = matches!(workload, "completion" | "chat");
            if base.get(field).is_some() || (steers && generates) {
                continue;
            }
            let answer = post(&system, &with(base, json!({field: value}))).await;
            let body: Value = answer.json().unwrap();
            assert_eq!(
                (answer.status, &body["code"]),
                (400, &json!("INVALID_PARAMS")),
                "{workload} {field}"
            );
            let message = body["message"].as_str().unwrap();
            assert!(
                message.starts_with(&format!("{field}: ")),
                "{workload} {field}: {message}"
            );
        }
    }
    let wizard = json!([{"role": "wizard", "content": "c"}]);
    let body = json!({"model_ref": MODEL, "workload": "chat", "messages": wizard});
    let told: Value = post(&system, &body).await.json().unwrap();
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("messages[0].role") && message.contains("wizard"),
        "{message}"
    );
}

#[tokio::test]
async fn the_same_chat_twice_is_one_task() {
    let system = system(&Script::default()).await;
    let id = json!({"task_id": "6f1f64c8-5d0c-4f3a-9c1e-0d8f2b7a4e11"});
    let first = post(&system, &chat("hi", id.clone())).await;
    let second = post(&system, &chat("hi", id.clone())).await;
    assert_eq!((first.status, second.text()), (202, first.text()));
    let other = post(&system, &chat("ho", id)).await;
    assert_eq!(other.status, 409, "{}", other.text());
}

#[tokio::test]
async fn work_without_tokens_is_cancelled_like_any_other() {
    let system = system(&Script::default().paced(600_000, 0)).await;
    let task = submit(&system, &embedding(&["a"])).await;
    let busy = || async {
        let report = system.engine("vectors").await.unwrap().report().await.unwrap();
        if report.active == 1 {
            Look::Ready(())
        } else {
            Look::NotYet(report.active)
        }
    };
    wait_for("the engine to compute", LIMIT, busy).await.unwrap();
    let answer = system
        .call(Call::post(&format!("/v1/tasks/{task}/cancel")))
        .await
        .unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
    let summary = StreamCheck::whole(&events(&system, &task).await).unwrap();
    let end = end(&summary);
    assert_eq!(
        (&end["finish_reason"], end.get("result")),
        (&json!("canceled"), None)
    );
    let free = |pools: &[Value]| pools.iter().all(|pool| pool["slots_free"] == pool["slots_total"]);
    system.wait_pools("all slots to be free", free).await.unwrap();
}

#[tokio::test]
async fn an_engine_that_breaks_before_its_answer_is_asked_again() {
    let fault = Fault::at(0, FaultKind::Fin).times(1);
    let system = system(&Script::default().fault(fault)).await;
    let summary = run(&system, &embedding(&["the moon"])).await;
    assert_eq!(end(&summary)["result"]["type"], "embedding");
    let summary = run(&system, &rerank("q", &["a"])).await;
    assert_eq!(end(&summary)["result"]["type"], "rerank");
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error_and_not_an_empty_result() {
    let system = system(&Script::default().fault(Fault::at(0, FaultKind::MalformedJson))).await;
    for body in [embedding(&["a"]), rerank("q", &["a"])] {
        let summary = run(&system, &body).await;
        let Terminal::Error(error) = &summary.terminal else {
            panic!("{summary:?}")
        };
        assert_eq!(error["code"], "INTERNAL", "{error}");
    }
}
