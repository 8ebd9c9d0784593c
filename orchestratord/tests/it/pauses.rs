//! ORCH-3106: who is turned away for a while is told for how long, whoever refuses: the queue, the policy, a daemon
//! that stops. (A connection beyond its cap never meets the daemon; `http-front` shows what it is told.)

use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness_support::http1::{Answer, Call};
use test_harness_support::wait::{Look, wait_for};

use crate::fixture::{Fixture, LIMIT, paced, task};

/// The pause of an answer, ms: in both headers and the body alike.
fn pause_of(answer: &Answer) -> u64 {
    let body: Value = answer.json().unwrap();
    let ms = body["retry_after_ms"].as_u64();
    let ms = ms.unwrap_or_else(|| panic!("no pause: {body}"));
    assert_eq!(answer.header("x-backoff-ms"), Some(&*ms.to_string()), "{body}");
    let seconds = ms.div_ceil(1000).to_string();
    assert_eq!(answer.header("retry-after"), Some(&*seconds), "{body}");
    ms
}

#[tokio::test]
async fn a_daemon_that_stops_says_when_what_runs_has_ended() {
    let fixture = Fixture::start(&[("p", 1, paced())], "[http]\nshutdown_grace_ms = 60000\n", &[]).await;
    let running = fixture.submit(&task(2000)).await;
    fixture
        .wait_status(&running, "it to run", |status| status["state"] == "running")
        .await;
    fixture.daemon.signal(Signal::TERM).unwrap();
    let stopping = || async {
        let answer = fixture.call(Call::get("/readyz")).await;
        match answer.status {
            503 => Look::Ready(()),
            other => Look::NotYet(other),
        }
    };
    wait_for("the daemon to stop", LIMIT, stopping).await.unwrap();
    let refused = fixture.post(&task(4)).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    // Nothing was measured, so the grace bounds it; jitter doubles it at most.
    assert!((1..=120_000).contains(&pause_of(&refused)));
    let ready = fixture.call(Call::get("/readyz")).await;
    assert!((1..=120_000).contains(&pause_of(&ready)));
}

#[tokio::test]
async fn a_pool_that_is_not_ready_is_asked_again_after_as_long_again() {
    let config = "[orchestratord.queue]\nstranded_max_wait_ms = 3000\n";
    let fixture = Fixture::start(&[("p", 1, paced())], config, &[]).await;
    let mut report = fixture.report();
    report["pools"][0]["replicas"][0]["state"] = "stopped".into();
    let heartbeat = Call::post_json("/v1/workers/box/heartbeat", &report);
    assert_eq!(fixture.call(heartbeat).await.status, 200);
    let refused = fixture.post(&task(4)).await;
    let body: Value = refused.json().unwrap();
    assert_eq!(
        (refused.status, &body["code"]),
        (503, &"POOL_UNREADY".into()),
        "{body}"
    );
    assert!((1..=6000).contains(&pause_of(&refused)), "{body}");
}

#[tokio::test]
async fn without_any_node_it_is_the_time_that_none_has_come() {
    let fixture = Fixture::start(&[], "", &[]).await;
    let gone = fixture.call(Call::new("DELETE", "/v1/workers/box")).await;
    assert_eq!(gone.status, 204);
    let refused = fixture.post(&task(4)).await;
    let body: Value = refused.json().unwrap();
    assert_eq!(body["reason"], "no_node", "{body}");
    assert!(pause_of(&refused) > 0);
}

#[tokio::test]
async fn a_refusal_for_good_has_no_pause() {
    let fixture = Fixture::start(&[("p", 1, paced())], "", &[]).await;
    let unknown = json!({"model_ref": "nobody", "prompt": "hi"});
    let never = fixture.post(&unknown).await;
    assert_eq!(never.status, 404);
    assert_eq!(
        never.header("retry-after"),
        None,
        "no later attempt would do better"
    );
}
