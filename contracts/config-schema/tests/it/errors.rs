//! Every problem names its file position, variable or flag, its key, and the rule with its numbers.

use config_schema::{Overrides, load};

use crate::{TestFile, environment, load_env, pool_file};

#[test]
fn all_problems_of_all_sources_are_reported_at_once() {
    let file = TestFile::new(
        "[http]\nmax_headers = 5\ncolour = \"red\"\nallowed_hosts = [\"ok\", \"*\"]\n\n[orchestratord.queue]\npolicy = \"lifo\"\n",
    );
    let problems = file.problems(&[("ORCHD_SSE_HEARTBEAT_MS", "soon"), ("AUTH_OPTIONAL", "")]);
    let expected = [
        "environment variable AUTH_OPTIONAL: auth.optional: is set to nothing; give it a value or unset it",
        "environment variable ORCHD_SSE_HEARTBEAT_MS: orchestratord.sse.heartbeat_ms: must be a whole number",
        "llama-orch.toml:2:1: http.max_headers: is 5, must be 16 to 100",
        "llama-orch.toml:3:1: http.colour: unknown key `colour`, expected one of",
        "llama-orch.toml:4:24: http.allowed_hosts[1]: must be a host name or IP address",
        "llama-orch.toml:7:1: orchestratord.queue.policy: unknown variant `lifo`, expected `reject` or `drop-lru`",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for text in expected {
        assert!(
            problems.iter().any(|problem| problem.starts_with(text)),
            "{text}\nnot in {problems:#?}"
        );
    }
}

#[test]
fn problems_of_several_pools_keep_their_own_lines() {
    let file = TestFile::new(
        "[[pool_managerd.pools]]\nid = \"a\"\n\n[[pool_managerd.pools]]\nid = \"b\"\nengine = \"llamacpp\"\nmodel = \"m\"\ndevices = [\"GPU-1\"]\nslots = 0\n",
    );
    let problems = file.problems(&[]);
    assert_eq!(
        problems,
        [
            "llama-orch.toml:1:1: pool_managerd.pools[0]: missing key `engine`",
            "llama-orch.toml:9:1: pool_managerd.pools[1].slots: is 0, must be 1 to 256",
        ]
    );
}

#[test]
fn a_broken_file_does_not_hide_a_broken_environment() {
    let problems = TestFile::new("[http\n").problems(&[("ORCHD_ADDR", "localhost:80")]);
    assert!(
        problems[0].starts_with("llama-orch.toml:1:6: TOML syntax: "),
        "{problems:?}"
    );
    assert_eq!(
        problems[1],
        "environment variable ORCHD_ADDR: orchestratord.addr: must be IP:port, e.g. 127.0.0.1:8080 or [::1]:8080"
    );
}

#[test]
fn one_artifact_fits_into_the_room_of_all() {
    let file = TestFile::new("[orchestratord.artifacts]\nmax_bytes = 2000000\ntraces_mib = 1\n");
    assert_eq!(
        file.problems(&[]),
        [
            "llama-orch.toml:2:1: orchestratord.artifacts.max_bytes: is 2000000, must not be above orchestratord.artifacts.traces_mib, which is 1 MiB"
        ]
    );
    let file = TestFile::new("[orchestratord.artifacts]\ntrace_input = \"show\"\n");
    let problems = file.problems(&[]);
    assert!(
        problems[0].contains("orchestratord.artifacts.trace_input: unknown variant `show`"),
        "{problems:?}"
    );
}

#[test]
fn a_section_that_is_no_table_is_named() {
    let problems = TestFile::new("http = 5\n").problems(&[("HTTP_ALLOWED_HOSTS", "a")]);
    assert!(
        problems[0].starts_with("llama-orch.toml:1:1: http: invalid type: integer `5`"),
        "{problems:?}"
    );
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let missing = |overrides: Overrides, vars: &[(&str, &str)]| {
        load(&environment(vars), &overrides).unwrap_err().to_string()
    };
    let flag = missing(
        Overrides::default().config_file(Some("/no/such.toml".into())),
        &[],
    );
    assert!(flag.contains("/no/such.toml: cannot be read"), "{flag}");
    let variable = missing(Overrides::default(), &[("LLAMA_ORCH_CONFIG", "/no/other.toml")]);
    assert!(variable.contains("/no/other.toml: cannot be read"), "{variable}");
}

#[test]
fn a_flag_is_named_with_its_key() {
    let flags = Overrides::default()
        .set("--addr", "orchestratord.addr", Some("nowhere"))
        .set("--wrong", "orchestratord.no_such_key", Some(true));
    let problems = load(&environment(&[]), &flags).unwrap_err().to_string();
    assert!(
        problems.contains("flag --addr: orchestratord.addr: must be IP:port"),
        "{problems}"
    );
    assert!(
        problems.contains("flag --wrong: orchestratord.no_such_key: unknown key"),
        "{problems}"
    );
}

#[test]
fn rules_between_keys_name_both_numbers() {
    let problems =
        TestFile::new("[orchestratord.nodes]\nheartbeat_interval_ms = 4000\nstale_after_ms = 3500\n")
            .problems(&[]);
    assert_eq!(
        problems,
        [
            "llama-orch.toml:3:1: orchestratord.nodes.stale_after_ms: is 3500, must be above orchestratord.nodes.heartbeat_interval_ms, which is 4000"
        ]
    );
    let problems = TestFile::new("[auth]\ntrust_proxy = true\n").problems(&[]);
    assert!(
        problems[0].contains("auth.trust_proxy: needs at least one address"),
        "{problems:?}"
    );
}

#[test]
fn pools_are_checked_one_by_one_and_together() {
    for (more, expected) in [
        (
            "slots = 1000",
            "pool_managerd.pools[0].slots: is 1000, must be 1 to 256",
        ),
        (
            "binary = \"bin/llama-server\"",
            "pool_managerd.pools[0].binary: must be an absolute path",
        ),
        (
            "[pool_managerd.pools.restart]\ninitial_ms = 2000\nmax_ms = 1000",
            "restart.initial_ms: is 2000, must not be above",
        ),
        (
            "[pool_managerd.pools.env]\n\"A B\" = \"x\"",
            "env.A B: must be letters",
        ),
    ] {
        let problems = pool_file(more).problems(&[]);
        assert!(problems[0].contains(expected), "{more}: {problems:?}");
    }
    let twice = "[[pool_managerd.pools]]\nid = \"a\"\nengine = \"llamacpp\"\nmodel = \"m\"\ndevices = [\"GPU-1\", \"GPU-1\"]";
    let problems = pool_file(twice).problems(&[]);
    assert!(
        problems[0].contains(":7:1: pool_managerd.pools[1].id: a is used twice"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains("pools[1].devices: names a GPU twice"),
        "{problems:?}"
    );
}

/// ORCH-3526.
#[test]
fn a_pool_serves_text_or_vectors_or_scores() {
    for good in [
        "[\"chat\"]",
        "[\"chat\", \"completion\"]",
        "[\"embedding\"]",
        "[\"rerank\"]",
    ] {
        let loaded = pool_file(&format!("workloads = {good}")).load(&[]);
        assert!(loaded.is_ok(), "{good}: {loaded:?}");
    }
    for (bad, expected) in [
        ("[]", "must be completion and chat"),
        ("[\"chat\", \"embedding\"]", "must be completion and chat"),
        ("[\"embedding\", \"rerank\"]", "must be completion and chat"),
        ("[\"chat\", \"chat\"]", "names a workload twice"),
        ("[\"poetry\"]", "poetry"),
    ] {
        let problems = pool_file(&format!("workloads = {bad}")).problems(&[]);
        let found = problems.iter().any(|problem| problem.contains(expected));
        assert!(found && problems[0].contains("workloads"), "{bad}: {problems:?}");
    }
}

#[test]
fn a_pool_needs_a_gpu() {
    let file = TestFile::new(
        "[[pool_managerd.pools]]\nid = \"a\"\nengine = \"llamacpp\"\nmodel = \"m\"\ndevices = []\n",
    );
    assert!(file.problems(&[])[0].contains("must name at least one GPU; there is no CPU inference"));
}

#[test]
fn mistyped_variables_are_warned_about() {
    let loaded = load_env(&[("ORCHD_ADRR", "127.0.0.1:1")]).unwrap();
    assert_eq!(
        loaded.warnings,
        ["the environment variable ORCHD_ADRR is not known and has no effect"]
    );
}

/// REQ-CFG-2 for rules that span keys.
#[test]
fn limits_that_contradict_each_other_are_named() {
    let file = TestFile::new(
        "[orchestratord.engine]\nfirst_token_timeout_ms = 300\n\n[orchestratord.sessions]\ncost_budget = 5.0\nprice_out_per_1k = -1.0\n",
    );
    let problems = file.problems(&[]);
    let rules = [
        "llama-orch.toml:6:1: orchestratord.sessions.price_out_per_1k: must be 0 to 1000000",
        "llama-orch.toml:2:1: orchestratord.engine.first_token_timeout_ms: is 300, must not be below \
         orchestratord.engine.connect_timeout_ms, which is 2000",
    ];
    for rule in rules {
        assert!(
            problems.iter().any(|problem| problem == rule),
            "{rule}\nnot in {problems:#?}"
        );
    }
    let unpriced = TestFile::new("[orchestratord.sessions]\ncost_budget = 5.0\n").problems(&[]);
    assert_eq!(
        unpriced,
        [
            "llama-orch.toml:2:1: orchestratord.sessions.cost_budget: needs price_in_per_1k or price_out_per_1k beside it"
        ]
    );
}
