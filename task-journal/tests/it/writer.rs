//! The writer's promises that need no crash: refusals, order of answers, what a full disk means.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use task_journal::{Journal, JournalOptions, NotCommitted, Op, Store};

use crate::fixtures::{admit, id};

fn open(folder: &tempfile::TempDir) -> (Store, usize) {
    let (store, tasks) = Store::open(&folder.path().join("tasks.redb")).unwrap();
    (store, tasks.len())
}

#[test]
fn a_disk_without_room_takes_edges_and_no_admissions() {
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        reserve_bytes: 100,
        ..JournalOptions::default()
    };
    let journal = Journal::start(open(&folder).0, options, || Some(99), |_| {}).unwrap();
    let (answer, answers) = sync_channel(2);
    let barrier = answer.clone();
    journal.write(
        admit(1, 1, 10),
        Box::new(move |outcome| answer.send(("admit", outcome)).unwrap()),
    );
    journal.write(
        Op::Barrier,
        Box::new(move |outcome| barrier.send(("barrier", outcome)).unwrap()),
    );
    journal.close();
    assert_eq!(answers.recv().unwrap(), ("admit", Err(NotCommitted::DiskFull)));
    assert_eq!(answers.recv().unwrap(), ("barrier", Ok(())));
    drop(journal);
    assert_eq!(open(&folder).1, 0);
}

#[test]
fn a_closed_journal_has_written_everything_and_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        edge_linger: Duration::from_secs(3600),
        ..JournalOptions::default()
    };
    let journal = Journal::start(open(&folder).0, options, || None, |_| {}).unwrap();
    for n in 0..1000 {
        journal.note(admit(n, u64::from(n), 10));
    }
    journal.note(Op::Forget(id(7)));
    journal.close();
    let (answer, answers) = sync_channel(1);
    journal.write(
        Op::Barrier,
        Box::new(move |outcome| answer.send(outcome).unwrap()),
    );
    assert_eq!(answers.recv().unwrap(), Err(NotCommitted::Failed));
    drop(journal);
    assert_eq!(open(&folder).1, 999);
}

#[test]
fn more_than_the_inbox_holds_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        capacity: 0,
        ..JournalOptions::default()
    };
    let journal = Journal::start(open(&folder).0, options, || None, |_| {}).unwrap();
    let (answer, answers) = sync_channel(1);
    journal.write(
        admit(1, 1, 10),
        Box::new(move |outcome| answer.send(outcome).unwrap()),
    );
    assert_eq!(answers.recv().unwrap(), Err(NotCommitted::Behind));
}
