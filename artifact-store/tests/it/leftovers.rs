//! REQ-ARTIFACT-ATOMIC: what a crash leaves half-done is never visible and goes at the next start.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::fixtures::{Fixture, ROOMY, files};

#[test]
fn what_is_half_done_is_swept_and_what_is_whole_stays() {
    let mut fixture = Fixture::new(ROOMY);
    let kept = fixture.put(b"whole", &["a"], 0).unwrap().meta.info.id;
    let lost = fixture.put(b"lost its name", &[], 0).unwrap().meta.info.id;
    let whole = files(fixture.root());
    let blob = fixture.root().join("blobs/sha256").join(&lost.hex()[..2]);
    // As if the process had been killed before the meta file had its name …
    fs::remove_file(
        fixture
            .root()
            .join("meta")
            .join(&lost.hex()[..2])
            .join(format!("{}.json", lost.hex())),
    )
    .unwrap();
    // … and in the middle of a third one.
    fs::write(fixture.root().join("tmp/17"), b"hal").unwrap();
    assert!(blob.join(lost.hex()).exists());
    fixture.reopen(0);
    assert_eq!(fixture.content(&kept).unwrap(), b"whole");
    assert_eq!(fixture.content(&lost), None);
    assert_eq!(fixture.store.list(&Default::default(), 9).len(), 1);
    assert!(!blob.join(lost.hex()).exists());
    assert_eq!(
        files(fixture.root()).len(),
        whole.len() - 2,
        "the empty segment gave way to another"
    );
    // The same content can be stored again.
    assert!(fixture.put(b"lost its name", &[], 0).unwrap().created);
}

#[test]
fn an_artifact_without_its_content_is_not_there() {
    let mut fixture = Fixture::new(ROOMY);
    let id = fixture.put(b"content", &[], 0).unwrap().meta.info.id;
    fs::remove_file(
        fixture
            .root()
            .join("blobs/sha256")
            .join(&id.hex()[..2])
            .join(id.hex()),
    )
    .unwrap();
    assert_eq!(fixture.content(&id), None);
    fixture.reopen(0);
    assert!(fixture.store.is_empty());
    assert!(fixture.put(b"content", &[], 0).unwrap().created);
    assert_eq!(fixture.content(&id).unwrap(), b"content");
}

/// A version that cannot read what another has written leaves it alone.
#[test]
fn what_is_known_in_another_form_is_not_served_and_not_removed() {
    let mut fixture = Fixture::new(ROOMY);
    let id = fixture.put(b"content", &[], 0).unwrap().meta.info.id;
    let meta = fixture
        .root()
        .join("meta")
        .join(&id.hex()[..2])
        .join(format!("{}.json", id.hex()));
    let newer = fs::read_to_string(&meta)
        .unwrap()
        .replace("\"schema\":1", "\"schema\":2");
    fs::write(&meta, newer).unwrap();
    let before = files(&fixture.root().join("blobs"));
    fixture.reopen(0);
    assert_eq!(fixture.content(&id), None);
    assert_eq!(files(&fixture.root().join("blobs")), before);
}

#[test]
fn a_torn_trace_is_cut_off_and_those_before_it_stay() {
    let mut fixture = Fixture::new(ROOMY);
    let first = fixture.append(b"first", &["t"], 0).unwrap().meta.info.id;
    let last = fixture.append(b"last", &["t"], 0).unwrap().meta.info.id;
    let segment = fixture.root().join("packs/0000000000000000.pack");
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..bytes.len() - 1]).unwrap();
    fixture.reopen(0);
    assert_eq!(fixture.content(&first).unwrap(), b"first");
    assert_eq!(fixture.content(&last), None);
    fixture.append(b"next", &["t"], 0).unwrap();
    fixture.reopen(0);
    assert_eq!(fixture.store.list(&Default::default(), 9).len(), 2);
}

/// Others on the machine cannot read what people have stored.
#[test]
fn files_are_private() {
    let fixture = Fixture::new(ROOMY);
    fixture.put(b"secret plan", &[], 0).unwrap();
    fixture.append(b"secret trace", &[], 0).unwrap();
    for file in files(fixture.root()) {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{}", file.display());
    }
}
