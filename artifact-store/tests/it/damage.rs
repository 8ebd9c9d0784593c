//! REQ-ARTIFACT-VERIFIED: bytes that do not have the digest that names them are not served.

use std::fs;

use artifact_store::GetError;

use crate::fixtures::{Fixture, ROOMY};

fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_is_an_error_and_storing_again_heals_it() {
    let fixture = Fixture::new(ROOMY);
    let id = fixture.put(b"content", &[], 0).unwrap().meta.info.id;
    flip(
        &fixture
            .root()
            .join("blobs/sha256")
            .join(&id.hex()[..2])
            .join(id.hex()),
        3,
    );
    let error = fixture.store.get(&id).unwrap_err();
    assert!(
        matches!(error, GetError::Damaged { id: named } if named == id),
        "{error:?}"
    );
    assert!(!fixture.put(b"content", &[], 0).unwrap().created);
    assert_eq!(fixture.content(&id).unwrap(), b"content");
}

#[test]
fn a_flipped_bit_of_a_trace_is_an_error() {
    let fixture = Fixture::new(ROOMY);
    let id = fixture.append(b"content", &[], 0).unwrap().meta.info.id;
    let segment = fixture.root().join("packs/0000000000000000.pack");
    let last = fs::metadata(&segment).unwrap().len() as usize - 1;
    flip(&segment, last);
    assert!(matches!(fixture.store.get(&id), Err(GetError::Damaged { .. })));
    fs::write(&segment, b"short").unwrap();
    assert!(matches!(fixture.store.get(&id), Err(GetError::Damaged { .. })));
}
