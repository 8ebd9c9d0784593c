//! The effective configuration, printed.

use config_schema::Overrides;

use crate::{TestFile, pool_file};

#[test]
fn every_value_shows_its_origin() {
    let file = TestFile::new("[http]\nmax_headers = 50\n");
    let flags = Overrides::default().set("--addr", "orchestratord.addr", Some("127.0.0.1:0"));
    let vars = [
        ("ORCHD_SSE_MICROBATCH", "true"),
        ("AUTH_TOKEN", "a-long-enough-token"),
    ];
    let dump = file.load_with(&vars, flags).unwrap().dump();
    for line in [
        "max_headers = 50  # ",
        "max_connections = 4096  # default",
        "addr = \"127.0.0.1:0\"  # flag --addr",
        "microbatch = true  # environment variable ORCHD_SSE_MICROBATCH",
        "node_id = \"test-host\"  # from the host name",
        "# auth.token = \"***\"  # environment variable AUTH_TOKEN",
    ] {
        assert!(
            dump.lines().any(|printed| printed.starts_with(line)),
            "{line}\nnot in\n{dump}"
        );
    }
    assert!(dump.contains("llama-orch.toml:2:1"), "{dump}");
}

#[test]
fn engine_variables_are_masked() {
    let loaded = pool_file("[pool_managerd.pools.env]\nHF_TOKEN = \"hunter2\"")
        .load(&[])
        .unwrap();
    let dump = loaded.dump();
    assert!(
        dump.contains("HF_TOKEN = \"***\"  # ") && !dump.contains("hunter2"),
        "{dump}"
    );
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn a_dump_is_a_configuration_file_with_the_same_meaning() {
    let first = pool_file("slots = 3\nargs = [\"-fa\", \"on\"]")
        .load(&[("ORCHD_SSE_HEARTBEAT_MS", "700")])
        .unwrap();
    let second = TestFile::new(&first.dump()).load(&[]).unwrap();
    let json = |loaded: &config_schema::Loaded| serde_json::to_value(&loaded.config).unwrap();
    assert_eq!(json(&first), json(&second));
}
