//! What needs the inside of the room: a disk without room, and when segments go.

use super::*;
use crate::meta::{New, Stamp};
use api_types::ArtifactKind;

fn append(packs: &Packs, seq: u64, content: &[u8]) -> Result<ArtifactId, PutError> {
    let new = New {
        kind: ArtifactKind::Trace,
        media_type: "application/json",
        tags: Vec::new(),
        content,
    };
    let stamp = Stamp {
        now_ms: seq,
        unix_ms: 0,
    };
    let meta = Meta::new(id_of(content), &new, seq, stamp);
    packs.append(meta, content).map(|put| put.meta.info.id)
}

/// REQ-TRACE-MISSED.
#[test]
fn a_full_disk_loses_the_trace_it_is_told_of_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let packs = Packs::open(folder.path(), 1 << 20).unwrap();
    let before = append(&packs, 0, b"before").unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    packs.log().file = Arc::new(full);
    let error = append(&packs, 1, b"lost").unwrap_err();
    assert!(matches!(error, PutError::DiskFull), "{error:?}");
    assert!(packs.get(&id_of(b"lost")).unwrap().is_none());
    let after = append(&packs, 2, b"after").unwrap();
    let again = Packs::open(folder.path(), 1 << 20).unwrap();
    for packs in [&packs, &again] {
        assert_eq!(packs.get(&before).unwrap().unwrap().1, b"before");
        assert_eq!(packs.get(&after).unwrap().unwrap().1, b"after");
        assert_eq!(packs.len(), 2);
    }
}

/// REQ-ARTIFACT-RETENTION.
#[test]
fn the_oldest_segment_makes_room_and_an_aged_one_goes() {
    let folder = tempfile::tempdir().unwrap();
    let packs = Packs::open(folder.path(), 16 << 10).unwrap();
    let ids: Vec<_> = (0..40)
        .map(|n| append(&packs, n, &[n as u8; 900]).unwrap())
        .collect();
    packs.sync();
    let disk: u64 = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(disk <= 16 << 10, "{disk}");
    assert!(packs.get(&ids[0]).unwrap().is_none() && packs.get(&ids[39]).unwrap().is_some());
    let kept = packs.len();
    assert_eq!(packs.expire(38), kept - 1);
    packs.sync();
    assert_eq!(packs.list(&Filter::default(), 9).len(), 1);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "only the last segment is needed"
    );
}
