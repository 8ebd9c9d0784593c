//! REQ-CATALOG-REMOVE: an entry goes with the files that nobody else needs, in an order that no failure makes wrong.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use api_types::{FilePlace, Lifecycle};
use catalog_core::{CatalogError, layout};

use crate::fixtures::{Fixture, digest, everything};

#[test]
fn a_model_goes_with_its_files() {
    let fixture = Fixture::new();
    let entry = fixture.registered("tiny", "weights");
    let removed = fixture.catalog.remove_model(&entry.id, 5).unwrap();
    assert_eq!((removed.entry, removed.left), (entry, Vec::new()));
    let files = everything(fixture.root());
    let names = files
        .iter()
        .map(|(path, ..)| path.strip_prefix(fixture.root()).unwrap());
    let names: Vec<_> = names.filter(|path| !path.starts_with("turns")).collect();
    assert!(
        names
            .iter()
            .all(|path| path.components().count() == 1 || path.ends_with("sha256")),
        "{names:?}"
    );
}

#[test]
fn what_another_model_needs_stays() {
    let fixture = Fixture::new();
    let (one, other) = (
        fixture.registered("one", "weights"),
        fixture.registered("other", "weights"),
    );
    fixture.catalog.remove_model(&one.id, 5).unwrap();
    assert!(fixture.root().join(layout::blob(&one.digest)).exists());
    let located = fixture
        .catalog
        .locate(&"other".parse().unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(located.missing, []);
    fixture.catalog.remove_model(&other.id, 5).unwrap();
    assert!(!fixture.root().join(layout::blob(&one.digest)).exists());
}

/// REQ-CATALOG-VERIFY.
#[test]
fn what_has_wrong_bytes_is_retired_and_goes_by_every_name() {
    let fixture = Fixture::new();
    let entry = fixture.registered("tiny", "weights");
    let sound = fixture.registered("sound", "other weights");
    let wrong = [entry.files[0].name.clone()];
    let rejected = fixture.catalog.reject_model(&entry.id, &wrong, 7).unwrap();
    assert_eq!(
        (rejected.entry.state, rejected.entry.state_unix_ms),
        (Lifecycle::Retired, 7)
    );
    assert_eq!(rejected.left, []);
    assert!(!fixture.root().join(layout::blob(&entry.digest)).exists());
    let located = |id: &str| fixture.catalog.locate(&id.parse().unwrap()).unwrap().unwrap();
    assert_eq!(located("tiny").missing, wrong);
    assert_eq!(
        (located("sound").entry, located("sound").missing),
        (sound, Vec::new())
    );
    let nobody = fixture
        .catalog
        .reject_model(&"nobody".parse().unwrap(), &wrong, 8);
    assert!(matches!(nobody, Err(CatalogError::Unknown { .. })));

    // The same bytes again make it what it was.
    let again = fixture.registered("tiny", "weights");
    assert_eq!(
        (again.state, again.created_unix_ms),
        (Lifecycle::Active, entry.created_unix_ms)
    );
    assert_eq!(located("tiny").missing, []);
    let path = fixture.dir.path().join("mine.gguf");
    fs::write(&path, "weights").unwrap();
    let mut external = fixture.published("mine", "weights");
    external.files[0].place = FilePlace::External(path.to_str().unwrap().to_owned());
    fixture.catalog.register_model(external.clone(), 9).unwrap();
    fixture.catalog.reject_model(&external.id, &wrong, 10).unwrap();
    assert!(path.exists(), "it is somebody else's");
}

#[test]
fn external_files_are_never_touched() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("mine.gguf");
    fs::write(&path, "weights").unwrap();
    let mut entry = fixture.published("tiny", "weights");
    entry.files[0].place = FilePlace::External(path.to_str().unwrap().to_owned());
    fixture.catalog.register_model(entry.clone(), 5).unwrap();
    fixture.catalog.remove_model(&entry.id, 6).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "weights");
}

