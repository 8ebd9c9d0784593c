//! ORCH-3962, ORCH-3961, REQ-DECISION-REPLAY, REQ-PLACEMENT-EXPLAIN: decisions are shown, replay to the
//! same answer, and asking changes nothing.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use test_harness_support::binaries::bin_path;
use test_harness_support::http1::Call;

use crate::fixture::{Fixture, fast, paced, task, task_with};

async fn decision(fixture: &Fixture, task: &str) -> Value {
    fixture.get(&format!("/v1/tasks/{task}/decision")).await
}

/// `llama-orch ARGUMENTS` towards the fixture: exit code, standard output.
async fn command(fixture: &Fixture, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(bin_path("llama-orch").unwrap());
    command
        .env_clear()
        .args(["--addr", &fixture.daemon.address().to_string()])
        .args(arguments)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), text.concat())
}

/// ORCH-3960.
#[tokio::test]
async fn decisions_of_waiting_running_and_gone_tasks_replay_to_the_same_answer() {
    let fixture = Fixture::start(&[("a", 1, paced()), ("b", 1, paced())], "", &[]).await;
    let prefer = json!({"placement": {"mode": "prefer", "prefer_pools": ["b"]}});
    let running = fixture.submit(&task_with(1000, prefer.clone())).await;
    fixture
        .wait_status(&running, "it to run", |status| status["state"] == "running")
        .await;
    let other = fixture.submit(&task_with(1000, prefer.clone())).await;
    fixture
        .wait_status(&other, "it to run", |status| status["state"] == "running")
        .await;
    let waiting = fixture.submit(&task_with(4, prefer)).await;
    let placed = decision(&fixture, &running).await;
    assert_eq!(
        (&placed["stage"], &placed["outcome"], &placed["pool_id"]),
        (&json!("placed"), &json!("placed"), &json!("b")),
        "{placed}"
    );
    assert_eq!(placed["decision"]["candidates_considered"], 2);
    assert_eq!(
        placed["decision"]["tie_breakers_applied"],
        json!(["override_rank"])
    );
    let fell_back = decision(&fixture, &other).await;
    assert_eq!(
        (&fell_back["pool_id"], &fell_back["decision"]["fallback_used"]),
        (&json!("a"), &json!(true)),
        "{fell_back}"
    );
    let waits = decision(&fixture, &waiting).await;
    assert_eq!(
        (&waits["stage"], &waits["outcome"], &waits["because"]),
        (&json!("waiting"), &json!("wait"), &json!("busy")),
        "{waits}"
    );
    for task in [&running, &other, &waiting] {
        let (code, text) = command(&fixture, &["task", "explain", task]).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("agrees"), "{text}");
    }
    let cancel = Call::post(&format!("/v1/tasks/{waiting}/cancel"));
    assert_eq!(fixture.call(cancel).await.status, 204);
    let left = decision(&fixture, &waiting).await;
    assert_eq!(
        (&left["stage"], &left["outcome"]),
        (&json!("left"), &json!("wait")),
        "{left}"
    );
    let (code, text) = command(&fixture, &["--json", "task", "explain", &waiting]).await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &document["replay"]["agrees"]),
        (Some(0), &json!(true)),
        "{text}"
    );
    let logs = fixture.daemon.logs();
    assert!(
        logs.contains("placement decided") && logs.contains(&running),
        "{logs}"
    );
}

#[tokio::test]
async fn a_task_of_which_nothing_is_known_is_not_found() {
    let fixture = Fixture::one(1, fast()).await;
    let path = "/v1/tasks/01900000-0000-7000-8000-0000000000ff/decision";
    assert_eq!(fixture.call(Call::get(path)).await.status, 404);
}

#[tokio::test]
async fn kept_inputs_are_bounded_and_the_decision_outlives_its_input() {
    let config = "[orchestratord.placement]\nkept_decision_pools = 1\n";
    let fixture = Fixture::start(&[("p", 1, fast())], config, &[]).await;
    let first = fixture.submit(&task(2)).await;
    fixture.read(&first).await;
    assert!(decision(&fixture, &first).await["input"].is_object());
    let second = fixture.submit(&task(2)).await;
    fixture.read(&second).await;
    let kept = decision(&fixture, &first).await;
    assert_eq!(kept.get("input"), None, "{kept}");
    assert_eq!(
        (&kept["outcome"], &kept["pool_id"]),
        (&json!("placed"), &json!("p")),
        "{kept}"
    );
    let (code, text) = command(&fixture, &["task", "explain", &first]).await;
    assert_eq!(code, Some(9), "{text}");
    assert!(text.contains("not kept"), "{text}");
}

#[tokio::test]
async fn asking_where_a_task_would_go_changes_nothing() {
    let fixture = Fixture::one(1, fast()).await;
    let ask = |body: Value| Call::post_json("/v1/placement/explain", &body);
    let before = fixture.call(Call::get("/metrics")).await.text();
    let answer = fixture.call(ask(task(4))).await;
    let shown: Value = answer.json().unwrap();
    assert_eq!(
        (answer.status, &shown["outcome"]),
        (200, &json!("placed")),
        "{shown}"
    );
    assert_eq!(
        (&shown["stage"], shown.get("task_id")),
        (&json!("preview"), None),
        "{shown}"
    );
    assert!(
        shown["input_digest"].as_str().unwrap().starts_with("sha256:"),
        "{shown}"
    );
    assert_eq!(shown["input"].get("prompt"), None);
    let refused = fixture
        .call(ask(json!({"model_ref": "nonesuch", "prompt": "hi"})))
        .await;
    let shown: Value = refused.json().unwrap();
    assert_eq!(
        (refused.status, &shown["outcome"], &shown["refusal"]["reason"]),
        (200, &json!("refused"), &json!("unknown_model")),
        "{shown}"
    );
    let too_long = "river ".repeat(3000);
    let counted = fixture
        .call(ask(
            json!({"model_ref": "tiny", "prompt": too_long, "max_tokens": 4}),
        ))
        .await;
    assert_eq!(
        counted.json::<Value>().unwrap()["refusal"]["reason"],
        "context_too_large"
    );
    let wrong = fixture
        .call(ask(json!({"model_ref": "tiny", "prompt": ""})))
        .await;
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    assert_eq!(fixture.get("/v1/tasks").await["tasks"], json!([]));
    assert_eq!(fixture.call(Call::get("/metrics")).await.text(), before);
    let (code, text) = command(&fixture, &["task", "preview", "tiny", "hi", "--pin", "p"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("the request pins this pool"), "{text}");
}

#[tokio::test]
async fn a_gate_that_is_closed_closes_the_question_too() {
    let gates = "[orchestratord.placement]\nallow_avoid = false\n";
    let fixture = Fixture::start(&[("p", 1, fast())], gates, &[]).await;
    let body = task_with(4, json!({"placement": {"avoid_pools": ["p"]}}));
    let answer = fixture
        .call(Call::post_json("/v1/placement/explain", &body))
        .await;
    let told: Value = answer.json().unwrap();
    assert_eq!(
        (answer.status, &told["policy_label"]),
        (403, &json!("placement-policy")),
        "{told}"
    );
}
