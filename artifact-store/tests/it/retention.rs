//! REQ-ARTIFACT-RETENTION: by age and by size, the oldest first, the newest never.

use artifact_store::{Filter, Limits, Swept};

use crate::fixtures::{Fixture, ROOMY, files};

#[test]
fn what_is_older_than_the_bound_goes_and_takes_its_files() {
    let mut fixture = Fixture::new(ROOMY);
    let old = fixture.put(b"old", &[], 0).unwrap().meta.info.id;
    let used = fixture.put(b"used again", &[], 0).unwrap().meta.info.id;
    let trace = fixture.append(b"trace", &[], 0).unwrap().meta.info.id;
    let young = fixture.put(b"young", &[], 600).unwrap().meta.info.id;
    fixture.put(b"used again", &[], 500).unwrap();
    assert_eq!(fixture.store.sweep(999), Swept { expired: 0 });
    assert_eq!(fixture.store.sweep(1_000), Swept { expired: 2 });
    fixture.reopen(1_000);
    assert!(fixture.content(&old).is_none() && fixture.content(&trace).is_none());
    assert!(fixture.content(&used).is_some() && fixture.content(&young).is_some());
    assert_eq!(files(&fixture.root().join("blobs")).len(), 2);
    assert_eq!(files(&fixture.root().join("meta")).len(), 2);
    assert_eq!(fixture.store.sweep(1_600), Swept { expired: 2 });
    assert!(fixture.store.is_empty());
}

/// A clock that went back makes things stay, never go.
#[test]
fn an_age_is_never_negative() {
    let fixture = Fixture::new(ROOMY);
    fixture.put(b"from the future", &[], 1 << 40).unwrap();
    assert_eq!(fixture.store.sweep(5_000), Swept { expired: 0 });
}

#[test]
fn the_oldest_make_room_and_a_trace_never_drives_out_what_clients_stored() {
    // Four of them: each takes its bytes, rounded up, and a block for what is known of it.
    let tight = Limits {
        max_stored_bytes: 4 * 8192,
        max_trace_bytes: 64 << 10,
        ..ROOMY
    };
    let mut fixture = Fixture::new(tight);
    let ids: Vec<_> = (0..4_u8)
        .map(|n| fixture.put(&[n; 100], &[], u64::from(n)).unwrap().meta.info.id)
        .collect();
    // The first is used again: the second is the oldest now.
    fixture.put(&[0; 100], &[], 9).unwrap();
    let more = fixture.put(b"one more", &[], 10).unwrap();
    assert_eq!(more.evicted, 1);
    assert!(fixture.content(&ids[1]).is_none());
    for n in 0..2_000_u32 {
        fixture
            .append(&[&n.to_le_bytes()[..], &[0; 200]].concat(), &[], 11)
            .unwrap();
    }
    fixture.reopen(0);
    for id in [ids[0], ids[2], ids[3], more.meta.info.id] {
        assert!(fixture.content(&id).is_some());
    }
    assert_eq!(files(&fixture.root().join("blobs")).len(), 4);
    let traces: u64 = files(&fixture.root().join("packs"))
        .iter()
        .map(|file| std::fs::metadata(file).unwrap().len())
        .sum();
    assert!(traces <= 64 << 10, "{traces}");
    let plans = Filter {
        kind: Some(api_types::ArtifactKind::Plan),
        ..Filter::default()
    };
    assert_eq!(fixture.store.list(&plans, 99).len(), 4);
}
