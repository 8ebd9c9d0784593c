//! Flag > environment > file > default, and derived defaults.

use std::path::Path;

use config_schema::{Environment, Origin, Overrides, QueuePolicy, load};

use crate::{TestFile, environment, load_env, pool_file};

#[test]
fn without_any_source_everything_is_a_default() {
    let loaded = load_env(&[]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.orchestratord.addr.get().to_string(), "127.0.0.1:8080");
    assert_eq!(config.pool_managerd.addr.get().to_string(), "127.0.0.1:9200");
    assert_eq!(
        config.pool_managerd.orchestrator_url.as_str(),
        "http://127.0.0.1:8080"
    );
    assert!(config.orchestratord.cancel_on_disconnect);
    assert!(config.orchestratord.placement.allow_pin);
    assert!(config.auth.token.is_none() && !config.auth.optional);
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.origins.of("http.max_headers"), &Origin::Default);
}

/// REQ-CFG-1.
#[test]
fn each_source_wins_over_the_ones_below() {
    let file = TestFile::new("[orchestratord]\naddr = \"127.0.0.1:1\"\n");
    let vars = [("ORCHD_ADDR", "127.0.0.1:2")];
    let flags = Overrides::default().set("--addr", "orchestratord.addr", Some("127.0.0.1:3"));
    let port = |loaded: &config_schema::Loaded| loaded.config.orchestratord.addr.get().port();

    let from_file = file.load(&[]).unwrap();
    assert_eq!(port(&from_file), 1);
    let origin = from_file.origins.of("orchestratord.addr").to_string();
    assert!(origin.ends_with("llama-orch.toml:2:1"), "{origin}");

    let from_env = file.load(&vars).unwrap();
    assert_eq!(port(&from_env), 2);
    assert_eq!(
        from_env.origins.of("orchestratord.addr"),
        &Origin::Env("ORCHD_ADDR")
    );

    let from_flag = file.load_with(&vars, flags).unwrap();
    assert_eq!(port(&from_flag), 3);
    assert_eq!(
        from_flag.origins.of("orchestratord.addr"),
        &Origin::Flag("--addr")
    );
}

#[test]
fn a_flag_that_was_not_given_changes_nothing() {
    let flags = Overrides::default().set("--addr", "orchestratord.addr", None::<String>);
    let loaded = load(&environment(&[]), &flags).unwrap();
    assert_eq!(loaded.config.orchestratord.addr.get().port(), 8080);
}

/// REQ-CFG-1.
#[test]
fn every_variable_reaches_its_key() {
    let loaded = load_env(&[
        ("AUTH_OPTIONAL", "1"),
        ("TRUST_PROXY_AUTH", "true"),
        ("TRUSTED_PROXIES", "10.0.0.1, ::1"),
        ("HTTP_ALLOWED_HOSTS", "box.lan"),
        ("HTTP_ALLOWED_ORIGINS", "http://ui.lan:3000"),
        ("LOG_FORMAT", "pretty"),
        ("LOG_LEVEL", "debug"),
        ("CANCEL_ON_DISCONNECT", "false"),
        ("ORCHD_SSE_CHANNEL_CAP", "64"),
        ("ORCHD_SSE_MICROBATCH", "true"),
        ("ORCHD_SSE_HEARTBEAT_MS", "200"),
        ("ORCHD_SSE_LOGS_ENABLED", "true"),
        ("ORCHD_SSE_LOGS_PERIOD_MS", "300"),
        ("ORCHD_URL", "http://10.0.0.5:8080/"),
        ("POOL_MANAGERD_ADVERTISE_URL", "http://10.0.0.6:9200"),
        ("POOL_MANAGERD_NODE_ID", "node-7"),
        ("POOL_MANAGERD_NVML_LIBRARY", "/lib/nvml.so"),
        ("POOL_MANAGERD_STATE_DIR", "/var/x"),
    ])
    .unwrap();
    let config = loaded.config;
    assert!(config.auth.optional && config.auth.trust_proxy);
    assert_eq!(config.auth.trusted_proxies.len(), 2);
    assert_eq!(config.http.allowed_hosts[0].as_str(), "box.lan");
    assert_eq!(config.http.allowed_origins[0].as_str(), "http://ui.lan:3000");
    assert_eq!(config.log.format, api_types::LogFormat::Pretty);
    assert_eq!(config.log.level, "debug");
    let sse = &config.orchestratord.sse;
    assert!(!config.orchestratord.cancel_on_disconnect && sse.microbatch && sse.logs_enabled);
    assert_eq!(
        (
            sse.channel_cap.get(),
            sse.heartbeat_ms.ms(),
            sse.logs_period_ms.ms()
        ),
        (64, 200, 300)
    );
    let pm = &config.pool_managerd;
    assert_eq!(pm.orchestrator_url.as_str(), "http://10.0.0.5:8080");
    assert_eq!(
        pm.advertise_url.as_ref().unwrap().as_str(),
        "http://10.0.0.6:9200"
    );
    assert_eq!(pm.node_id.as_str(), "node-7");
    assert_eq!(pm.nvml_library.as_deref(), Some(Path::new("/lib/nvml.so")));
    assert_eq!(pm.state_dir, Path::new("/var/x"));
}

#[test]
fn names_and_places_are_derived_from_the_machine() {
    let state = |vars: &[(&str, &str)]| load_env(vars).unwrap().config.pool_managerd.state_dir;
    assert_eq!(state(&[]), Path::new("/var/lib/llama-orch"));
    assert_eq!(
        state(&[("HOME", "/home/u")]),
        Path::new("/home/u/.local/state/llama-orch")
    );
    let xdg = ("XDG_STATE_HOME", "/s");
    assert_eq!(state(&[("HOME", "/home/u"), xdg]), Path::new("/s/llama-orch"));
    assert_eq!(
        state(&[xdg, ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")]),
        Path::new("/var/lib/a")
    );
    let loaded = load_env(&[]).unwrap();
    assert_eq!(loaded.config.pool_managerd.node_id.as_str(), "test-host");
    assert_eq!(
        loaded.origins.of("pool_managerd.node_id").to_string(),
        "from the host name"
    );
}

#[test]
fn the_model_is_named_after_its_file() {
    let pool = |more| {
        pool_file(more)
            .load(&[])
            .unwrap()
            .config
            .pool_managerd
            .pools
            .remove(0)
    };
    assert_eq!(pool("").model_id.as_str(), "Tiny-q4");
    assert_eq!(pool("model_id = \"tiny\"").model_id.as_str(), "tiny");
}

#[test]
fn the_file_is_found_in_its_default_place_and_by_its_variable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("llama-orch/config.toml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "[orchestratord.queue]\npolicy = \"drop-lru\"\n").unwrap();
    let home = dir.path().to_str().unwrap();
    for vars in [
        ("XDG_CONFIG_HOME", home),
        ("LLAMA_ORCH_CONFIG", path.to_str().unwrap()),
    ] {
        let loaded = load(&Environment::of([vars]), &Overrides::default()).unwrap();
        assert_eq!(loaded.file.as_deref(), Some(path.as_path()));
        assert_eq!(loaded.config.orchestratord.queue.policy, QueuePolicy::DropLru);
    }
}
