//! ORCH-3460, ORCH-3462: a scrape only reads, and tokens are counted once a run. The families themselves are checked by
//! `test-harness/metrics-contract`.

use test_harness_support::http1::Call;

use crate::fixture::{Fixture, LIMIT, fast, paced, task};

#[tokio::test]
async fn a_scrape_only_reads() {
    let fixture = Fixture::one(1, fast()).await;
    fixture.read(&fixture.submit(&task(3)).await).await;
    fixture.wait_idle().await;
    let first = fixture.call(Call::get("/metrics")).await.text();
    let second = fixture.call(Call::get("/metrics")).await.text();
    assert_eq!(first, second);
}

/// ORCH-3462: what was streamed is counted when the run ends; no token touches a family.
#[tokio::test]
async fn tokens_are_counted_once_a_run_and_not_one_by_one() {
    let fixture = Fixture::one(1, paced()).await;
    let task = fixture.submit(&task(400)).await;
    let mut reader = fixture.open(&task, None).await;
    let mut seen = 0;
    while seen < 20 {
        let event = reader.next_event(LIMIT).await.unwrap().unwrap();
        seen += u32::from(event.name.as_deref() == Some("token"));
    }
    let meanwhile = fixture.call(Call::get("/metrics")).await.text();
    assert!(!meanwhile.contains("\ntokens_out_total{"), "{meanwhile}");
    reader.all_events(LIMIT).await.unwrap();
    fixture.wait_idle().await;
    let after = fixture.call(Call::get("/metrics")).await.text();
    let counted = after.lines().find(|line| line.starts_with("tokens_out_total{"));
    assert!(counted.unwrap().ends_with(" 400"), "{counted:?}");
}
