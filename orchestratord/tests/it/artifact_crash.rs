//! REQ-ARTIFACT-ATOMIC, REQ-TRACE-EVERY: `kill -9` in the middle of storing shows nothing half-done, and everything that
//! was answered or named.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use test_harness_support::http1::{self, Call, Connection};
use test_harness_support::sse::SseReader;
use test_harness_support::wait::{Look, wait_for};
use tokio::task::JoinSet;

use crate::crash_cycles::digits;
use crate::fixture::{Fixture, LIMIT, fast, files, task};

/// Kills of one run; `cargo xtask crash` builds it with more.
const CYCLES: usize = match option_env!("ARTIFACT_CYCLES") {
    Some(text) => digits(text.as_bytes()),
    None => 12,
};
const CLIENTS: usize = 4;

/// Stores until the daemon is gone; tells what was answered with 201.
async fn store_until_gone(
    address: std::net::SocketAddr,
    client: usize,
    cycle: usize,
    answered: Arc<AtomicUsize>,
) -> Vec<(String, String)> {
    let mut mine = Vec::new();
    for n in 0.. {
        let content = format!(
            "cycle {cycle} client {client} number {n} {}",
            "x".repeat(n * 997 % 60_000)
        );
        let body = json!({"kind": "other", "content": content, "tags": [format!("cycle:{cycle}")]});
        match http1::call(address, &Call::post_json("/v1/artifacts", &body)).await {
            Ok(answer) if answer.status == 201 => {
                let info: Value = answer.json().unwrap();
                mine.push((info["id"].as_str().unwrap().to_owned(), content));
            }
            Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
            Err(_gone) => break,
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
    mine
}

async fn cycle(fixture: &mut Fixture, number: usize, all: &mut BTreeMap<String, String>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let answered = Arc::clone(&answered);
        clients.spawn(store_until_gone(
            fixture.daemon.address(),
            client,
            number,
            answered,
        ));
    }
    let enough = 1 + number * 5 % 17;
    let look = || async {
        match answered.load(Ordering::SeqCst) {
            count if count >= enough => Look::Ready(()),
            count => Look::NotYet(count),
        }
    };
    wait_for("some answers", LIMIT, look).await.unwrap();
    fixture.daemon.kill().unwrap();
    all.extend(clients.join_all().await.into_iter().flatten());
    fixture.daemon.wait(LIMIT).await.unwrap();
    fixture.start_again().await;
}

#[tokio::test]
async fn what_was_answered_is_whole_and_what_was_not_is_whole_or_not_there() {
    let mut fixture = Fixture::start(&[], "", &[]).await;
    let mut all = BTreeMap::new();
    for number in 0..CYCLES {
        cycle(&mut fixture, number, &mut all).await;
        for (id, content) in &all {
            let shown = fixture.get(&format!("/v1/artifacts/{id}")).await;
            assert_eq!(shown["content"], content.as_str(), "cycle {number}");
        }
    }
    let artifacts = fixture.state().join("artifacts");
    assert_eq!(
        files(&artifacts.join("tmp")),
        [""; 0].map(PathBuf::from),
        "nothing unfinished stays"
    );
    let listed = all_listed(&fixture).await;
    for info in &listed {
        // Verified by the daemon: its digest is its name.
        fixture
            .get(&format!("/v1/artifacts/{}", info["id"].as_str().unwrap()))
            .await;
    }
    let names = |folder: &str| files(&artifacts.join(folder)).len();
    assert_eq!((names("blobs"), names("meta")), (listed.len(), listed.len()));
}

/// Every artifact, page by page.
async fn all_listed(fixture: &Fixture) -> Vec<Value> {
    let mut listed = Vec::new();
    let mut path = "/v1/artifacts?limit=1000".to_owned();
    loop {
        let page = fixture.get(&path).await;
        listed.extend_from_slice(page["artifacts"].as_array().unwrap());
        let Some(cursor) = page["next_cursor"].as_str() else {
            return listed;
        };
        path = format!("/v1/artifacts?limit=1000&cursor={cursor}");
    }
}

/// Runs tasks until the daemon is gone; tells which traces their ends have named.
async fn run_until_gone(address: std::net::SocketAddr, ended: Arc<AtomicUsize>) -> Vec<String> {
    let mut named = Vec::new();
    loop {
        let Ok(admitted) = http1::call(address, &Call::post_json("/v1/tasks", &task(3))).await else {
            break;
        };
        let receipt: Value = admitted.json().unwrap();
        let stream = Call::get(receipt["stream_url"].as_str().unwrap());
        let Ok(mut reader) = SseReader::open(address, &stream).await else {
            break;
        };
        while let Ok(Some(event)) = reader.next_event(LIMIT).await {
            if event.name.as_deref() == Some("end") {
                let end: Value = serde_json::from_str(&event.data).unwrap();
                named.push(end["transcript"]["artifact_id"].as_str().unwrap().to_owned());
                ended.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    named
}

#[tokio::test]
async fn every_trace_that_was_named_is_there_after_a_kill() {
    let mut fixture = Fixture::start(&[("p", 2, fast())], "", &[]).await;
    for number in 0..CYCLES / 2 {
        let ended = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(run_until_gone(fixture.daemon.address(), Arc::clone(&ended)));
        }
        let enough = 3 + number * 7 % 19;
        let look = || async {
            match ended.load(Ordering::SeqCst) {
                count if count >= enough => Look::Ready(()),
                count => Look::NotYet(count),
            }
        };
        wait_for("some ends", LIMIT, look).await.unwrap();
        fixture.daemon.kill().unwrap();
        let named = clients.join_all().await;
        fixture.daemon.wait(LIMIT).await.unwrap();
        fixture.start_again().await;
        for id in named.iter().flatten() {
            fixture.get(&format!("/v1/artifacts/{id}")).await;
        }
        fixture.register().await;
    }
}

/// The daemon dies while it still reads what it is to store.
#[tokio::test]
async fn half_a_request_leaves_nothing() {
    let mut fixture = Fixture::start(&[], "", &[]).await;
    let mut connection = Connection::open(fixture.daemon.address()).await.unwrap();
    let body = json!({"kind": "other", "content": "y".repeat(200_000)});
    let call = Call::post_json("/v1/artifacts", &body);
    let bytes = call.bytes(&fixture.daemon.address().to_string());
    connection.send(&bytes[..bytes.len() / 2]).await.unwrap();
    // The first half is there once another request on the same daemon is answered.
    fixture.get("/v1/artifacts").await;
    fixture.crash().await;
    assert_eq!(fixture.get("/v1/artifacts").await["artifacts"], json!([]));
    let artifacts = fixture.state().join("artifacts");
    for folder in ["blobs", "meta", "tmp"] {
        assert!(files(&artifacts.join(folder)).is_empty(), "{folder}");
    }
}
