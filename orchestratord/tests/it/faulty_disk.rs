//! ORCH-3713, ORCH-3714: a disk that fails or stalls under the built daemon yields no false 202, loses nothing that was
//! acknowledged, and never holds up tokens.

use serde_json::{Value, json};
use test_harness_support::faulty_disk::FaultyDisk;
use test_harness_support::http1::Answer;
use test_harness_support::scripted_engine::Script;
use test_harness_support::wait::{Look, wait_for};

use crate::fixture::{Fixture, LIMIT, fast, paced, task};

/// `EX_IOERR`, what a service manager sees when the journal has failed.
const EXIT_JOURNAL_FAILED: i32 = 74;

async fn on(disk: &FaultyDisk, script: Script, config: &str) -> Fixture {
    let environment = disk.environment();
    let environment = environment
        .each_ref()
        .map(|(name, value)| (*name, value.to_str().unwrap()));
    Fixture::start(&[("p", 1, script)], config, &environment).await
}

fn refusal(answer: &Answer) -> (u16, Value) {
    let body: Value = answer.json().unwrap();
    (answer.status, body["reason"].clone())
}

/// What was acknowledged is there after the crash, runs, and ends.
async fn breaks_and_recovers(fault: &str) {
    let disk = FaultyDisk::new().unwrap();
    let mut fixture = on(&disk, paced(), "").await;
    let acknowledged = [fixture.submit(&task(1000)).await, fixture.submit(&task(3)).await];
    disk.set(fault).unwrap();
    let refused = fixture.post(&task(3)).await;
    assert_eq!(refusal(&refused), (503, json!("journal_failed")), "{fault}");
    let status = fixture.daemon.wait(LIMIT).await.unwrap();
    assert_eq!(status.code(), Some(EXIT_JOURNAL_FAILED), "{fault}");
    disk.set("").unwrap();
    fixture.pools[0].engine.set_script(fast());
    fixture.start_again().await;
    fixture.register().await;
    for id in &acknowledged {
        assert_eq!(fixture.read(id).await.outcome(), Some("length"), "{fault}");
    }
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing_and_ends_the_daemon() {
    breaks_and_recovers("sync EIO").await;
}

#[tokio::test]
async fn a_failed_write_acknowledges_nothing_and_ends_the_daemon() {
    breaks_and_recovers("write_at ENOSPC").await;
}

#[tokio::test]
async fn a_disk_that_does_not_answer_refuses_and_goes_on_when_it_does() {
    let disk = FaultyDisk::new().unwrap();
    let fixture = on(&disk, fast(), "[orchestratord.journal]\nmax_lag_ms = 200\n").await;
    disk.set("sync stall").unwrap();
    let stalled = fixture.post(&task(3)).await;
    assert_eq!(refusal(&stalled), (503, json!("journal_behind")));
    let behind = fixture.post(&task(3)).await;
    assert_eq!(refusal(&behind), (503, json!("journal_behind")));
    disk.set("").unwrap();
    let look = || async {
        let answer = fixture.post(&task(3)).await;
        match answer.status {
            202 => Look::Ready(answer.json::<Value>().unwrap()),
            _ => Look::NotYet(answer.text()),
        }
    };
    let receipt = wait_for("the disk to answer", LIMIT, look).await.unwrap();
    let id = receipt["task_id"].as_str().unwrap();
    assert_eq!(fixture.read(id).await.outcome(), Some("length"));
    let known = fixture.get("/v1/tasks?state=completed").await["tasks"].clone();
    assert_eq!(
        known.as_array().map(Vec::len),
        Some(1),
        "the refused ones are gone: {known}"
    );
}

#[tokio::test]
async fn a_transcript_that_cannot_be_written_holds_up_no_token() {
    let disk = FaultyDisk::new().unwrap();
    let fixture = on(&disk, fast(), "").await;
    disk.set("append ENOSPC").unwrap();
    let id = fixture.submit(&task(50)).await;
    let stream = fixture.read(&id).await;
    assert_eq!((stream.tokens.len(), stream.outcome()), (50, Some("length")));
    fixture.wait_idle().await;
}
