//! ORCH-3710: no acknowledged task is lost by a power cut, wherever it falls.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api_types::{TaskId, TaskState};
use task_journal::{Journal, JournalOptions, NotCommitted, Op, Store};

use crate::cut_disk::{CutDisk, Dice};
use crate::fixtures::{admit, edge, id};

/// Cuts of the test command; `cargo xtask crash` asks for more through the environment of its build.
const CUTS: u64 = match option_env!("POWER_CUTS") {
    Some(text) => parse(text.as_bytes()),
    None => 300,
};

const fn parse(digits: &[u8]) -> u64 {
    let (mut at, mut value) = (0, 0_u64);
    while at < digits.len() {
        value = value * 10 + (digits[at] - b'0') as u64;
        at += 1;
    }
    value
}

type Answers = Arc<Mutex<Vec<(TaskId, Result<(), NotCommitted>)>>>;

fn write(journal: &Journal, answers: &Answers, task: TaskId, op: Op) {
    let answers = Arc::clone(answers);
    journal.write(
        op,
        Box::new(move |outcome| answers.lock().unwrap().push((task, outcome))),
    );
}

/// One life of the daemon until the cut; gives the acknowledged tasks.
fn live(disk: &CutDisk, dice: &mut Dice, first: u32) -> Vec<TaskId> {
    let (store, _) = Store::open_with(disk.clone(), Path::new("memory")).unwrap();
    disk.cut_at_sync(dice.below(8) as u32);
    let options = JournalOptions {
        linger: Duration::ZERO,
        edge_linger: Duration::ZERO,
        ..JournalOptions::default()
    };
    let journal = Journal::start(store, options, || None, |_| {}).unwrap();
    let answers = Answers::default();
    for n in first..first + 24 {
        let filler = dice.below(2000) as usize;
        write(&journal, &answers, id(n), admit(n, u64::from(n), filler));
        if dice.below(2) == 0 {
            journal.note(edge(n, TaskState::Running, 1));
        }
    }
    journal.close();
    let answers = answers.lock().unwrap();
    assert_eq!(answers.len(), 24, "everybody is answered");
    let kept = answers.iter().filter(|(_, outcome)| outcome.is_ok());
    kept.map(|(task, _)| *task).collect()
}

#[test]
fn what_was_acknowledged_is_there_after_any_cut() {
    let (mut acknowledged, mut failed) = (0, 0);
    for seed in 0..CUTS {
        let mut dice = Dice::new(seed);
        let mut disk = CutDisk::default();
        let mut known: Vec<TaskId> = Vec::new();
        for round in 0..3 {
            let kept = live(&disk, &mut dice, round * 100);
            acknowledged += kept.len();
            failed += 24 - kept.len();
            known.extend(kept);
            disk = disk.after_cut(&mut dice);
            let (store, tasks) = Store::open_with(disk.clone(), Path::new("memory"))
                .unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
            for task in &known {
                assert!(
                    tasks.iter().any(|found| found.id == *task),
                    "seed {seed}: {task} is lost"
                );
            }
            drop(store);
        }
    }
    assert!(
        acknowledged > 0 && failed > 0,
        "{acknowledged} acknowledged, {failed} not"
    );
}
