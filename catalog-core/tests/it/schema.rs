//! ORCH-3440: an index of another version, or a damaged one, is refused and left as it is.

use std::fs;

use api_types::Lifecycle;
use catalog_core::{CatalogError, Filter};

use crate::fixtures::{Fixture, engine};

#[test]
fn another_version_is_refused_with_the_way_out() {
    let fixture = Fixture::new();
    let entry = fixture.registered("tiny", "weights");
    fixture.catalog.register_engine(engine("e", "1"), 5).unwrap();
    for name in ["models.json", "engines.json"] {
        let path = fixture.root().join(name);
        let newer = fs::read_to_string(&path)
            .unwrap()
            .replace("\"schema_version\": 1", "\"schema_version\": 2");
        fs::write(&path, &newer).unwrap();
    }
    let catalog = &fixture.catalog;
    let published = fixture.published("other", "other weights");
    let refusals = [
        catalog.exists(&"tiny".parse().unwrap()).unwrap_err(),
        catalog.models(Filter::default(), 1).unwrap_err(),
        catalog.register_model(published, 5).unwrap_err(),
        catalog
            .set_model_state(&entry.id, Lifecycle::Retired, 5)
            .unwrap_err(),
        catalog.remove_model(&entry.id, 5).unwrap_err(),
        catalog.engines(Filter::default(), 1).unwrap_err(),
        catalog.register_engine(engine("f", "1"), 5).unwrap_err(),
    ];
    for refusal in refusals {
        let message = refusal.to_string();
        assert!(
            matches!(
                refusal,
                CatalogError::Schema {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{message}"
        );
        assert!(
            message.contains("move the file away and register its entries anew"),
            "{message}"
        );
    }
    let kept = fs::read_to_string(fixture.root().join("models.json")).unwrap();
    assert!(kept.contains("\"schema_version\": 2") && kept.contains("tiny"));
}

#[test]
fn damage_is_no_empty_catalog() {
    let fixture = Fixture::new();
    fixture.registered("tiny", "weights");
    let path = fixture.root().join("models.json");
    let whole = fs::read(&path).unwrap();
    let other_fields = br#"{"schema_version": 1}"#.to_vec();
    for damaged in [
        Vec::new(),
        whole[..whole.len() / 2].to_vec(),
        vec![0; whole.len()],
        other_fields,
    ] {
        fs::write(&path, &damaged).unwrap();
        let refusal = fixture.catalog.exists(&"tiny".parse().unwrap()).unwrap_err();
        assert!(matches!(refusal, CatalogError::Damaged { .. }), "{refusal}");
        let published = fixture.published("other", "other weights");
        assert!(fixture.catalog.register_model(published, 5).is_err());
        assert_eq!(fs::read(&path).unwrap(), damaged, "it is left as it is");
    }
    fs::write(&path, whole).unwrap();
    assert!(fixture.catalog.exists(&"tiny".parse().unwrap()).unwrap());
}
