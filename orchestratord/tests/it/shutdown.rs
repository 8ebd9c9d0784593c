//! SIGTERM: streams finish or end with a frame (ARCHITECTURE.md, "Shutdown order").

use test_harness_support::stream_check::StreamCheck;

use rustix::process::Signal;

use crate::fixture::{Fixture, LIMIT, paced, task};

/// A stop that does not wait for long.
const BRIEF: &str = "[http]\nshutdown_grace_ms = 200\n";

#[tokio::test]
async fn what_runs_finishes_and_what_waits_ends_with_a_frame() {
    let fixture = Fixture::start(&[("p", 1, paced())], "", &[("ORCHD_DURABILITY", "off")]).await;
    let running = fixture.submit(&task(100)).await;
    let waiting = fixture.submit(&task(4)).await;
    let (mut a, b) = (
        fixture.open(&running, None).await,
        fixture.open(&waiting, None).await,
    );
    let mut events = Vec::new();
    while events
        .last()
        .is_none_or(|e: &test_harness_support::sse::Event| e.name.as_deref() != Some("token"))
    {
        events.push(a.next_event(LIMIT).await.unwrap().unwrap());
    }
    fixture.daemon.signal(Signal::TERM).unwrap();
    let (rest, ended) = tokio::join!(a.all_events(LIMIT), async move {
        let mut b = b;
        b.all_events(LIMIT).await
    });
    events.extend(rest.unwrap());
    let finished = StreamCheck::whole(&events).unwrap();
    assert_eq!((finished.outcome(), finished.tokens.len()), (Some("length"), 100));
    assert_eq!(
        StreamCheck::whole(&ended.unwrap()).unwrap().outcome(),
        Some("POOL_UNAVAILABLE")
    );
    assert!(fixture.daemon.wait(LIMIT).await.unwrap().success());
}

/// ORCH-3715: a graceful stop throws no waiting task away.
#[tokio::test]
async fn what_waits_keeps_its_place_over_a_graceful_restart() {
    let mut fixture = Fixture::one(1, paced()).await;
    let running = fixture.submit(&task(20)).await;
    let waiting = fixture.submit(&task(4)).await;
    let mut reader = fixture.open(&waiting, None).await;
    fixture
        .wait_status(&running, "it to run", |status| status["state"] == "running")
        .await;
    fixture.daemon.signal(Signal::TERM).unwrap();
    let told = reader.all_events(LIMIT).await.unwrap();
    let names: Vec<_> = told.iter().filter_map(|event| event.name.as_deref()).collect();
    assert_eq!(names.first(), Some(&"started"));
    assert_eq!(names.last(), Some(&"narration"), "no terminal frame: {names:?}");
    assert!(fixture.daemon.wait(LIMIT).await.unwrap().success());
    fixture.start_again().await;
    assert_eq!(fixture.status(&running).await["state"], "completed");
    assert_eq!(fixture.status(&waiting).await["state"], "queued");
    fixture.register().await;
    let rest = fixture
        .open(&waiting, Some("0.0"))
        .await
        .all_events(LIMIT)
        .await
        .unwrap();
    let mut check = StreamCheck::resumed_after("0.0").unwrap();
    rest.iter().try_for_each(|event| check.event(event)).unwrap();
    assert_eq!(check.finish().unwrap().tokens.len(), 4);
}

#[tokio::test]
async fn what_outlasts_the_grace_ends_with_a_frame_too() {
    let off = [("ORCHD_DURABILITY", "off")];
    let fixture = Fixture::start(&[("p", 1, paced())], BRIEF, &off).await;
    let running = fixture.submit(&task(2000)).await;
    let mut reader = fixture.open(&running, None).await;
    while reader.next_event(LIMIT).await.unwrap().unwrap().name.as_deref() != Some("token") {}
    fixture.daemon.signal(Signal::TERM).unwrap();
    let rest = reader.all_events(LIMIT).await.unwrap();
    assert_eq!(rest.last().unwrap().name.as_deref(), Some("error"));
    assert!(fixture.daemon.wait(LIMIT).await.unwrap().success());
}

/// ORCH-3715.
#[tokio::test]
async fn what_outlasts_the_grace_goes_on_after_the_restart() {
    let mut fixture = Fixture::start(&[("p", 1, paced())], BRIEF, &[]).await;
    let running = fixture.submit(&task(300)).await;
    let mut reader = fixture.open(&running, None).await;
    let mut seen = Vec::new();
    while seen
        .last()
        .is_none_or(|e: &test_harness_support::sse::Event| e.name.as_deref() != Some("token"))
    {
        seen.push(reader.next_event(LIMIT).await.unwrap().unwrap());
    }
    fixture.daemon.signal(Signal::TERM).unwrap();
    seen.extend(reader.all_events(LIMIT).await.unwrap());
    assert!(fixture.daemon.wait(LIMIT).await.unwrap().success());
    fixture.start_again().await;
    fixture.register().await;
    let last = seen.iter().rev().find_map(|event| event.id.clone()).unwrap();
    let rest = fixture
        .open(&running, Some(&last))
        .await
        .all_events(LIMIT)
        .await
        .unwrap();
    let mut check = StreamCheck::new();
    seen.iter()
        .chain(&rest)
        .try_for_each(|event| check.event(event))
        .unwrap();
    assert_eq!(check.finish().unwrap().tokens.len(), 300);
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let fixture = Fixture::one(1, paced()).await;
    let running = fixture.submit(&task(2000)).await;
    fixture
        .wait_status(&running, "it to run", |status| status["state"] == "running")
        .await;
    fixture.daemon.signal(Signal::TERM).unwrap();
    let look = || async {
        let ready = fixture
            .call(test_harness_support::http1::Call::get("/readyz"))
            .await
            .status;
        if ready == 503 {
            test_harness_support::wait::Look::Ready(())
        } else {
            test_harness_support::wait::Look::NotYet(ready)
        }
    };
    test_harness_support::wait::wait_for("readiness to fall", LIMIT, look)
        .await
        .unwrap();
    let refused = fixture.post(&task(4)).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    fixture.daemon.signal(Signal::TERM).unwrap();
    assert_eq!(fixture.daemon.wait(LIMIT).await.unwrap().code(), Some(143));
}
