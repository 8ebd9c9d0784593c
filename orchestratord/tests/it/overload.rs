//! REQ-OVERLOAD-HONEST: fifty times what the pool can do, sent without waiting for answers: each is
//! taken or refused with a pause, nothing else, in bounded memory.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use test_harness_support::http1::{self, Call};
use test_harness_support::scripted_engine::Script;
use test_harness_support::wait::{Look, wait_for};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::fixture::{Fixture, LIMIT, task};

/// Two slots of 200 ms are ten tasks a second; fifty times that is one every two ms.
const PACE: Duration = Duration::from_millis(2);
const OFFERED: usize = 1500;

/// What the daemon may grow by: queue and retention are bounded, and so are connections.
const GROWTH_KIB: u64 = 64 * 1024;

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn sum(metrics: &str, family: &str) -> f64 {
    let series = metrics.lines().filter(|line| line.starts_with(family));
    series
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[tokio::test]
async fn everything_offered_is_taken_or_refused() {
    let script = Script::default().paced(20, 20_000).tokens(2000);
    let config = "[orchestratord.queue]\ncapacity = 8\n[orchestratord.sse]\nretained_tasks = 64\n";
    let fixture = Fixture::start(&[("p", 2, script)], config, &[]).await;
    fixture.read(&fixture.submit(&task(10)).await).await;
    let (address, before) = (fixture.daemon.address(), resident_kib(fixture.daemon.pid()));
    let mut calls = JoinSet::new();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..OFFERED {
        pace.tick().await;
        calls.spawn(async move { http1::call(address, &Call::post_json("/v1/tasks", &task(10))).await });
    }
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    while let Some(answer) = calls.join_next().await {
        let answer = answer.unwrap().unwrap();
        *statuses.entry(answer.status).or_default() += 1;
        if answer.status == 429 {
            let body: Value = answer.json().unwrap();
            assert_eq!(body["policy_label"], "reject", "{body}");
            let ms: u64 = answer.header("x-backoff-ms").unwrap().parse().unwrap();
            assert!((1..=LIMIT.as_millis()).contains(&u128::from(ms)), "{ms}");
            assert_eq!(
                answer.header("retry-after").unwrap(),
                ms.div_ceil(1000).to_string()
            );
        }
    }
    let of = |status| statuses.get(&status).copied().unwrap_or(0);
    assert_eq!(of(202) + of(429), OFFERED, "{statuses:?}");
    assert!(of(202) >= 8 && of(429) > OFFERED / 2, "{statuses:?}");
    let grown = resident_kib(fixture.daemon.pid()).saturating_sub(before);
    assert!(grown < GROWTH_KIB, "grew by {grown} KiB");
    let idle = || async {
        let tasks = fixture.get("/v1/tasks?state=queued").await["tasks"].clone();
        if tasks.as_array().is_some_and(Vec::is_empty) {
            Look::Ready(())
        } else {
            Look::NotYet(tasks)
        }
    };
    wait_for("what was taken to run", LIMIT, idle).await.unwrap();
    fixture.wait_idle().await;
    let metrics = fixture.call(Call::get("/metrics")).await.text();
    let counted = |family| sum(&metrics, family) as usize;
    assert_eq!(counted("tasks_enqueued_total"), of(202) + 1);
    assert_eq!(
        counted("tasks_started_total"),
        of(202) + 1,
        "what was taken has run"
    );
    assert_eq!(counted("tasks_rejected_total"), of(429));
}
