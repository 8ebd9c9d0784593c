//! ORCH-3204 as a race: at whatever token the cancel comes, none follows its acknowledgement. Bounded here;
//! `cargo xtask crash` builds it with more races.

use std::cell::RefCell;
use std::pin::pin;
use std::task::Poll;

use futures_util::future::{Either, select};
use futures_util::poll;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use test_harness_support::http1::Call;
use test_harness_support::sse::{Event, SseReader};
use tokio::task::unconstrained;

use crate::fixture::{Fixture, LIMIT, fast, task};

/// Races of one run.
const RACES: usize = match option_env!("CANCEL_RACES") {
    Some(text) => crate::crash_cycles::digits(text.as_bytes()),
    None => 300,
};

fn is_token(event: &Event) -> bool {
    event.name.as_deref() == Some("token")
}

/// The daemon on one core, with as many threads as before. Over loopback a core delivers what it was given in its order,
/// but two cores do not wait for each other on a busy machine: a token that was written before the acknowledgement could
/// arrive after it.
async fn on_one_core() -> Fixture {
    let all = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap();
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).unwrap();
    let pools = [("p", 2, fast().paced(0, 400))];
    let fixture = Fixture::start(&pools, "", &[("TOKIO_WORKER_THREADS", "4")]).await;
    sched_setaffinity(None, &all).unwrap();
    fixture
}

/// Cancels while the reader reads on; gives the events and how many had arrived at the acknowledgement.
///
/// The runtime has one thread and fetches the news of all sockets before it runs a future: what was
/// sent before the acknowledgement is readable when the acknowledgement is, and one poll takes it all.
async fn race(fixture: &Fixture, id: &str, mut reader: SseReader) -> (Vec<Event>, usize) {
    let events = RefCell::new(Vec::new());
    let reading = pin!(unconstrained(async {
        while let Some(event) = reader.next_event(LIMIT).await.unwrap() {
            events.borrow_mut().push(event);
        }
    }));
    let cancel = Call::post(&format!("/v1/tasks/{id}/cancel"));
    let seen = match select(pin!(fixture.call(cancel)), reading).await {
        Either::Left((answer, mut reading)) => {
            assert_eq!(answer.status, 204);
            let ended = poll!(&mut reading);
            let seen = events.borrow().len();
            if ended == Poll::Pending {
                reading.await;
            }
            seen
        }
        Either::Right(((), answer)) => {
            assert_eq!(answer.await.status, 204);
            events.borrow().len()
        }
    };
    (events.take(), seen)
}

#[tokio::test]
async fn no_token_follows_the_acknowledgement() {
    let fixture = on_one_core().await;
    let mut cut = 0;
    for number in 0..RACES {
        let id = fixture.submit(&task(2000)).await;
        let mut reader = fixture.open(&id, None).await;
        let mut tokens = 0;
        while tokens < number % 6 {
            tokens += usize::from(is_token(&reader.next_event(LIMIT).await.unwrap().unwrap()));
        }
        let (events, seen) = race(&fixture, &id, reader).await;
        let after = &events[seen..];
        assert!(!after.iter().any(is_token), "race {number}: {after:?}");
        let last = events.last().unwrap();
        assert!(
            last.name.as_deref() == Some("end") && last.data.contains("\"canceled\""),
            "{last:?}"
        );
        cut += usize::from(events.iter().any(is_token));
    }
    assert!(cut > 0, "no race was won by a token");
    fixture.wait_idle().await;
}
