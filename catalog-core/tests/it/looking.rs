//! REQ-CATALOG-LOOK: looking writes nothing.

use std::fs;

use api_types::ModelRef;
use catalog_core::Filter;

use crate::fixtures::{Fixture, everything};

fn look(fixture: &Fixture) {
    let catalog = &fixture.catalog;
    for text in [
        "tiny",
        "hf:org/tiny/m.gguf",
        "file:/nowhere/m.gguf",
        "s3://bucket/m.gguf",
    ] {
        let reference: ModelRef = text.parse().unwrap();
        catalog.exists(&reference).unwrap();
        catalog.locate(&reference).unwrap();
    }
    catalog.models(Filter::default(), 9).unwrap();
    catalog.engines(Filter::default(), 9).unwrap();
    catalog.usage().unwrap();
}

#[test]
fn a_catalog_that_is_not_there_stays_so() {
    let fixture = Fixture::new();
    look(&fixture);
    assert_eq!(everything(fixture.dir.path()), []);
}

#[test]
fn a_catalog_that_is_there_is_left_as_it_is() {
    let fixture = Fixture::new();
    fixture.registered("tiny", "weights");
    let before = everything(fixture.dir.path());
    look(&fixture);
    assert_eq!(everything(fixture.dir.path()), before);
}

#[test]
fn a_model_is_found_by_id_and_by_what_was_asked_for() {
    let fixture = Fixture::new();
    let entry = fixture.registered("tiny", "weights");
    for text in ["tiny", "hf:org/tiny/m.gguf"] {
        let located = fixture.catalog.locate(&text.parse().unwrap()).unwrap().unwrap();
        assert_eq!(located.entry, entry);
        assert_eq!(fs::read_to_string(located.first().unwrap()).unwrap(), "weights");
        assert_eq!(located.missing, []);
    }
    for text in ["other", "hf:org/tiny", "m/tiny"] {
        assert!(!fixture.catalog.exists(&text.parse().unwrap()).unwrap(), "{text}");
    }
}

#[test]
fn a_file_that_is_gone_is_told() {
    let fixture = Fixture::new();
    fixture.registered("tiny", "weights");
    let reference = "tiny".parse().unwrap();
    let path = fixture
        .catalog
        .locate(&reference)
        .unwrap()
        .unwrap()
        .paths
        .remove(0);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "short").unwrap();
    let located = fixture.catalog.locate(&reference).unwrap().unwrap();
    assert_eq!(located.missing, ["m.gguf".parse().unwrap()]);
}
