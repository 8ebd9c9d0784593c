//! Files that come with the crate.

use std::path::Path;

use config_schema::{Overrides, SETTINGS, json_schema, load};

use crate::environment;

fn shipped(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// REQ-CFG-3.
#[test]
fn the_checked_in_schema_is_the_code_s() {
    let text = std::fs::read_to_string(shipped("config.schema.json")).unwrap();
    let checked_in: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        checked_in == json_schema(),
        "config.schema.json is out of date: write the output of `orchestratord config schema` into it"
    );
}

#[test]
fn the_schema_knows_ranges_and_defaults() {
    let schema = json_schema();
    let headers = &schema["$defs"]["Http"]["properties"]["max_headers"];
    assert_eq!(
        (&headers["minimum"], &headers["maximum"], &headers["default"]),
        (&16.into(), &100.into(), &64.into())
    );
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["$defs"]["Auth"]["properties"].get("token").is_none());
}

#[test]
fn the_example_file_is_valid() {
    let flags = Overrides::default().config_file(Some(shipped("config.example.toml")));
    let loaded = load(&environment(&[]), &flags).unwrap();
    assert_eq!(loaded.config.pool_managerd.pools.len(), 3);
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn the_readme_lists_every_variable_with_its_key() {
    let readme = std::fs::read_to_string(shipped("README.md")).unwrap();
    for setting in SETTINGS {
        let row = format!("| `{}` | `{}` |", setting.env, setting.key);
        assert!(readme.contains(&row), "{row} is not in README.md");
    }
}
