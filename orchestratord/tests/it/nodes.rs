//! ORCH-3426, ORCH-3427, ORCH-3603, AUTH-1003: registration, staleness, capabilities.

use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::stream_check::{Summary, Terminal};

use crate::fixture::{Fixture, fast, node_report, paced, pool_report, task};

async fn heartbeat(fixture: &Fixture, report: &Value) -> (u16, Value) {
    let node = report["node_id"].as_str().unwrap();
    let answer = fixture
        .call(Call::post_json(&format!("/v1/workers/{node}/heartbeat"), report))
        .await;
    (answer.status, answer.json().unwrap())
}

/// REQ-FAULT-REPORT-LOST.
#[tokio::test]
async fn reports_are_levels_and_old_ones_change_nothing() {
    let fixture = Fixture::one(2, fast()).await;
    let (old, mut new) = (fixture.report(), fixture.report());
    new["pools"][0]["draining"] = json!(true);
    assert_eq!(heartbeat(&fixture, &new).await.0, 200);
    assert_eq!(fixture.get("/v1/pools/p/health").await["ready"], false);
    let (status, body) = heartbeat(&fixture, &old).await;
    assert_eq!((status, &body["code"]), (409, &json!("CONFLICT")), "{body}");
    assert_eq!(fixture.get("/v1/pools/p/health").await["draining"], true);
}

#[tokio::test]
async fn an_unknown_node_is_told_to_register() {
    let fixture = Fixture::one(1, fast()).await;
    let (status, body) = heartbeat(&fixture, &node_report("other", 0, Vec::new())).await;
    assert_eq!((status, &body["code"]), (404, &json!("NOT_FOUND")));
}

#[tokio::test]
async fn a_pool_id_belongs_to_one_node() {
    let fixture = Fixture::one(1, fast()).await;
    let thief = node_report("other", 0, vec![pool_report("p", "http://127.0.0.1:9", 1)]);
    let answer = fixture
        .call(Call::post_json("/v1/workers/register", &thief))
        .await;
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("node box"), "{}", answer.text());
}

#[tokio::test]
async fn a_silent_node_is_stale_and_its_running_task_goes_on() {
    let config = "[orchestratord.nodes]\nstale_after_ms = 700\nheartbeat_interval_ms = 200\n";
    let fixture = Fixture::start(&[("p", 1, paced())], config, &[]).await;
    let task_id = fixture.submit(&task(300)).await;
    fixture
        .wait_pool("p", "the pool to be stale", |pool| {
            pool["health"]["cause"] == "NODE_STALE"
        })
        .await;
    let answer = fixture.post(&task(4)).await;
    let body: Value = answer.json().unwrap();
    assert_eq!(
        (answer.status, &body["code"]),
        (503, &json!("POOL_UNREADY")),
        "{body}"
    );
    assert_eq!(
        fixture.read(&task_id).await.outcome(),
        Some("length"),
        "nothing stops a healthy engine"
    );
    fixture.register().await;
    assert_eq!(fixture.post(&task(4)).await.status, 202);
}

#[tokio::test]
async fn capabilities_come_from_live_state_and_hide_secrets() {
    let fixture = Fixture::one(2, fast()).await;
    let shown = fixture.get("/v1/capabilities").await;
    assert_eq!(
        (&shown["pools"][0]["pool_id"], &shown["pools"][0]["slots_total"]),
        (&json!("p"), &json!(2))
    );
    assert_eq!(
        shown["engines"],
        json!([{"engine": "llamacpp", "engine_versions": ["b1-test"]}])
    );
    let mut report = fixture.report();
    report["pools"][0]["replicas"][0]["endpoint_key"] = json!("sk-planted-canary");
    assert_eq!(heartbeat(&fixture, &report).await.0, 200);
    for path in ["/v1/pools", "/v1/pools/p", "/v1/nodes", "/metrics"] {
        let text = fixture.call(Call::get(path)).await.text();
        assert!(!text.contains("planted-canary"), "{path}: {text}");
    }
    assert!(!fixture.daemon.logs().contains("planted-canary"));
    let mut failed = fixture.report();
    failed["pools"][0]["replicas"][0]["state"] = json!("failed");
    assert_eq!(heartbeat(&fixture, &failed).await.0, 200);
    assert_eq!(fixture.get("/v1/capabilities").await["pools"], json!([]));
}

/// ORCH-3277.
#[tokio::test]
async fn the_receipt_names_what_ran_as_far_as_the_node_knows_it() {
    let fixture = Fixture::one(1, fast()).await;
    let unknown = fixture.read(&fixture.submit(&task(2)).await).await;
    assert_eq!(end_of(&unknown)["engine_version"], "b1-test");
    for digest in ["engine_digest", "model_digest"] {
        assert_eq!(end_of(&unknown)[digest], Value::Null, "nothing is invented");
    }
    let (engine, model) = (digest('e'), digest('d'));
    let mut report = fixture.report();
    report["pools"][0]["engine_digest"] = json!(engine);
    report["pools"][0]["model_digest"] = json!(model);
    assert_eq!(heartbeat(&fixture, &report).await.0, 200);
    let known = fixture.read(&fixture.submit(&task(2)).await).await;
    assert_eq!(
        (&end_of(&known)["engine_digest"], &end_of(&known)["model_digest"]),
        (&json!(engine), &json!(model))
    );
}

fn digest(letter: char) -> String {
    format!("sha256:{}", String::from(letter).repeat(64))
}

fn end_of(stream: &Summary) -> &Value {
    let Terminal::End(end) = &stream.terminal else {
        panic!("{:?}", stream.terminal)
    };
    end
}

#[tokio::test]
async fn a_node_that_says_goodbye_is_forgotten() {
    let fixture = Fixture::one(1, fast()).await;
    assert_eq!(
        fixture.call(Call::new("DELETE", "/v1/workers/box")).await.status,
        204
    );
    assert_eq!(fixture.get("/v1/nodes").await["nodes"], json!([]));
    assert_eq!(
        fixture.call(Call::new("DELETE", "/v1/workers/box")).await.status,
        404
    );
}
