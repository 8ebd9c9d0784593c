//! A damaged file is refused, or read as it was written; never half of it.

use std::fs;

use task_journal::{OpenError, Store};

use crate::fixtures::{admit, id};

#[test]
fn a_flipped_bit_is_found_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.redb");
    let (store, _) = Store::open(&path).unwrap();
    let ops: Vec<_> = (0..20).map(|n| admit(n, u64::from(n), 200)).collect();
    store.write(&ops).unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    let copy = folder.path().join("copy.redb");
    let mut refused = 0;
    let used: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] != 0).collect();
    for at in used.iter().step_by(used.len() / 120 + 1) {
        let mut bytes = whole.clone();
        bytes[*at] ^= 0x10;
        fs::write(&copy, &bytes).unwrap();
        match Store::open(&copy) {
            Err(OpenError::Damaged { .. } | OpenError::Io { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
            Ok((_, tasks)) => {
                let found: Vec<_> = tasks.iter().map(|task| task.id).collect();
                assert_eq!(found, (0..20).map(id).collect::<Vec<_>>(), "byte {at}");
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn something_else_is_no_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.redb");
    fs::write(
        &path,
        "not a journal, but a text that is long enough to look like something",
    )
    .unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("tasks.redb"), "{error}");
}
