//! ORCH-3710, ORCH-3711, ORCH-3712, REQ-CFG-4: what was acknowledged survives `kill -9`, in its order.

use serde_json::{Value, json};
use test_harness_support::wait::{Look, wait_for};

use crate::fixture::{Fixture, LIMIT, fast, paced, task, task_with};

async fn running(fixture: &Fixture) -> String {
    let task = fixture.submit(&task(1000)).await;
    fixture
        .wait_status(&task, "it to run", |status| status["state"] == "running")
        .await;
    task
}

/// The waiting tasks' ids by their position.
async fn waiting(fixture: &Fixture) -> Vec<String> {
    let listed = fixture.get("/v1/tasks?state=queued&limit=100").await;
    let mut tasks: Vec<(u64, String)> = listed["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| {
            let id = task["task_id"].as_str().unwrap().to_owned();
            (task["queue_position"].as_u64().unwrap(), id)
        })
        .collect();
    tasks.sort_unstable();
    tasks.into_iter().map(|(_, id)| id).collect()
}

#[tokio::test]
async fn waiting_tasks_keep_their_order_and_run() {
    let mut fixture = Fixture::one(1, paced()).await;
    let first = running(&fixture).await;
    let mut batch = Vec::new();
    let mut interactive = Vec::new();
    for n in 0..6 {
        let class = if n % 2 == 0 { "batch" } else { "interactive" };
        let id = fixture.submit(&task_with(3, json!({"priority": class}))).await;
        if n % 2 == 0 { &mut batch } else { &mut interactive }.push(id);
    }
    let order: Vec<String> = interactive.iter().chain(&batch).cloned().collect();
    assert_eq!(waiting(&fixture).await, order);
    fixture.crash().await;
    let after = waiting(&fixture).await;
    assert_eq!(
        after
            .iter()
            .filter(|id| **id != first)
            .cloned()
            .collect::<Vec<_>>(),
        order
    );
    fixture.pools[0].engine.set_script(fast());
    fixture.register().await;
    for id in &order {
        assert_eq!(fixture.read(id).await.tokens.len(), 3);
        assert_eq!(fixture.status(id).await["state"], "completed");
    }
    fixture.read(&first).await;
}

#[tokio::test]
async fn a_repeated_post_is_the_same_task_after_a_crash() {
    let mut fixture = Fixture::one(1, paced()).await;
    running(&fixture).await;
    let id = "018f0000-0000-7000-8000-0000000000aa";
    let body = task_with(3, json!({"task_id": id}));
    let receipt: Value = fixture.post(&body).await.json().unwrap();
    fixture.crash().await;
    fixture.register().await;
    let again = fixture.post(&body).await;
    assert_eq!((again.status, again.json::<Value>().unwrap()), (202, receipt));
    let other = fixture.post(&task_with(4, json!({"task_id": id}))).await;
    assert_eq!(
        (other.status, other.json::<Value>().unwrap()["code"].clone()),
        (409, json!("CONFLICT"))
    );
    let twice = fixture.get("/v1/tasks?limit=100").await;
    let same = |task: &&Value| task["task_id"] == id;
    assert_eq!(twice["tasks"].as_array().unwrap().iter().filter(same).count(), 1);
}

#[tokio::test]
async fn what_had_ended_is_still_known() {
    let mut fixture = Fixture::one(1, fast()).await;
    let done = fixture.submit(&task(5)).await;
    fixture.read(&done).await;
    let canceled = fixture.submit(&task(900)).await;
    let cancel =
        test_harness_support::http1::Call::post_json(&format!("/v1/tasks/{canceled}/cancel"), &json!({}));
    assert_eq!(fixture.call(cancel).await.status, 204);
    fixture.wait_idle().await;
    let before = (fixture.status(&done).await, fixture.status(&canceled).await);
    // Edges are written behind the answers; a graceful stop writes out what waits.
    fixture
        .daemon
        .signal(test_harness_support::daemon::Signal::TERM)
        .unwrap();
    fixture.daemon.wait(LIMIT).await.unwrap();
    fixture.start_again().await;
    for (old, id) in [(&before.0, &done), (&before.1, &canceled)] {
        let new = fixture.status(id).await;
        for key in [
            "state",
            "finish_reason",
            "usage",
            "pool_id",
            "seed",
            "correlation_id",
        ] {
            assert_eq!(old[key], new[key], "{key}");
        }
    }
}

