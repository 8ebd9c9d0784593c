//! `models …` (REQ-CLI-MODELS): what is fetched, kept, told and taken away, by the built command against a scripted hub.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use test_harness_support::file_server::Fault;

use crate::machine::{MODEL, Machine, hex_digest, model};
use crate::process::{interrupt, wait};

fn listed(machine: &Machine) -> anyhow::Result<Vec<Value>> {
    let (page, _) = machine.json(&["models", "list"])?;
    Ok(page["models"].as_array().cloned().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_model_is_in_the_catalog_until_it_is_removed() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let content = model()?;
    machine.serve(&content);
    let planned = machine.run(&["models", "pull", MODEL, "--dry-run"])?;
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(planned.out.contains("to download"), "{}", planned.out);
    assert!(!machine.catalog().exists(), "a plan writes nothing");
    assert_eq!(listed(&machine)?, Vec::<Value>::new());

    let pulled = machine.run(&["models", "pull", MODEL])?;
    assert_eq!((pulled.code, pulled.out.as_str()), (Some(0), "m\n"), "{pulled:?}");
    assert!(
        pulled.err.contains("m.gguf: 100 % · "),
        "lines in a pipe: {}",
        pulled.err
    );
    assert!(!pulled.err.contains('\r'), "no bar in a pipe: {}", pulled.err);
    let quiet = machine.run(&["models", "pull", MODEL, "-q"])?;
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("m\n", ""), "{quiet:?}");

    let (shown, _) = machine.json(&["models", "show", MODEL])?;
    assert_eq!(
        (
            &shown["model"]["id"],
            &shown["model"]["state"],
            &shown["model"]["digest"]
        ),
        (
            &json!("m"),
            &json!("Active"),
            &json!(format!("sha256:{}", hex_digest(&content)))
        )
    );
    let path = shown["paths"][0].as_str().unwrap().to_owned();
    assert_eq!(fs::read(&path)?, content);
    let text = machine.run(&["models", "show", "m"])?.out;
    assert!(text.contains(&path) && text.contains("llama"), "{text}");
    let table = machine.run(&["models", "list"])?.out;
    assert!(table.lines().count() == 2 && table.contains(MODEL), "{table}");

    let removed = machine.run(&["models", "rm", "m"])?;
    assert_eq!(
        (removed.code, removed.out.as_str()),
        (Some(0), "m\n"),
        "{removed:?}"
    );
    assert!(!fs::exists(&path)?);
    let unknown = machine.run(&["models", "show", "m"])?;
    assert_eq!(unknown.code, Some(5), "{unknown:?}");
    assert!(unknown.err.contains("models list"), "{}", unknown.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_stopped_goes_on_the_next_time() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    machine.serve(&model()?);
    machine
        .hub
        .next(&Machine::file(), [Fault::CutAfter(100_000), Fault::Silent]);
    let mut child = machine.command(&["models", "pull", MODEL]).spawn()?;
    let asked = || machine.hub.seen_of(&Machine::file()).len() >= 2;
    let waited = tokio::time::timeout(crate::server::PATIENCE, async {
        while !asked() {
            tokio::task::yield_now().await;
        }
    });
    waited.await?;
    interrupt(&child)?;
    assert_eq!(wait(&mut child)?.code(), Some(130));
    assert_eq!(
        listed(&machine)?,
        Vec::<Value>::new(),
        "nothing partial is visible"
    );
    let before = machine.hub.seen_of(&Machine::file()).len();
    let pulled = machine.run(&["models", "pull", MODEL])?;
    assert_eq!(pulled.code, Some(0), "{pulled:?}");
    let next = &machine.hub.seen_of(&Machine::file())[before];
    assert!(
        next.header("range").is_some_and(|range| range != "bytes=0-"),
        "it began anew: {next:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_exit_and_a_document() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    machine.serve(&model()?);
    let status = |status| Fault::Status(status, Vec::new(), String::new());
    for (fault, exit, code) in [
        (status(401), 4, "FORBIDDEN"),
        (status(404), 5, "REFUSED"),
        (status(429), 6, "BUSY"),
        (Fault::Flip(5000), 7, "SOURCE"),
    ] {
        machine.hub.always(&Machine::file(), fault.clone());
        let (document, ended) = machine.json(&["models", "pull", MODEL])?;
        assert_eq!(
            (ended, &document["error"]["code"], &document["exit_code"]),
            (Some(exit), &json!(code), &json!(exit)),
            "{fault:?}: {document}"
        );
        assert_eq!(listed(&machine)?, Vec::<Value>::new(), "{fault:?}");
        machine.hub.mend();
    }
    for (line, exit, words) in [
        (
            &["models", "pull", "https://example.org/m.gguf"][..],
            4,
            "catalog.allowed_hosts",
        ),
        (&["models", "pull", "https://169.254.169.254/m.gguf"], 4, "not"),
        (&["models", "pull", "file:/etc/passwd"], 2, "models add"),
        (&["models", "pull", "m"], 2, "catalog id"),
        (&["models", "add", "nowhere.gguf"], 8, "nowhere.gguf"),
        (&["models", "retire", "m"], 5, "not in the catalog"),
        (&["models", "rm", "m"], 5, "not in the catalog"),
        (
            &["models", "list", "--config", "/nowhere.toml"],
            2,
            "/nowhere.toml",
        ),
    ] {
        let done = machine.run(line)?;
        assert_eq!(done.code, Some(exit), "{line:?}: {done:?}");
        assert!(done.err.contains(words), "{line:?}: {}", done.err);
    }
    Ok(())
}

/// A file that is not the command's to read is no reason not to use the catalog.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemons_token_is_not_needed() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let config = machine.folder.path().join("config.toml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, format!("auth.token_file = \"/nowhere/token\"\n{text}"))?;
    assert_eq!(listed(&machine)?, Vec::<Value>::new());
    Ok(())
}

/// REQ-CATALOG-VERIFY.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_found_and_fetched_again() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let content = model()?;
    machine.serve(&content);
    machine.run(&["models", "pull", MODEL])?;
    let sound = machine.run(&["models", "verify", "--all"])?;
    assert_eq!(sound.code, Some(0), "{sound:?}");
    assert!(sound.out.contains("sound"), "{}", sound.out);
    let (shown, _) = machine.json(&["models", "show", "m"])?;
    assert!(shown["model"]["verified_unix_ms"].is_u64(), "{shown}");

    let path = shown["paths"][0].as_str().unwrap();
    let mut bytes = content.clone();
    bytes[content.len() / 2] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    fs::write(path, &bytes)?;
    let wrong = machine.run(&["models", "verify", "m"])?;
    assert_eq!(wrong.code, Some(10), "{wrong:?}");
    assert!(
        wrong.err.contains(&format!("models pull {MODEL} --id m")),
        "{}",
        wrong.err
    );
    assert_eq!(listed(&machine)?[0]["state"], "Retired");
    assert!(!fs::exists(path)?, "what is wrong is not kept");

    let again = machine.run(&["models", "pull", MODEL, "--id", "m"])?;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(fs::read(path)?, content);
    assert_eq!(listed(&machine)?[0]["state"], "Active");
    let (found, code) = machine.json(&["models", "verify", "m"])?;
    assert_eq!(
        (&found[0]["files"][0]["finding"], code),
        (&json!("sound"), Some(0))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_model_stays_where_it_is() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let path = machine.folder.path().join("own.gguf");
    fs::write(&path, model()?)?;
    let added = machine.run(&["models", "add", "own.gguf", "--id", "mine"])?;
    assert_eq!((added.code, added.out.as_str()), (Some(0), "mine\n"), "{added:?}");
    assert_eq!(machine.run(&["models", "retire", "mine"])?.out, "mine\tRetired\n");
    let (active, _) = machine.json(&["models", "list", "--state", "Active"])?;
    assert_eq!(active["models"], json!([]));
    assert_eq!(
        machine.run(&["models", "activate", "mine"])?.out,
        "mine\tActive\n"
    );

    let wrong = format!("sha256:{}", "ab".repeat(32));
    let refused = machine.run(&["models", "add", "own.gguf", "--id", "other", "--sha256", &wrong])?;
    assert_eq!(refused.code, Some(7), "{refused:?}");
    fs::write(&path, b"GGUF and other bytes")?;
    let found = machine.run(&["models", "verify", "mine"])?;
    assert_eq!(found.code, Some(10), "{found:?}");
    assert!(path.exists(), "it is not ours");
    assert_eq!(listed(&machine)?[0]["state"], "Retired");
    fs::remove_file(&path)?;
    let (missing, _) = machine.json(&["models", "verify", "mine"])?;
    assert_eq!(missing[0]["files"][0]["finding"], "missing");
    assert_eq!(machine.run(&["models", "rm", "mine"])?.code, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let path = machine.folder.path().join("own.gguf");
    fs::write(&path, model()?)?;
    for id in ["one", "two", "three"] {
        assert_eq!(
            machine.run(&["models", "add", "own.gguf", "--id", id])?.code,
            Some(0)
        );
    }
    let (first, _) = machine.json(&["models", "list", "--limit", "2"])?;
    let ids = |page: &Value| -> Vec<String> {
        let models = page["models"].as_array().unwrap();
        models
            .iter()
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&first), ["three", "two"]);
    let cursor = first["next_cursor"].to_string();
    let (second, _) = machine.json(&["models", "list", "--limit", "2", "--cursor", &cursor])?;
    assert_eq!(ids(&second), ["one"]);
    assert_eq!(second.get("next_cursor"), None);
    Ok(())
}
