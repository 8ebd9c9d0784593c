//! Invariants 1, 2 and 7 of ARCHITECTURE.md on the log itself: contiguous indexes for every reader,
//! nothing after the terminal frame, nothing after a cut.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use api_types::{ErrorBody, ErrorCode, NarrationEvent};
use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Gone(AtomicUsize);

impl ReaderGone for Gone {
    fn last_reader_gone(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

const OPTIONS: LogOptions = LogOptions {
    reader_lag_cap: 8,
    microbatch: false,
    max_bytes: 1 << 20,
};

fn terminal(_: &Progress) -> Epilogue {
    TaskEvent::Error(Box::new(ErrorBody::new(ErrorCode::Internal, "x"))).into()
}

fn narration() -> TaskEvent {
    TaskEvent::Narration(NarrationEvent {
        human: "h".into(),
        actor: "a".into(),
        action: "b".into(),
    })
}

fn batch(texts: &[&str]) -> TokenBatch {
    let mut batch = TokenBatch::new();
    texts.iter().for_each(|t| batch.push(t));
    batch
}

fn started(log: &TaskLog) {
    // Any numbered event serves as frame 0 for the log.
    log.start(&narration()).unwrap();
}

fn drain(reader: &mut Reader) -> (String, bool) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut text = String::new();
    loop {
        match reader.poll_bytes(&mut cx) {
            Poll::Ready(Some(data)) => text.push_str(std::str::from_utf8(&data).unwrap()),
            Poll::Ready(None) => return (text, true),
            Poll::Pending => return (text, false),
        }
    }
}

use std::task::Context;

/// Frame numbers in the order they were delivered.
fn numbers(text: &str) -> Vec<u64> {
    text.lines()
        .filter_map(|l| l.strip_prefix("id: 0."))
        .map(|n| n.parse().unwrap())
        .collect()
}

const fn frame(n: u64) -> FrameId {
    FrameId { epoch: 0, n }
}

fn read(log: &TaskLog, after: Option<u64>) -> (String, bool) {
    drain(&mut log.reader(after.map(frame), Arc::new(Gone::default())).unwrap())
}

#[tokio::test]
async fn nothing_follows_the_seal() {
    let log = TaskLog::new(OPTIONS);
    started(&log);
    log.seal(false, terminal).unwrap();
    assert_eq!(log.seal(true, terminal), Err(AppendError::Sealed));
    assert_eq!(
        log.append_tokens(&batch(&["x"]), Instant::now()),
        Err(AppendError::Sealed)
    );
    assert_eq!(log.offer(&narration()), Offered::Dropped);
    let (text, ended) = read(&log, None);
    assert_eq!((numbers(&text), ended), (vec![0, 1], true));
}

#[tokio::test]
async fn a_cut_withholds_what_was_not_taken() {
    let log = TaskLog::new(OPTIONS);
    started(&log);
    let mut reader = log.reader(None, Arc::new(Gone::default())).unwrap();
    log.append_tokens(&batch(&["a"]), Instant::now()).unwrap();
    assert_eq!(numbers(&drain(&mut reader).0), [0, 1]);
    log.append_tokens(&batch(&["b", "c"]), Instant::now()).unwrap();
    log.seal(true, terminal).unwrap();
    assert_eq!(numbers(&drain(&mut reader).0), [4], "only the terminal frame");
    assert_eq!(
        numbers(&read(&log, Some(1)).0),
        [4],
        "a resumed reader gets no token either"
    );
    assert_eq!(
        numbers(&read(&log, None).0),
        [0, 4],
        "a new reader gets the first and the last frame"
    );
}

#[tokio::test]
async fn the_engine_waits_for_the_slowest_reader_and_no_token_is_dropped() {
    let log = TaskLog::new(OPTIONS);
    started(&log);
    let mut reader = log.reader(None, Arc::new(Gone::default())).unwrap();
    let append = |_| log.append_tokens(&batch(&["a"]), Instant::now()).unwrap();
    let rooms: Vec<Room> = (0..10).map(append).collect();
    assert_eq!((rooms[0], rooms[9]), (Room::Free, Room::Crowded));
    assert_eq!(log.offer(&narration()), Offered::Dropped);
    let waiting = log.clone();
    let mut room = Box::pin(async move { waiting.room().await });
    assert!(futures_util::poll!(&mut room).is_pending());
    assert_eq!(numbers(&drain(&mut reader).0).len(), 11);
    room.await;
    assert_eq!(log.offer(&narration()), Offered::Appended);
}

#[tokio::test]
async fn slow_readers_are_detached_and_can_resume() {
    let log = TaskLog::new(OPTIONS);
    started(&log);
    let mut slow = log.reader(None, Arc::new(Gone::default())).unwrap();
    for _ in 0..20 {
        log.append_tokens(&batch(&["a"]), Instant::now()).unwrap();
    }
    assert_eq!(log.detach_slow_readers(), 1);
    assert_eq!(log.readers(), 0);
    assert!(drain(&mut slow).1, "its stream ends");
    assert_eq!(numbers(&read(&log, Some(3)).0), (4..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_last_reader_leaving_an_unfinished_task_is_told_once() {
    let log = TaskLog::new(OPTIONS);
    started(&log);
    let gone = Arc::new(Gone::default());
    let one = log
        .reader(None, Arc::clone(&gone) as Arc<dyn ReaderGone>)
        .unwrap();
    let two = log
        .reader(None, Arc::clone(&gone) as Arc<dyn ReaderGone>)
        .unwrap();
    drop(one);
    assert_eq!(gone.0.load(Ordering::SeqCst), 0);
    drop(two);
    assert_eq!(gone.0.load(Ordering::SeqCst), 1);
    let mut done = log
        .reader(None, Arc::clone(&gone) as Arc<dyn ReaderGone>)
        .unwrap();
    log.seal(false, terminal).unwrap();
    assert!(drain(&mut done).1);
    drop(done);
    assert_eq!(
        gone.0.load(Ordering::SeqCst),
        1,
        "a reader that saw the end has not abandoned the task"
    );
}

#[tokio::test]
async fn resuming_beyond_the_end_is_told_apart() {
    let log = TaskLog::new(OPTIONS);
    started(&log);
    let gone: Arc<dyn ReaderGone> = Arc::new(Gone::default());
    assert_eq!(
        log.reader(Some(frame(1)), Arc::clone(&gone)).unwrap_err(),
        ResumePoint::Ahead { asked: 1, last: 0 }
    );
    log.seal(false, terminal).unwrap();
    assert_eq!(
        log.reader(Some(frame(1)), gone).unwrap_err(),
        ResumePoint::Ended { last: 1 }
    );
}

/// ORCH-3716: ids of earlier epochs lead to the same place while the text is the same, and back to
/// where it is not.
#[tokio::test]
async fn ids_of_earlier_epochs_resolve() {
    let taken_up = TakenUp {
        epoch: 2,
        kept: vec![3, 2],
    };
    let log = TaskLog::taken_up(OPTIONS, taken_up);
    started(&log);
    log.append_tokens(&batch(&["a", "b", "c", "d"]), Instant::now())
        .unwrap();
    log.seal(false, terminal).unwrap();
    let ids = |epoch, n| {
        let reader = log.reader(Some(FrameId { epoch, n }), Arc::new(Gone::default()));
        let (text, ended) = drain(&mut reader.unwrap());
        assert!(ended);
        text
    };
    assert!(ids(0, 2).starts_with("id: 2.3\nevent: token"), "{}", ids(0, 2));
    assert!(ids(1, 0).starts_with("id: 2.1\nevent: token"));
    assert!(ids(2, 4).contains("id: 2.5\nevent: "), "{}", ids(2, 4));
    for (epoch, n) in [(0, 3), (0, 9), (1, 3), (1, u64::MAX)] {
        let text = ids(epoch, n);
        assert!(
            text.starts_with("event: resync\ndata: {\"epoch\":2,\"from\":2}\n\nid: 2.3\n"),
            "{epoch}.{n}: {text}"
        );
    }
    let ahead = log.reader(Some(FrameId { epoch: 3, n: 0 }), Arc::new(Gone::default()));
    assert!(matches!(ahead, Err(ResumePoint::Ahead { .. })));
}

#[tokio::test]
async fn a_parked_log_ends_its_readers_and_takes_nothing_more() {
    let log = TaskLog::new(OPTIONS);
    started(&log);
    let mut reader = log.reader(None, Arc::new(Gone::default())).unwrap();
    assert!(!drain(&mut reader).1);
    log.park();
    assert!(drain(&mut reader).1);
    assert_eq!(
        log.append_tokens(&batch(&["a"]), Instant::now()),
        Err(AppendError::Sealed)
    );
    assert_eq!(log.seal(false, terminal), Err(AppendError::Sealed));
    assert!(log.terminal().is_none());
}

#[tokio::test]
async fn output_is_bounded() {
    let log = TaskLog::new(LogOptions {
        max_bytes: 100,
        ..OPTIONS
    });
    started(&log);
    let big = "x".repeat(200);
    log.append_tokens(&batch(&[&big]), Instant::now()).unwrap();
    assert_eq!(
        log.append_tokens(&batch(&["y"]), Instant::now()),
        Err(AppendError::Full { max_bytes: 100 })
    );
    assert!(
        log.seal(false, terminal).is_ok(),
        "the terminal frame always fits"
    );
}

proptest! {
    /// Whatever was appended in whatever batches, a reader from any frame gets exactly the rest.
    #[test]
    fn every_resume_point_gives_the_rest(
        appends in prop::collection::vec((0_usize..5, any::<bool>()), 0..20),
        microbatch in any::<bool>(),
    ) {
        let log = TaskLog::new(LogOptions { microbatch, reader_lag_cap: u64::MAX, ..OPTIONS });
        started(&log);
        for (tokens, note) in &appends {
            let now = Instant::now();
            log.append_tokens(&batch(&vec!["t"; *tokens]), now).unwrap();
            if *note { log.offer(&narration()); }
        }
        log.seal(false, terminal).unwrap();
        let (whole, ended) = read(&log, None);
        prop_assert!(ended);
        let all = numbers(&whole);
        let last = *all.last().unwrap();
        prop_assert_eq!(last, 1 + appends.iter().map(|(t, _)| *t as u64).sum::<u64>());
        if !microbatch {
            prop_assert_eq!(&all, &(0..=last).collect::<Vec<_>>());
        }
        for &after in &all[..all.len() - 1] {
            let rest = numbers(&read(&log, Some(after)).0);
            let expected: Vec<u64> = all.iter().copied().filter(|&n| n > after).collect();
            prop_assert_eq!(rest, expected, "after {}", after);
        }
    }
}