/// A folder cannot be unlinked, whoever asks.
fn folder_in_place_of_the_file(fixture: &Fixture) -> PathBuf {
    let located = fixture.catalog.locate(&"tiny".parse().unwrap()).unwrap().unwrap();
    let path = located.first().unwrap().to_owned();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn a_file_that_cannot_be_removed_is_tried_again() {
    let fixture = Fixture::new();
    let entry = fixture.registered("tiny", "weights");
    let path = folder_in_place_of_the_file(&fixture);
    let removed = fixture.catalog.remove_model(&entry.id, 5).unwrap();
    assert_eq!(removed.left.len(), 1, "{:?}", removed.left);
    assert_eq!(
        fixture.catalog.model(&entry.id).unwrap(),
        None,
        "the entry is gone all the same"
    );
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "weights").unwrap();
    let swept = fixture.catalog.sweep(Duration::from_secs(3600), 6).unwrap();
    assert_eq!((swept.left, path.exists()), (Vec::new(), false));
}

/// A name that comes back before the removal was carried out is needed again.
#[test]
fn what_is_registered_again_is_not_doomed_any_more() {
    let fixture = Fixture::new();
    let entry = fixture.registered("tiny", "weights");
    let path = folder_in_place_of_the_file(&fixture);
    fixture.catalog.remove_model(&entry.id, 5).unwrap();
    fs::remove_dir(&path).unwrap();
    fixture.registered("tiny", "weights");
    fixture.catalog.sweep(Duration::ZERO, u64::MAX).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "weights");
}

#[test]
fn content_that_is_being_fetched_is_left_to_who_fetches_it() {
    let fixture = Fixture::new();
    let entry = fixture.registered("tiny", "weights");
    let fetching = fixture.catalog.content_turn(&entry.digest).unwrap().unwrap();
    fixture.catalog.remove_model(&entry.id, 5).unwrap();
    let blob = fixture.root().join(layout::blob(&entry.digest));
    assert!(blob.exists());
    fixture.catalog.sweep(Duration::ZERO, u64::MAX).unwrap();
    assert!(blob.exists());
    drop(fetching);
    fixture.catalog.sweep(Duration::ZERO, u64::MAX).unwrap();
    assert!(!blob.exists());
}

#[test]
fn a_sweep_takes_what_nobody_names_once_it_is_old() {
    let fixture = Fixture::new();
    fixture.registered("kept", "weights");
    fixture.published("never-registered", "other weights");
    let partial = fixture.root().join(layout::partial(&digest("half"))).join("data");
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, "hal").unwrap();
    let now = u64::MAX / 2;
    let young = fixture.catalog.sweep(Duration::from_millis(now), now).unwrap();
    assert_eq!(young.files, 0, "a pull may be between publishing and registering");
    let old = fixture.catalog.sweep(Duration::from_secs(1), now).unwrap();
    assert_eq!((old.files, old.bytes), (3, 2 * 13 + 3));
    let located = fixture.catalog.locate(&"kept".parse().unwrap()).unwrap().unwrap();
    assert_eq!(located.missing, []);
    assert!(!partial.exists());
}

/// REQ-CATALOG-CONFINED: a link that somebody has put on the way leads no removal out of the root.
#[test]
fn a_link_on_the_way_is_not_followed() {
    let fixture = Fixture::new();
    let entry = fixture.registered("tiny", "weights");
    let outside = fixture.dir.path().join("outside");
    let version = fixture.root().join(layout::published(&entry.id, &entry.digest));
    fs::rename(&version, &outside).unwrap();
    symlink(&outside, &version).unwrap();
    let removed = fixture.catalog.remove_model(&entry.id, 5).unwrap();
    assert_eq!(removed.left.len(), 1);
    assert_eq!(fs::read_to_string(outside.join("m.gguf")).unwrap(), "weights");
    fixture.catalog.sweep(Duration::ZERO, u64::MAX).unwrap();
    assert!(outside.join("m.gguf").exists());
}
