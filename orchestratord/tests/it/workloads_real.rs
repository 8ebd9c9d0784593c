//! Chat, embedding and rerank through both daemons and the real llama.cpp server on a generated model (ORCH-3521, ORCH-3522,
//! ORCH-3526).

use serde_json::{Value, json};
use test_harness_support::http1::{Answer, Call};
use test_harness_support::real_engine::llama_server;
use test_harness_support::sse::SseReader;
use test_harness_support::stream_check::{StreamCheck, Summary, Terminal};
use test_harness_support::system::{EngineChoice, MODEL, Plan, PoolPlan, System};

use std::time::Duration;

/// Real inference on a shared machine.
const LONG: Duration = Duration::from_secs(120);

const CTX: u64 = 512;

fn pool(id: &str, gpu: usize, extra: &str) -> PoolPlan {
    PoolPlan {
        ctx: CTX as u32,
        extra: extra.to_owned(),
        ..PoolPlan::new(id, gpu, 1)
    }
}

async fn start(node_env: &[(&str, &str)]) -> System {
    let server = tokio::task::spawn_blocking(llama_server).await.unwrap().unwrap();
    let pools = vec![
        pool("text", 0, ""),
        // The generated model names no pooling of its own.
        pool(
            "vectors",
            1,
            "workloads = [\"embedding\"]\nargs = [\"--pooling\", \"last\"]",
        ),
        pool("scores", 1, "workloads = [\"rerank\"]"),
    ];
    let plan = Plan {
        pools,
        engine: EngineChoice::Real(server),
        node_env: node_env
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        ..Plan::default()
    };
    System::start(plan).await.unwrap()
}

async fn post(system: &System, body: &Value) -> Answer {
    system.call(Call::post_json("/v1/tasks", body)).await.unwrap()
}

