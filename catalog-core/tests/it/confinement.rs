//! REQ-CATALOG-CONFINED: no text that anybody sends becomes a path outside the cache root.

use std::fs;
use std::path::{Component, Path};

use api_types::{ModelId, ModelRef, RelativePath};
use catalog_core::{Filter, layout};
use proptest::prelude::*;

use crate::fixtures::{Fixture, digest, everything};

/// What leads elsewhere, in the spellings that have led somewhere before.
const HOSTILE: [&str; 44] = [
    "..",
    ".",
    "/",
    "//",
    "\\",
    "..\\",
    "../",
    "/..",
    "/../",
    "%2e%2e",
    "%2e%2e%2f",
    "..%2f",
    "%2f",
    "%5c",
    "..%5c",
    "..%252f",
    "%c0%ae%c0%ae",
    "%c0%af",
    "\u{2024}\u{2024}",
    "\u{ff0e}\u{ff0e}",
    "\u{2215}",
    "\u{ff0f}",
    "\0",
    "%00",
    "\n",
    "\r\n",
    "\t",
    " ",
    "~",
    "~root",
    "$HOME",
    "C:",
    "C:\\",
    "\\\\host\\share",
    "file:",
    "file:///",
    "....//",
    "..;/",
    ".../",
    "./.",
    "-",
    "--",
    ".hidden",
    "con",
];
const VICTIMS: [&str; 6] = ["etc/passwd", "models.json", "turn", "outside", "../outside", "x"];

/// Hostile pieces before, between and behind harmless ones: the table that is tried whole.
fn vectors() -> Vec<String> {
    let mut vectors = Vec::new();
    for hostile in HOSTILE {
        for victim in VICTIMS {
            for times in 1..=3 {
                let climb = hostile.repeat(times);
                let climbs = vec![hostile; times].join("/");
                vectors.extend([
                    format!("{climb}{victim}"),
                    format!("{climbs}/{victim}"),
                    format!("models/{climbs}/{victim}"),
                    format!("{victim}{climb}"),
                ]);
            }
        }
    }
    vectors.sort();
    vectors.dedup();
    vectors
}

fn stays_below(path: &Path) -> bool {
    let parts: Vec<_> = path.components().collect();
    !parts.is_empty() && parts.iter().all(|part| matches!(part, Component::Normal(_)))
}

/// Whatever of the text is accepted gives paths below the root, of as many components as it should.
fn cannot_escape(text: &str) {
    if let Ok(path) = RelativePath::new(text) {
        assert!(stays_below(path.as_path()), "{text:?}");
        assert!(!text.contains(['\\', '\0']), "{text:?}");
        let id = ModelId::new("m").unwrap();
        if let Ok(file) = layout::published_file(&id, &digest(text), &path) {
            assert!(
                stays_below(file.as_path()) && file.as_path().starts_with("models/m"),
                "{text:?}"
            );
        }
    }
    if let Ok(id) = ModelId::new(text) {
        let folder = layout::published(&id, &digest(text));
        assert!(
            stays_below(&folder) && folder.components().count() == 3,
            "{text:?}"
        );
    }
}

#[test]
fn no_vector_escapes() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.dir.path().join("outside")).unwrap();
    fs::write(fixture.dir.path().join("outside/x"), "mine").unwrap();
    let kept = fixture.registered("kept", "weights");
    let before = everything(fixture.dir.path());
    let vectors = vectors();
    assert!(vectors.len() >= 2_000, "{}", vectors.len());
    for text in &vectors {
        cannot_escape(text);
        for reference in [
            text.clone(),
            format!("file:/{text}"),
            format!("hf:o/r/{text}"),
            format!("s3://bucket/{text}"),
        ] {
            let Ok(reference) = reference.parse::<ModelRef>() else {
                continue;
            };
            assert!(!fixture.catalog.exists(&reference).unwrap(), "{reference}");
        }
    }
    assert_eq!(everything(fixture.dir.path()), before);
    assert_eq!(
        fixture.catalog.models(Filter::default(), 9).unwrap().entries,
        [kept]
    );
}

/// An index that somebody else has written cannot have files removed outside either.
#[test]
fn an_index_of_anybodys_making_cannot_name_files_outside() {
    let fixture = Fixture::new();
    let entry = fixture.registered("tiny", "weights");
    let path = fixture.root().join("models.json");
    let index = fs::read_to_string(&path).unwrap();
    let outside = fixture.dir.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    let own = entry.files[0].place.clone();
    let api_types::FilePlace::Cached(own) = own else {
        panic!("the fixture publishes below the root");
    };
    for hostile in ["../outside", "/etc/passwd", "models/../../outside"] {
        fs::write(&path, index.replace(own.as_str(), hostile)).unwrap();
        assert!(fixture.catalog.remove_model(&entry.id, 5).is_err(), "{hostile}");
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "mine");
}

proptest! {
    #[test]
    fn no_text_escapes(text in "(\\.|/|\\\\|%2e|%2f|\\PC|[\\x00-\\x1f]){0,40}") {
        cannot_escape(&text);
    }
}
