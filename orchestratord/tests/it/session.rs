//! Sessions and budgets over the built binary: REQ-SESSION-TTL, REQ-SESSION-TURNS, REQ-SESSION-OWNER,
//! REQ-SESSION-API, REQ-BUDGET-RESERVE, REQ-BUDGET-SETTLE, REQ-BUDGET-HEADERS, REQ-SESSION-AFFINITY,
//! REQ-KV-WARMTH.

use serde_json::{Value, json};
use test_harness_support::http1::{Answer, Call};
use test_harness_support::stream_check::Terminal;
use test_harness_support::wait::{Look, wait_for};

use crate::fixture::{Fixture, LIMIT, fast, paced, task_with};

/// Tokens of the fixture's prompt are at most its bytes and four markers.
const PROMPT_BOUND: u64 = 27;

async fn with(config: &str) -> Fixture {
    let config = format!("[orchestratord.sessions]\n{config}\n");
    Fixture::start(&[("p", 2, fast())], &config, &[]).await
}

fn turn(max_tokens: u32) -> Value {
    task_with(max_tokens, json!({"session_id": "chat-1"}))
}

async fn shown(fixture: &Fixture, session: &str) -> Value {
    fixture.get(&format!("/v1/sessions/{session}")).await
}

/// Waits until nothing of the session is live.
async fn settled(fixture: &Fixture, session: &str) -> Value {
    let look = || async {
        let shown = shown(fixture, session).await;
        if shown["tasks_live"] == 0 {
            Look::Ready(shown)
        } else {
            Look::NotYet(shown)
        }
    };
    wait_for("the session's tasks to be settled", LIMIT, look)
        .await
        .unwrap()
}

fn refusal(answer: &Answer, status: u16, code: &str) -> Value {
    let body: Value = answer.json().unwrap();
    assert_eq!((answer.status, &body["code"]), (status, &json!(code)), "{body}");
    body
}

#[tokio::test]
async fn a_budget_of_tokens_is_reserved_then_settled_by_the_receipt() {
    let fixture = with("token_budget = 400").await;
    let answer = fixture.post(&turn(100)).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let left = 400 - 100 - PROMPT_BOUND;
    assert_eq!(
        answer.header("x-budget-tokens-remaining"),
        Some(&*left.to_string())
    );
    assert_eq!(answer.header("x-budget-time-remaining-ms"), None);
    let receipt: Value = answer.json().unwrap();
    assert_eq!(receipt["tokens_budget_remaining"], left);
    let stream = fixture.read(receipt["task_id"].as_str().unwrap()).await;
    assert_eq!(
        stream.metrics[0]["tokens_budget_remaining"], left,
        "{:?}",
        stream.metrics
    );
    let Terminal::End(end) = &stream.terminal else {
        panic!("{:?}", stream.terminal)
    };
    let used = end["tokens_in"].as_u64().unwrap() + end["tokens_out"].as_u64().unwrap();
    let session = settled(&fixture, "chat-1").await;
    assert_eq!(
        session["tokens_budget_remaining"],
        400 - used,
        "{session} after {end}"
    );
    assert_eq!(session["tokens_spent"], used);
    let time = end["first_token_ms"].as_u64().unwrap() + end["decode_time_ms"].as_u64().unwrap();
    assert_eq!(session["time_spent_ms"], time);
    assert_eq!((&session["turns"], &session["turns_max"]), (&json!(1), &json!(8)));
    assert!(
        session.get("cost_spent").is_none(),
        "no price is configured: {session}"
    );
}

#[tokio::test]
async fn what_cannot_be_reserved_is_refused_before_the_queue() {
    let fixture = with("token_budget = 100").await;
    let answer = fixture.post(&turn(300)).await;
    let body = refusal(&answer, 429, "ADMISSION_REJECT");
    assert_eq!(body["policy_label"], "budget-tokens");
    assert_eq!(
        (&body["retriable"], answer.header("retry-after")),
        (&json!(false), None),
        "waiting does not help"
    );
    assert_eq!(answer.header("x-budget-tokens-remaining"), Some("100"));
    assert_eq!(body["tokens_budget_remaining"], 100);
    let message = body["message"].as_str().unwrap();
    assert!(
        message.starts_with("session_id: ") && message.contains("100 of 100 are left"),
        "{message}"
    );
    assert_eq!(
        fixture.get("/v1/tasks").await["tasks"],
        json!([]),
        "nothing was enqueued"
    );
    let missing = fixture.call(Call::get("/v1/sessions/chat-1")).await;
    assert_eq!(missing.status, 404, "a refused task makes no session");
    let text = fixture.call(Call::get("/metrics")).await.text();
    assert!(
        text.contains("tasks_rejected_total{engine=\"any\",reason=\"budget-tokens\"} 1"),
        "{text}"
    );
}

