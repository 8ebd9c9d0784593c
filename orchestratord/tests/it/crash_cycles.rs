//! ORCH-3710, ORCH-3711: `kill -9` at any moment under mixed load loses no acknowledged task and keeps
//! their order. Bounded here; `cargo xtask crash` builds it with more cycles.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use test_harness_support::http1::{self, Call};
use test_harness_support::wait::{Look, wait_for};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::fixture::{Fixture, LIMIT, fast, task_with};

/// Kills of one run.
const CYCLES: usize = match option_env!("CRASH_CYCLES") {
    Some(text) => digits(text.as_bytes()),
    None => 200,
};
/// After so many kills everything that waits may run to its end: a daemon that lives for a tenth of a second leaves more
/// than it finishes, and every restart reads all of it.
const DRAIN_EVERY: usize = 10;
/// Clients that post at the same time.
const CLIENTS: usize = 8;
/// Room for everything that a run can leave waiting, and for what ended since the kill before.
const ROOMY: &str = "[orchestratord.queue]\ncapacity = 100000\n[orchestratord.sse]\nretained_tasks = 300\n";

pub(crate) const fn digits(text: &[u8]) -> usize {
    let (mut at, mut value) = (0, 0);
    while at < text.len() {
        value = value * 10 + (text[at] - b'0') as usize;
        at += 1;
    }
    value
}

/// One client: posts until the daemon is gone; tells what was acknowledged, in its order.
async fn post_until_gone(
    address: std::net::SocketAddr,
    client: usize,
    acknowledged: Arc<AtomicUsize>,
) -> Vec<String> {
    let class = if client.is_multiple_of(2) {
        "interactive"
    } else {
        "batch"
    };
    let mut mine = Vec::new();
    for n in 0.. {
        let id = Uuid::now_v7().to_string();
        let body = task_with(1 + n % 5, json!({"task_id": id, "priority": class}));
        match http1::call(address, &Call::post_json("/v1/tasks", &body)).await {
            Ok(answer) if answer.status == 202 => mine.push(id),
            Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
            Err(_gone) => break,
        }
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    mine
}

/// One cycle: load, kill, restart, look for everything that was acknowledged.
async fn cycle(fixture: &mut Fixture, number: usize) -> usize {
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(post_until_gone(
            fixture.daemon.address(),
            client,
            Arc::clone(&acknowledged),
        ));
    }
    let enough = 4 + number * 7 % 29;
    let look = || async {
        match acknowledged.load(Ordering::SeqCst) {
            count if count >= enough => Look::Ready(()),
            count => Look::NotYet(count),
        }
    };
    wait_for("some acknowledgements", LIMIT, look).await.unwrap();
    fixture.daemon.kill().unwrap();
    let mine = clients.join_all().await;
    fixture.daemon.wait(LIMIT).await.unwrap();
    fixture.start_again().await;
    let position = positions(fixture).await;
    for ids in &mine {
        for id in ids {
            let answer = fixture.call(Call::get(&format!("/v1/tasks/{id}"))).await;
            assert_eq!(
                answer.status, 200,
                "cycle {number}: {id} was acknowledged and is lost"
            );
        }
        let waiting: Vec<u64> = ids.iter().filter_map(|id| position.get(id).copied()).collect();
        assert!(waiting.is_sorted(), "cycle {number}: out of order: {waiting:?}");
    }
    fixture.register().await;
    mine.iter().map(Vec::len).sum()
}

async fn positions(fixture: &Fixture) -> std::collections::HashMap<String, u64> {
    let listed = fixture.get("/v1/tasks?state=queued&limit=1000").await;
    let tasks = listed["tasks"].as_array().unwrap();
    let entry = |task: &Value| {
        let id = task["task_id"].as_str()?.to_owned();
        Some((id, task["queue_position"].as_u64()?))
    };
    tasks.iter().filter_map(entry).collect()
}

#[tokio::test]
async fn no_acknowledged_task_is_lost_and_order_is_kept() {
    let script = fast().paced(1, 300);
    let mut fixture = Fixture::start(&[("p", 4, script)], ROOMY, &[]).await;
    let mut total = 0;
    for number in 0..CYCLES {
        total += cycle(&mut fixture, number).await;
        if number % DRAIN_EVERY == DRAIN_EVERY - 1 {
            all_have_run(&fixture).await;
        }
    }
    assert!(total >= CYCLES * 4, "{total}");
    all_have_run(&fixture).await;
    fixture.wait_idle().await;
}

async fn all_have_run(fixture: &Fixture) {
    let look = || async {
        let live = fixture.get("/v1/tasks?state=queued&limit=1000").await["tasks"].clone();
        match live.as_array().is_some_and(Vec::is_empty) {
            true => Look::Ready(()),
            false => Look::NotYet(live.as_array().map_or(0, Vec::len)),
        }
    };
    wait_for("every task to run", LIMIT * 4, look).await.unwrap();
}
