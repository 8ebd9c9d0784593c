//! The transcript log: what was written is there after a restart, up to the first damage.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use api_types::{EngineKind, ErrorBody, ErrorCode, ModelId, PoolId, ReplicaId, TaskEvent, TaskId, TokenKind};
use proptest::prelude::*;
use task_journal::{RunRecord, Transcript, Transcripts};

use crate::fixtures::id;

const MOST: u64 = 1 << 20;

fn open(folder: &Path, most: u64) -> (Arc<Transcripts>, std::collections::HashMap<TaskId, Transcript>) {
    let (log, found) = Transcripts::open(folder, most, |_| true).unwrap();
    (Arc::new(log), found)
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort_unstable();
    files
}

fn write(log: &Arc<Transcripts>, task: TaskId, epoch: u32, first: u64, texts: &[&str]) {
    let generated = (first + texts.len() as u64) as u32;
    log.recorder(task, epoch)
        .tokens(
            first,
            generated,
            texts.iter().map(|text| (TokenKind::Text, *text)),
        )
        .unwrap();
}

/// ORCH-3712: what a task ran on is known as soon as its first text, whatever the journal had time for.
#[test]
fn what_a_task_runs_on_stands_before_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path(), MOST);
    let run = |replica: &str| RunRecord {
        pool_id: PoolId::new("p").unwrap(),
        replica_id: ReplicaId::new(replica).unwrap(),
        engine: EngineKind::Llamacpp,
        engine_version: Some("b1".to_owned()),
        engine_digest: None,
        model_id: ModelId::new("m").unwrap(),
        model_digest: None,
    };
    let mut recorder = log.recorder(id(1), 0);
    recorder.run(&run("r0")).unwrap();
    recorder.run(&run("r1")).unwrap();
    write(&log, id(1), 0, 0, &["a"]);
    drop((recorder, log));
    let (_, found) = open(folder.path(), MOST);
    assert_eq!(
        (found[&id(1)].run.as_ref(), found[&id(1)].text()),
        (Some(&run("r1")), "a".to_owned())
    );
}

#[test]
fn a_later_life_goes_on_where_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path(), MOST);
    write(&log, id(1), 0, 0, &["a", "b"]);
    write(&log, id(2), 0, 0, &["x"]);
    write(&log, id(1), 0, 2, &["c"]);
    write(&log, id(1), 1, 2, &["C", "D"]);
    write(&log, id(2), 1, 3, &["lost before"]);
    let end = TaskEvent::Error(Box::new(ErrorBody::new(ErrorCode::Internal, "x")));
    log.recorder(id(1), 1).end(&end, true).unwrap();
    drop(log);
    let (_, found) = open(folder.path(), MOST);
    let one = &found[&id(1)];
    assert_eq!(
        (one.text().as_str(), one.generated, one.epoch, one.gap),
        ("abCD", 4, 1, false)
    );
    assert_eq!(one.end, Some((end, true)));
    let two = &found[&id(2)];
    assert_eq!((two.text().as_str(), two.gap), ("x", true));
}

#[test]
fn segments_nobody_needs_are_dropped_and_all_together_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path(), 16 << 10);
    let text = "y".repeat(500);
    for n in 0..20 {
        write(&log, id(n), 0, 0, &[&text]);
    }
    let before = segments(folder.path()).len();
    assert!(before > 5, "{before}");
    (0..20).for_each(|n| log.forget(&id(n)));
    write(&log, id(99), 0, 0, &[&text]);
    assert!(segments(folder.path()).len() <= 2);
    for at in 0..200 {
        write(&log, id(7), 0, at, &[&text]);
    }
    let size: u64 = segments(folder.path())
        .iter()
        .map(|file| fs::metadata(file).unwrap().len())
        .sum();
    assert!(size <= 17 << 10, "{size}");
    drop(log);
    assert!(
        open(folder.path(), 16 << 10).1[&id(7)].gap,
        "its beginning is gone"
    );
}

#[test]
fn what_waits_for_the_disk_is_called_back() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path(), MOST);
    write(&log, id(1), 0, 0, &["a"]);
    let (synced, told) = sync_channel(1);
    log.when_synced(move || synced.send(()).unwrap());
    told.recv().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// ORCH-3714: wherever the end is torn or a bit flips, each task has a prefix of what it said,
    /// nothing is invented, and what is written afterwards is read.
    #[test]
    fn damage_costs_a_tail_and_nothing_else(
        reads in prop::collection::vec((0_u32..3, 1_usize..4), 1..20),
        at in any::<prop::sample::Index>(),
        torn in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = open(folder.path(), MOST);
        let mut said = vec![Vec::<String>::new(); 3];
        for (n, (task, count)) in reads.iter().enumerate() {
            let texts: Vec<String> = (0..*count).map(|i| format!("{n}.{i} ")).collect();
            let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
            write(&log, id(*task), 0, said[*task as usize].len() as u64, &refs);
            said[*task as usize].extend(texts);
        }
        drop(log);
        let file = segments(folder.path()).remove(0);
        let mut bytes = fs::read(&file).unwrap();
        let at = at.index(bytes.len());
        if torn { bytes.truncate(at) } else { bytes[at] ^= 4 }
        fs::write(&file, &bytes).unwrap();
        let (log, found) = open(folder.path(), MOST);
        let mut kept = HashSet::new();
        for (task, transcript) in &found {
            let whole = &said[task.as_uuid().as_u128() as usize];
            prop_assert!(whole.concat().starts_with(&transcript.text()) && !transcript.gap);
            kept.insert(*task);
        }
        let next = found.get(&id(0)).map_or(0, |found| found.tokens.len() as u64);
        write(&log, id(0), 1, next, &["after"]);
        drop(log);
        let again = open(folder.path(), MOST).1;
        prop_assert_eq!(&again[&id(0)].tokens.last().unwrap().1, "after");
        prop_assert!(kept.iter().all(|task| again.contains_key(task)));
    }
}
