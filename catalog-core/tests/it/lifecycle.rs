//! REQ-CATALOG-LIFECYCLE: what registering, retiring and measuring do to entries, in every process that looks.

use api_types::{EngineKind, FilePlace, KvCacheType, Lifecycle, MeasuredUsage, UsageKey};
use catalog_core::{Catalog, CatalogError, Registered};

use crate::fixtures::{Fixture, digest, engine};

#[test]
fn a_model_is_registered_once_retired_and_made_active_again() {
    let fixture = Fixture::new();
    let other_process = Catalog::at(fixture.root());
    let entry = fixture.published("tiny", "weights");
    let id = entry.id.clone();
    assert_eq!(other_process.model(&id).unwrap(), None);
    let registered = fixture.catalog.register_model(entry.clone(), 5).unwrap();
    assert_eq!(registered, Registered::New(entry.clone()));
    assert_eq!(other_process.model(&id).unwrap(), Some(entry.clone()));

    let retired = other_process.set_model_state(&id, Lifecycle::Retired, 9).unwrap();
    assert_eq!((retired.state, retired.state_unix_ms), (Lifecycle::Retired, 9));
    let again = other_process
        .set_model_state(&id, Lifecycle::Retired, 12)
        .unwrap();
    assert_eq!(again.state_unix_ms, 9, "it was retired already");
    assert_eq!(fixture.catalog.model(&id).unwrap(), Some(retired));

    let known = fixture.catalog.register_model(entry, 20).unwrap();
    assert!(matches!(&known, Registered::Known(entry) if entry.state == Lifecycle::Active));
    let verified = fixture.catalog.mark_verified(&id, 30).unwrap();
    assert_eq!(verified.verified_unix_ms, Some(30));
}

#[test]
fn an_id_names_one_thing() {
    let fixture = Fixture::new();
    fixture.registered("tiny", "weights");
    let other = fixture.published("tiny", "other weights");
    let refused = fixture.catalog.register_model(other, 5).unwrap_err();
    assert!(
        matches!(&refused, CatalogError::Taken { id, .. } if id == "tiny"),
        "{refused}"
    );
    let unknown = fixture.catalog.mark_verified(&"other".parse().unwrap(), 5);
    assert!(matches!(
        unknown,
        Err(CatalogError::Unknown { kind: "model", .. })
    ));
}

#[test]
fn only_a_whole_model_is_registered() {
    let fixture = Fixture::new();
    let whole = fixture.published("tiny", "weights");
    let mut torn = whole.clone();
    torn.bytes += 1;
    let mut nothing = whole.clone();
    (nothing.files, nothing.bytes) = (Vec::new(), 0);
    let mut elsewhere = whole.clone();
    elsewhere.files[0].place = FilePlace::Cached("models.json".parse().unwrap());
    let mut relative = whole.clone();
    relative.files[0].place = FilePlace::External("models/m.gguf".to_owned());
    let mut gone = whole.clone();
    gone.files[0].place = FilePlace::External("/nowhere/m.gguf".to_owned());
    for entry in [torn, nothing, elsewhere, relative, gone] {
        let refused = fixture.catalog.register_model(entry, 5).unwrap_err();
        assert!(refused.to_string().starts_with("files: "), "{refused}");
    }
    assert_eq!(fixture.catalog.model(&whole.id).unwrap(), None);
}

#[test]
fn what_may_be_a_credential_is_not_kept() {
    let fixture = Fixture::new();
    let mut entry = fixture.published("tiny", "weights");
    let asked: api_types::ModelRef = "https://h/m.gguf?X-Amz-Signature=secret".parse().unwrap();
    entry.source = asked.clone();
    fixture.catalog.register_model(entry, 5).unwrap();
    let index = std::fs::read_to_string(fixture.root().join("models.json")).unwrap();
    assert!(!index.contains("secret"), "{index}");
    assert!(fixture.catalog.exists(&asked).unwrap());
}

/// ORCH-3440: engines lie in an index of their own and come back as they were.
#[test]
fn engines_come_back_as_they_were() {
    let fixture = Fixture::new();
    let entry = engine("llamacpp-b1234", "0.5.0");
    let registered = fixture.catalog.register_engine(entry.clone(), 5).unwrap();
    assert_eq!(registered, Registered::New(entry.clone()));
    let reopened = Catalog::at(fixture.root());
    assert_eq!(reopened.engine(&entry.id).unwrap(), Some(entry.clone()));
    assert!(!fixture.root().join("models.json").exists());

    let taken = reopened
        .register_engine(engine("llamacpp-b1234", "0.6.0"), 6)
        .unwrap_err();
    assert!(
        matches!(taken, CatalogError::Taken { kind: "engine", .. }),
        "{taken}"
    );
    let retired = reopened
        .set_engine_state(&entry.id, Lifecycle::Retired, 7)
        .unwrap();
    assert_eq!(retired.state, Lifecycle::Retired);
    let known = reopened.register_engine(entry.clone(), 8).unwrap();
    assert!(matches!(known, Registered::Known(known) if known.state == Lifecycle::Active));
    assert_eq!(reopened.remove_engine(&entry.id, 9).unwrap().id, entry.id);
    assert_eq!(fixture.catalog.engine(&entry.id).unwrap(), None);

    let mut nothing = engine("nothing", "1");
    nothing.binary = None;
    let refused = reopened.register_engine(nothing, 9).unwrap_err();
    assert!(refused.to_string().starts_with("binary: "), "{refused}");
}

#[test]
fn the_most_that_was_measured_is_kept() {
    let fixture = Fixture::new();
    let key = UsageKey {
        engine: EngineKind::Llamacpp,
        engine_version: "b1".to_owned(),
        model: digest("weights"),
        ctx: 4096,
        slots: 2,
        cache_k: KvCacheType::F16,
        cache_v: KvCacheType::Q80,
    };
    for (bytes, at) in [(10, 1), (30, 3), (20, 2)] {
        let seen = MeasuredUsage {
            key: key.clone(),
            bytes,
            samples: 1,
            measured_unix_ms: at,
        };
        fixture.catalog.record_usage(&seen, at).unwrap();
    }
    let known = Catalog::at(fixture.root()).usage_of(&key).unwrap().unwrap();
    assert_eq!((known.bytes, known.samples, known.measured_unix_ms), (30, 3, 3));
    assert_eq!(fixture.catalog.usage().unwrap(), [known]);
}
