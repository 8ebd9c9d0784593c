//! REQ-ARTIFACT-REPEAT: the same content is the same artifact.

use std::sync::Barrier;
use std::thread;

use api_types::ArtifactKind;
use artifact_store::{Filter, PutError};

use crate::fixtures::{Fixture, ROOMY, at, files, new};

#[test]
fn tags_are_joined_and_what_differs_is_named() {
    let mut fixture = Fixture::new(ROOMY);
    let first = fixture.put(b"x", &["b", "a", "a"], 0).unwrap();
    let again = fixture.put(b"x", &["c"], 5).unwrap();
    assert!(first.created && !again.created);
    assert_eq!(
        (first.meta.seq, first.meta.info.id),
        (again.meta.seq, again.meta.info.id)
    );
    fixture.reopen(0);
    let known = fixture.store.get(&first.meta.info.id).unwrap().unwrap().meta;
    let tags: Vec<&str> = known.info.tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!((tags, known.info.created_unix_ms), (vec!["a", "b", "c"], 7));
    let other = fixture
        .store
        .put(&new(ArtifactKind::Diff, b"x", &[]), at(6))
        .unwrap_err();
    assert_eq!(
        other.to_string(),
        "kind: the same content is already stored as plan"
    );
    let many: Vec<String> = (0..31).map(|n| format!("t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let error = fixture.put(b"x", &many, 6).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tags: it would have 34 tags, at most 32 are allowed"
    );
}

#[test]
fn content_beyond_the_bound_is_refused_with_the_numbers() {
    let fixture = Fixture::new(ROOMY);
    let most = vec![1; 1 << 20];
    fixture.put(&most, &[], 0).unwrap();
    let error = fixture.put(&vec![1; (1 << 20) + 1], &[], 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "content: has 1048577 bytes, at most 1048576 are allowed"
    );
    assert!(matches!(error, PutError::TooLarge { .. }));
}

#[test]
fn many_at_once_store_it_once() {
    let fixture = Fixture::new(ROOMY);
    let together = Barrier::new(8);
    let created: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let (fixture, together) = (&fixture, &together);
                scope.spawn(move || {
                    together.wait();
                    let tag = format!("t{n}");
                    usize::from(fixture.put(b"same", &[&tag], 0).unwrap().created)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(created, 1);
    let listed = fixture.store.list(&Filter::default(), 9);
    assert_eq!((listed.len(), listed[0].info.tags.len()), (1, 8));
    assert_eq!(files(&fixture.root().join("blobs")).len(), 1);
    assert_eq!(files(&fixture.root().join("tmp")).len(), 0);
}

/// A client may keep what the daemon would drop some day.
#[test]
fn a_trace_that_a_client_stores_is_listed_once() {
    let fixture = Fixture::new(ROOMY);
    let id = fixture.append(b"trace", &["task:1"], 0).unwrap().meta.info.id;
    let error = fixture.put(b"trace", &[], 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kind: the same content is already stored as trace"
    );
    let stored = fixture
        .store
        .put(&new(ArtifactKind::Trace, b"trace", &["mine"]), at(0))
        .unwrap();
    assert_eq!(stored.meta.info.id, id);
    let listed = fixture.store.list(&Filter::default(), 9);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].info.tags[0].as_str(), "mine");
}
