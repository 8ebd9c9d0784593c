//! SIGTERM: streams finish or end with a frame (ARCHITECTURE.md, "Shutdown order").

use test_harness_support::stream_check::StreamCheck;

use rustix::process::Signal;

use crate::fixture::{Fixture, LIMIT, paced, task};

#[tokio::test]
async fn what_runs_finishes_and_what_waits_ends_with_a_frame() {
    let fixture = Fixture::one(1, paced()).await;
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

#[tokio::test]
async fn what_outlasts_the_grace_ends_with_a_frame_too() {
    let fixture = Fixture::start(&[("p", 1, paced())], "[http]\nshutdown_grace_ms = 200\n", &[]).await;
    let running = fixture.submit(&task(2000)).await;
    let mut reader = fixture.open(&running, None).await;
    while reader.next_event(LIMIT).await.unwrap().unwrap().name.as_deref() != Some("token") {}
    fixture.daemon.signal(Signal::TERM).unwrap();
    let rest = reader.all_events(LIMIT).await.unwrap();
    assert_eq!(rest.last().unwrap().name.as_deref(), Some("error"));
    assert!(fixture.daemon.wait(LIMIT).await.unwrap().success());
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
