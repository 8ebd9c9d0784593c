//! REQ-CATALOG-LIST: pages that nothing shifts, and versions that tell every change.

use api_types::Lifecycle;
use catalog_core::{Filter, Page};

use crate::fixtures::{Fixture, engine};

fn ids(page: &Page<api_types::ModelEntry>) -> Vec<String> {
    page.entries.iter().map(|entry| entry.id.to_string()).collect()
}

#[test]
fn pages_go_on_where_the_one_before_ended() {
    let fixture = Fixture::new();
    for number in 0..5 {
        fixture.registered(&format!("m{number}"), &format!("weights {number}"));
    }
    let first = fixture.catalog.models(Filter::default(), 2).unwrap();
    assert_eq!(ids(&first), ["m4", "m3"]);
    // What comes and goes between two pages shifts nothing.
    fixture.registered("m5", "weights 5");
    fixture.catalog.remove_model(&"m4".parse().unwrap(), 5).unwrap();
    let before = |page: &Page<_>| Filter {
        before: page.next,
        ..Filter::default()
    };
    let second = fixture.catalog.models(before(&first), 2).unwrap();
    assert_eq!(ids(&second), ["m2", "m1"]);
    let third = fixture.catalog.models(before(&second), 2).unwrap();
    assert_eq!((ids(&third), third.next), (vec!["m0".to_owned()], None));
    let exactly = fixture.catalog.models(Filter::default(), 5).unwrap();
    assert_eq!((exactly.entries.len(), exactly.next), (5, None));
}

#[test]
fn a_list_shows_one_state() {
    let fixture = Fixture::new();
    for number in 0..4 {
        fixture.registered(&format!("m{number}"), &format!("weights {number}"));
    }
    for id in ["m1", "m3"] {
        let id = id.parse().unwrap();
        fixture
            .catalog
            .set_model_state(&id, Lifecycle::Retired, 5)
            .unwrap();
    }
    let only = |state| Filter {
        state: Some(state),
        ..Filter::default()
    };
    let active = fixture.catalog.models(only(Lifecycle::Active), 9).unwrap();
    assert_eq!(ids(&active), ["m2", "m0"]);
    let first = fixture.catalog.models(only(Lifecycle::Retired), 1).unwrap();
    assert_eq!(ids(&first), ["m3"]);
    let rest = Filter {
        before: first.next,
        ..only(Lifecycle::Retired)
    };
    assert_eq!(ids(&fixture.catalog.models(rest, 1).unwrap()), ["m1"]);
}

#[test]
fn every_change_is_another_version() {
    let fixture = Fixture::new();
    let version = || fixture.catalog.models(Filter::default(), 1).unwrap().version;
    let empty = version();
    fixture.registered("m", "weights");
    let registered = version();
    assert_eq!(version(), registered, "looking is no change");
    fixture.catalog.register_engine(engine("e", "1"), 5_000).unwrap();
    assert_eq!(version(), registered, "engines have their own versions");
    let id = "m".parse().unwrap();
    fixture
        .catalog
        .set_model_state(&id, Lifecycle::Retired, 5_700)
        .unwrap();
    let retired = version();
    fixture.catalog.remove_model(&id, 100).unwrap();
    let removed = version();
    let mut etags = [&empty, &registered, &retired, &removed].map(|version| &version.etag);
    etags.sort();
    assert!(etags.windows(2).all(|pair| pair[0] != pair[1]), "{etags:?}");

    assert_eq!(retired.modified_unix_ms, 5_700);
    assert_eq!(removed.modified_unix_ms, 5_700, "a clock that was set back");
    // Only a second that is over tells one version from the next.
    assert_eq!(retired.last_modified(5_900), None);
    assert_eq!(retired.last_modified(6_000), Some(5));
    assert!(retired.is_unchanged_since(5) && !retired.is_unchanged_since(4));
}