#[tokio::test]
async fn a_prompt_is_counted_before_it_is_refused_for_a_budget() {
    let fixture = with("token_budget = 400").await;
    // Its bytes and the markers that a tokenizer may add are too many; the engine's tokenizer adds fewer.
    let body =
        json!({"model_ref": "tiny", "prompt": "r".repeat(396), "max_tokens": 2, "session_id": "chat-1"});
    let answer = fixture.post(&body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let report = fixture.pools[0].engine.report();
    assert!(
        report
            .requests
            .iter()
            .any(|request| request.target == "/tokenize")
    );
}

#[tokio::test]
async fn tasks_side_by_side_cannot_overdraw() {
    let config = "[orchestratord.sessions]\ntoken_budget = 1000\n";
    let fixture = Fixture::start(&[("p", 2, paced())], config, &[]).await;
    let first = fixture.submit(&turn(900)).await;
    let answer = fixture.post(&turn(200)).await;
    let body = refusal(&answer, 429, "ADMISSION_REJECT");
    assert_eq!(
        (&body["policy_label"], &body["retriable"]),
        (&json!("budget-tokens"), &json!(true))
    );
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    let ms: u64 = answer.header("x-backoff-ms").unwrap().parse().unwrap();
    assert_eq!(seconds, ms.div_ceil(1000), "a running task holds what is missing");
    fixture
        .call(Call::post(&format!("/v1/tasks/{first}/cancel")))
        .await;
    let session = settled(&fixture, "chat-1").await;
    assert!(
        session["tokens_budget_remaining"].as_u64().unwrap() > 500,
        "it gave back what it did not use: {session}"
    );
    fixture.submit(&turn(200)).await;
}

#[tokio::test]
async fn what_is_not_bounded_is_cut_at_the_budget() {
    let fixture = with("token_budget = 60").await;
    let body = json!({"model_ref": "tiny", "prompt": "the moon over the river", "session_id": "chat-1"});
    let stream = fixture.read(&fixture.submit(&body).await).await;
    assert_eq!(stream.outcome(), Some("length"));
    assert_eq!(stream.tokens.len() as u64, 60 - PROMPT_BOUND);
    let session = settled(&fixture, "chat-1").await;
    assert!(session["tokens_spent"].as_u64().unwrap() <= 60, "{session}");
}

#[tokio::test]
async fn a_budget_of_time_ends_a_run() {
    let config = "[orchestratord.sessions]\ntime_budget_ms = 400\n";
    let fixture = Fixture::start(&[("p", 2, paced())], config, &[]).await;
    let answer = fixture.post(&turn(1500)).await;
    assert_eq!(
        answer.header("x-budget-time-remaining-ms"),
        Some("0"),
        "{}",
        answer.text()
    );
    let task = answer.json::<Value>().unwrap()["task_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let meanwhile = refusal(&fixture.post(&turn(1)).await, 429, "ADMISSION_REJECT");
    assert_eq!(
        (&meanwhile["policy_label"], &meanwhile["retriable"]),
        (&json!("budget-time"), &json!(true))
    );
    assert_eq!(fixture.read(&task).await.outcome(), Some("deadline"));
    let session = settled(&fixture, "chat-1").await;
    let spent = session["time_spent_ms"].as_u64().unwrap();
    assert!((1..=400).contains(&spent), "{session}");
    assert_eq!(session["time_budget_remaining_ms"], 400 - spent);
}

#[tokio::test]
async fn a_budget_of_cost_is_what_the_prices_say() {
    let fixture = with("cost_budget = 1.0\nprice_in_per_1k = 1.0\nprice_out_per_1k = 2.0").await;
    let answer = fixture.post(&turn(100)).await;
    // 27 prompt tokens at most and 100 of output.
    assert_eq!(
        answer.header("x-budget-cost-remaining"),
        Some("0.773"),
        "{}",
        answer.text()
    );
    let receipt: Value = answer.json().unwrap();
    let stream = fixture.read(receipt["task_id"].as_str().unwrap()).await;
    let Terminal::End(end) = &stream.terminal else {
        panic!("{:?}", stream.terminal)
    };
    let (tokens_in, tokens_out) = (
        end["tokens_in"].as_f64().unwrap(),
        end["tokens_out"].as_f64().unwrap(),
    );
    let session = settled(&fixture, "chat-1").await;
    let spent = session["cost_spent"].as_f64().unwrap();
    assert!(
        (spent - (tokens_in + 2.0 * tokens_out) / 1000.0).abs() < 1e-9,
        "{session} after {end}"
    );
    let body = refusal(&fixture.post(&turn(500)).await, 429, "ADMISSION_REJECT");
    assert_eq!(body["policy_label"], "budget-cost");
}

#[tokio::test]
async fn a_session_has_its_turns_and_no_more() {
    let fixture = with("max_turns = 2").await;
    for _ in 0..2 {
        fixture.read(&fixture.submit(&turn(2)).await).await;
    }
    let body = refusal(&fixture.post(&turn(2)).await, 409, "CONFLICT");
    assert_eq!(body["reason"], "session_turns");
    assert!(
        body["message"].as_str().unwrap().contains("its 2 turns"),
        "{body}"
    );
    let other = fixture.post(&task_with(2, json!({"session_id": "chat-2"}))).await;
    assert_eq!(other.status, 202);
    let ended = fixture.call(Call::new("DELETE", "/v1/sessions/chat-1")).await;
    assert_eq!((ended.status, ended.body.len()), (204, 0));
    fixture.submit(&turn(2)).await;
    assert_eq!(shown(&fixture, "chat-1").await["turns"], 1, "it is a new one");
}

#[tokio::test]
async fn ending_a_session_ends_none_of_its_tasks() {
    let fixture = Fixture::one(1, paced()).await;
    let task = fixture.submit(&turn(40)).await;
    let delete = || fixture.call(Call::new("DELETE", "/v1/sessions/chat-1"));
    assert_eq!(delete().await.status, 204);
    let gone = delete().await;
    refusal(&gone, 404, "NOT_FOUND");
    let stream = fixture.read(&task).await;
    assert_eq!((stream.outcome(), stream.tokens.len()), (Some("length"), 40));
    refusal(
        &fixture.call(Call::get("/v1/sessions/chat-1")).await,
        404,
        "NOT_FOUND",
    );
}

#[tokio::test]
async fn an_idle_session_ends_and_the_next_task_begins_a_new_one() {
    let fixture = with("ttl_ms = 300\nmax_turns = 1").await;
    fixture.read(&fixture.submit(&turn(2)).await).await;
    let look = || async {
        let answer = fixture.call(Call::get("/v1/sessions/chat-1")).await;
        if answer.status == 404 {
            Look::Ready(())
        } else {
            Look::NotYet(answer.text())
        }
    };
    wait_for("the session to end", LIMIT, look).await.unwrap();
    fixture.submit(&turn(2)).await;
    let session = shown(&fixture, "chat-1").await;
    assert_eq!(session["turns"], 1);
    assert!(session["ttl_ms_remaining"].as_u64().unwrap() <= 300, "{session}");
}

#[tokio::test]
async fn a_session_is_its_makers() {
    let token = "a-token-of-this-test";
    let env = [("AUTH_TOKEN", token), ("AUTH_OPTIONAL", "true")];
    let fixture = Fixture::start(&[("p", 1, fast())], "", &env).await;
    let host = |call: Call| call.bearer(token);
    let posted = fixture.call(host(Call::post_json("/v1/tasks", &turn(2)))).await;
    assert_eq!(posted.status, 202, "{}", posted.text());
    let owner = fixture.call(host(Call::get("/v1/sessions/chat-1"))).await;
    assert_eq!(owner.status, 200, "{}", owner.text());
    refusal(
        &fixture.call(Call::get("/v1/sessions/chat-1")).await,
        404,
        "NOT_FOUND",
    );
    let stranger = fixture.call(Call::new("DELETE", "/v1/sessions/chat-1")).await;
    refusal(&stranger, 404, "NOT_FOUND");
    assert_eq!(
        fixture.call(host(Call::get("/v1/sessions/chat-1"))).await.status,
        200
    );
}

#[tokio::test]
async fn the_next_turn_goes_where_the_last_one_was_unless_it_would_wait() {
    let fixture = Fixture::start(&[("a", 1, paced()), ("b", 1, paced())], "", &[]).await;
    let on_b = json!({"session_id": "chat-1", "placement": {"mode": "prefer", "prefer_pools": ["b"]}});
    let first = fixture.read(&fixture.submit(&task_with(4, on_b)).await).await;
    assert_eq!(first.metrics[0]["kv_warmth"], false, "nothing ran before it");
    let session = settled(&fixture, "chat-1").await;
    assert_eq!(
        (&session["kv_warmth"], &session["pool_id"]),
        (&json!(true), &json!("b")),
        "{session}"
    );
    assert!(
        session["kv_tokens"].as_u64().unwrap() > 4 && session.get("kv_bytes").is_none(),
        "{session}"
    );
    fixture.wait_idle().await;

    let second = fixture.read(&fixture.submit(&turn(4)).await).await;
    let dispatched = second
        .metrics
        .iter()
        .find(|frame| frame["phase"] == "decoding")
        .unwrap();
    assert_eq!(
        (&dispatched["pool_id"], &dispatched["kv_warmth"]),
        (&json!("b"), &json!(true))
    );
    settled(&fixture, "chat-1").await;
    fixture.wait_idle().await;

    let busy = json!({"placement": {"mode": "pin", "pin_pool_id": "b"}});
    let busy = fixture.submit(&task_with(1500, busy)).await;
    fixture
        .wait_status(&busy, "b to be busy", |status| status["state"] == "running")
        .await;
    let third = fixture.read(&fixture.submit(&turn(4)).await).await;
    let dispatched = third
        .metrics
        .iter()
        .find(|frame| frame["phase"] == "decoding")
        .unwrap();
    assert_eq!(
        (&dispatched["pool_id"], &dispatched["kv_warmth"]),
        (&json!("a"), &json!(false)),
        "failover"
    );
}