async fn run(system: &System, body: &Value) -> (Summary, Value) {
    let answer = post(system, body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let receipt: Value = answer.json().unwrap();
    let call = Call::get(receipt["stream_url"].as_str().unwrap());
    let mut reader = SseReader::open(system.address(), &call).await.unwrap();
    let events = reader.all_events(LONG).await.unwrap();
    let summary = StreamCheck::whole(&events).unwrap_or_else(|violation| panic!("{violation}"));
    match summary.terminal.clone() {
        Terminal::End(end) => (summary, end),
        Terminal::Error(error) => panic!("{error}\n{}", system.logs()),
    }
}

#[tokio::test]
async fn every_workload_through_the_real_server() {
    let system = start(&[]).await;
    a_session_comes_back_to_a_warm_cache(&system).await;
    a_chat_is_counted_exactly(&system).await;
    texts_become_vectors(&system).await;
    documents_are_ranked(&system).await;
}

/// REQ-RELAY-STREAM, REQ-RELAY-LIST: the relay passes on all that the adapter asks of the real server.
#[tokio::test]
async fn every_workload_through_a_relay_to_the_real_server() {
    let system = start(&[("POOL_MANAGERD_RELAY", "always")]).await;
    let shown = system.pool("text").await.unwrap();
    let endpoint = shown["replicas"][0]["endpoint"].as_str().unwrap();
    assert!(endpoint.ends_with("/v1/relay/text/r0"), "{endpoint}");
    a_chat_is_counted_exactly(&system).await;
    texts_become_vectors(&system).await;
    documents_are_ranked(&system).await;
}

/// REQ-KV-WARMTH: the second turn of a session finds its beginning in the engine's KV cache, and the receipt says so; a turn
/// that asks for a cold start does not.
async fn a_session_comes_back_to_a_warm_cache(system: &System) {
    let beginning = "the moon over the river and the hills behind it and the road beyond ".repeat(2);
    let turn = |session: &str, more: &str, hint: &str| {
        json!({"model_ref": MODEL, "prompt": format!("{beginning}{more}"), "max_tokens": 4, "seed": 7,
            "session_id": session, "kv_hint": hint})
    };
    let (_, first) = run(system, &turn("warm", "", "reuse")).await;
    assert_eq!(first["kv_warmth"], false, "{first}");
    let (_, second) = run(system, &turn("warm", "then", "reuse")).await;
    assert_eq!(second["kv_warmth"], true, "{second}");
    let (_, cold) = run(system, &turn("warm", "then", "cold")).await;
    assert_eq!(cold["kv_warmth"], false, "{cold}");
}

/// One token more of output than fits is refused with the count that the engine itself gives.
async fn a_chat_is_counted_exactly(system: &System) {
    let chat = |max_tokens: u64| {
        json!({"model_ref": MODEL, "workload": "chat", "max_tokens": max_tokens, "seed": 7, "messages": [
            {"role": "system", "content": "be brief"}, {"role": "user", "content": "é ☃ the river and the moon"}]})
    };
    let (summary, end) = run(system, &chat(4)).await;
    assert!(!summary.tokens.is_empty(), "{end}");
    let tokens_in = end["tokens_in"].as_u64().unwrap();
    let refused = post(system, &chat(CTX - tokens_in + 1)).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(
        refused.text().contains(&format!("messages: {tokens_in} tokens")),
        "{}",
        refused.text()
    );
    let (again, end) = run(system, &chat(4)).await;
    assert_eq!(
        (again.text(), &end["tokens_in"]),
        (summary.text(), &json!(tokens_in))
    );
    let fits = post(system, &chat(CTX - tokens_in)).await;
    assert_eq!(fits.status, 202, "{}", fits.text());
}

async fn texts_become_vectors(system: &System) {
    let body =
        json!({"model_ref": MODEL, "workload": "embedding", "inputs": ["the moon", "a river", "the moon"]});
    let (summary, end) = run(system, &body).await;
    assert!(summary.tokens.is_empty());
    let result = &end["result"];
    let vectors = result["embeddings"].as_array().unwrap();
    let length = |vector: &Value| vector.as_array().map(Vec::len);
    assert_eq!((vectors.len(), length(&vectors[0])), (3, Some(128)), "{result}");
    assert_eq!(result["dimensions"], 128);
    assert!(vectors[0] != vectors[1], "different texts");
    assert_eq!(
        (&end["tokens_out"], &end["pool_id"]),
        (&json!(0), &json!("vectors"))
    );
    assert!(end["tokens_in"].as_u64().unwrap() > 3);
    let (_, again) = run(system, &body).await;
    assert_eq!(&again["result"], result, "the same texts on one slot");
    let long = json!({"model_ref": MODEL, "workload": "embedding", "inputs": ["!".repeat(600)]});
    let refused = post(system, &long).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(
        refused.text().contains("inputs: ") && refused.text().contains("512"),
        "{}",
        refused.text()
    );
    // Longer than llama.cpp's default batch would be no matter; as long as the context allows it is one.
    let longest = json!({"model_ref": MODEL, "workload": "embedding", "inputs": ["!".repeat(500)]});
    let (_, end) = run(system, &longest).await;
    assert!(end["tokens_in"].as_u64().unwrap() > 500, "{end}");
}

async fn documents_are_ranked(system: &System) {
    let body = json!({"model_ref": MODEL, "workload": "rerank", "query": "the moon",
        "inputs": ["a river", "the moon", "a stone"]});
    let (summary, end) = run(system, &body).await;
    assert!(summary.tokens.is_empty());
    let scores = end["result"]["scores"].as_array().unwrap();
    let mut places: Vec<u64> = scores
        .iter()
        .map(|score| score["index"].as_u64().unwrap())
        .collect();
    let values: Vec<f64> = scores
        .iter()
        .map(|score| score["score"].as_f64().unwrap())
        .collect();
    assert!(values.is_sorted_by(|a, b| a >= b), "{values:?}");
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2]);
    assert!(
        end["tokens_in"].as_u64().unwrap() > 3 && end["tokens_out"] == 0,
        "{end}"
    );
}
