//! ORCH-3613, invariant I13: planted secrets are found nowhere the daemon writes: logs at their most talkative, metrics,
//! streams, error bodies, its command line, the disk.

use serde_json::json;
use test_harness_support::http1::{self, Answer, Call};

use crate::fixture::{Fixture, fast, files, task};

/// Every secret of this test has this in it.
const CANARY: &str = "c4nary";
const TOKEN: &str = "c4nary-the-daemons-own-token";

/// Requests that carry secrets where clients put them, rightly or by mistake.
fn calls() -> Vec<Call> {
    let body = json!({"model_ref": "tiny", "prompt": "x", "api_key": "sk-c4nary0123456789"});
    vec![
        Call::get("/v1/pools").bearer("c4nary-another-token"),
        Call::get("/v1/pools").header("Authorization", "Basic YzRuYXJ5OmM0bmFyeQ== c4nary"),
        Call::get("/v1/pools").header("Authorization", "c4nary-without-a-scheme"),
        Call::get("/v1/pools")
            .header("X-Api-Key", "c4nary-in-another-header")
            .bearer(TOKEN),
        Call::get("/v1/pools")
            .header("Cookie", "session=c4nary")
            .bearer(TOKEN),
        Call::get("/v1/tasks?access_token=c4nary-in-a-query").bearer(TOKEN),
        Call::get("/v1/tasks/c4nary-as-an-id").bearer("c4nary-another-token"),
        Call::get("/nowhere?token=c4nary-in-a-query").bearer(TOKEN),
        Call::post_json("/v1/tasks", &body).bearer(TOKEN),
        Call::post_json("/v1/workers/register", &json!({"node_id": 1})).bearer("c4nary-another-token"),
    ]
}

fn assert_clean(place: &str, text: &str) {
    let found = text.find(CANARY).map(|at| {
        let from = text[..at].rfind('\n').map_or(0, |line| line + 1);
        &text[from..text.len().min(at + 80)]
    });
    assert_eq!(found, None, "{place}");
}

fn said(answer: &Answer) -> String {
    format!("{:?}\n{}", answer.head.headers, answer.text())
}

#[tokio::test]
async fn planted_secrets_are_found_nowhere() {
    let environment = [("AUTH_TOKEN", TOKEN), ("LOG_LEVEL", "trace")];
    let fixture = Fixture::start(&[("p", 1, fast())], "", &environment).await;
    let address = fixture.daemon.address();
    for call in calls() {
        let answer = http1::call(address, &call).await.unwrap();
        assert_clean("an answer", &said(&answer));
    }
    let receipt = fixture
        .call(Call::post_json("/v1/tasks", &task(5)).bearer(TOKEN))
        .await;
    assert_eq!(receipt.status, 202, "{}", receipt.text());
    let receipt: serde_json::Value = receipt.json().unwrap();
    let id = receipt["task_id"].as_str().unwrap();
    for path in [
        format!("/v1/tasks/{id}/stream"),
        format!("/v1/tasks/{id}"),
        format!("/v1/tasks/{id}/decision"),
        "/v1/nodes".into(),
        "/v1/pools".into(),
        "/v1/capabilities".into(),
        "/openapi.json".into(),
        "/metrics".into(),
    ] {
        let answer = fixture.call(Call::get(&path).bearer(TOKEN)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_clean(&path, &said(&answer));
    }
    let pid = fixture.daemon.pid();
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_clean("the command line", &String::from_utf8_lossy(&command_line));
    let logs = fixture.daemon.logs();
    assert!(
        logs.contains("TRACE") || logs.contains("trace"),
        "the log is not at its most talkative: {logs}"
    );
    assert_clean("the log", &logs);
    let seen = files(&fixture.state());
    assert!(seen.len() > 1, "{seen:?}");
    for path in seen {
        let bytes = std::fs::read(&path).unwrap();
        assert_clean(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
    }
}