#[tokio::test]
async fn a_second_orchestrator_on_the_same_state_exits_at_once() {
    let fixture = Fixture::one(1, fast()).await;
    let second = fixture.command().spawn().unwrap();
    assert!(!second.wait(LIMIT).await.unwrap().success());
    let said = second.stderr();
    let first = fixture.daemon.pid().to_string();
    assert!(
        said.contains("in use by another orchestratord") && said.contains(&first),
        "{said}"
    );
    assert!(!second.stdout().contains("listening"));
    let id = fixture.submit(&task(2)).await;
    fixture.read(&id).await;
}

#[tokio::test]
async fn a_damaged_journal_is_refused_and_left_alone() {
    let fixture = Fixture::one(1, paced()).await;
    running(&fixture).await;
    for _ in 0..20 {
        fixture.submit(&task(5)).await;
    }
    fixture.daemon.kill().unwrap();
    fixture.daemon.wait(LIMIT).await.unwrap();
    let journal = fixture.state().join("tasks.redb");
    let mut bytes = std::fs::read(&journal).unwrap();
    let at = find(&bytes, b"the moon over the river").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&journal, &bytes).unwrap();
    let refused = fixture.command().spawn().unwrap();
    assert!(!refused.wait(LIMIT).await.unwrap().success());
    let said = refused.stderr();
    assert!(said.contains("tasks.redb") && said.contains("damaged"), "{said}");
    assert_eq!(std::fs::read(&journal).unwrap().len(), bytes.len());
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[tokio::test]
async fn with_durability_off_nothing_is_written_and_nothing_survives() {
    let mut fixture = Fixture::start(&[("p", 1, fast())], "", &[("ORCHD_DURABILITY", "off")]).await;
    let id = fixture.submit(&task(2)).await;
    fixture.read(&id).await;
    assert!(!fixture.state().exists());
    fixture.crash().await;
    let answer = fixture
        .call(test_harness_support::http1::Call::get(&format!("/v1/tasks/{id}")))
        .await;
    assert_eq!(answer.status, 404);
}

/// ORCH-3713: a disk without room refuses admissions and nothing else; what was acknowledged stays.
#[tokio::test]
async fn a_full_disk_yields_no_false_202() {
    // The reserve is larger than any disk here: every admission finds it full.
    let full = "[orchestratord.journal]\nreserve_mib = 1048576\n";
    let fixture = Fixture::start(&[("p", 1, fast())], full, &[]).await;
    let refused = fixture.post(&task(2)).await;
    let body: Value = refused.json().unwrap();
    assert_eq!(
        (refused.status, &body["reason"]),
        (503, &json!("journal_disk_full")),
        "{body}"
    );
    let look = || async {
        let tasks = fixture.get("/v1/tasks?state=queued").await["tasks"].clone();
        match tasks.as_array().is_some_and(Vec::is_empty) {
            true => Look::Ready(()),
            false => Look::NotYet(tasks),
        }
    };
    wait_for("nothing to wait", LIMIT, look).await.unwrap();
}

/// What was acknowledged last is forgotten last, however often the daemon was started (ORCH-3710).
#[tokio::test]
async fn what_ended_before_a_restart_is_forgotten_before_what_ended_after_it() {
    let few = "[orchestratord.sse]\nretained_tasks = 4\n";
    let mut fixture = Fixture::start(&[("p", 1, fast())], few, &[]).await;
    for _ in 0..4 {
        let id = fixture.submit(&task(2)).await;
        fixture.read(&id).await;
    }
    fixture.crash().await;
    fixture.register().await;
    let last = fixture.submit(&task(2)).await;
    fixture.read(&last).await;
    fixture.crash().await;
    assert_eq!(fixture.status(&last).await["state"], "completed");
}
