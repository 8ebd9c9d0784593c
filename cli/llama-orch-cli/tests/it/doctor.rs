//! `doctor` (REQ-CLI-DOCTOR): what it finds on a machine that is set up for it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::machine::{GPU, MODEL, Machine, model};

fn of<'a>(document: &'a Value, check: &str) -> Vec<&'a Value> {
    let findings = document["findings"].as_array().into_iter().flatten();
    findings.filter(|finding| finding["check"] == check).collect()
}

fn levels<'a>(document: &'a Value, check: &str) -> Vec<&'a str> {
    let found = of(document, check);
    found
        .iter()
        .filter_map(|finding| finding["level"].as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_well_has_no_problem() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let engine = machine.folder.path().join("llama-server");
    fs::write(&engine, "")?;
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o755))?;
    fs::write(machine.folder.path().join("m.gguf"), "GGUF")?;
    machine.configure(&format!(
        "[[pool_managerd.pools]]\nid = \"chat\"\nengine = \"llamacpp\"\nmodel = \"file:{0}/m.gguf\"\n\
         binary = \"{0}/llama-server\"\ndevices = [\"{GPU}\"]\n",
        machine.folder.path().display()
    ))?;
    let (document, code) = machine.json(&["doctor"])?;
    assert_eq!(
        (code, &document["problems"]),
        (Some(0), &0.into()),
        "{document:#}"
    );
    assert_eq!(levels(&document, "driver"), ["ok"]);
    assert_eq!(levels(&document, "gpu"), ["ok", "ok"]);
    assert_eq!(levels(&document, "pool"), ["ok"]);
    assert_eq!(levels(&document, "port"), ["ok", "ok"]);
    assert_eq!(levels(&document, "config")[0], "ok");
    let card = of(&document, "gpu")[0]["what"].as_str().unwrap();
    assert!(
        card.contains("compute capability") && card.contains(GPU),
        "{card}"
    );
    for finding in document["findings"].as_array().unwrap() {
        let is_ok = finding["level"] == "ok";
        assert!(is_ok || finding["fix"].is_array(), "nothing helps: {finding}");
    }
    let text = machine.run(&["doctor"])?;
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.out.contains("0 problems"), "{}", text.out);
    assert!(!machine.catalog().exists(), "it changes nothing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_is_told_with_what_helps() -> anyhow::Result<()> {
    let mut machine = Machine::new().await?;
    machine.nvml.update(|driver| {
        driver.gpus[0].memory.used_by_others = 20 << 30;
    })?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    machine.configure(&format!(
        "[orchestratord]\naddr = \"{}\"\n\
         [[pool_managerd.pools]]\nid = \"chat\"\nengine = \"llamacpp\"\nmodel = \"file:/nowhere/m.gguf\"\n\
         binary = \"/nowhere/llama-server\"\ndevices = [\"GPU-00000000-0000-4000-8000-00000000dead\"]\n",
        taken.local_addr()?
    ))?;
    let (document, code) = machine.json(&["doctor"])?;
    assert_eq!(code, Some(10), "{document:#}");
    assert_eq!(levels(&document, "pool"), ["problem"; 3], "{document:#}");
    assert_eq!(levels(&document, "port"), ["problem", "ok"], "{document:#}");
    assert_eq!(levels(&document, "gpu"), ["ok", "warning", "ok"], "{document:#}");
    machine.configure(&format!(
        "[[pool_managerd.pools]]\nid = \"chat\"\nengine = \"llamacpp\"\nmodel = \"{MODEL}\"\n\
         models = [{{ model = \"mine\" }}]\nbinary = \"/bin/sh\"\ndevices = [\"{GPU}\"]\n"
    ))?;
    fs::write(machine.folder.path().join("own.gguf"), model()?)?;
    machine.run(&["models", "add", "own.gguf", "--id", "mine"])?;
    machine.run(&["models", "retire", "mine"])?;
    let (models, _) = machine.json(&["doctor"])?;
    let fixes: Vec<&str> = of(&models, "pool")
        .iter()
        .filter_map(|finding| finding["fix"][0].as_str())
        .collect();
    assert_eq!(
        fixes,
        [
            format!("llama-orch models pull {MODEL}    # now"),
            "llama-orch models activate mine".to_owned()
        ]
    );
    let port = of(&document, "port")[0]["fix"][0].as_str().unwrap();
    assert!(
        port.contains(&format!(":{}", taken.local_addr()?.port())),
        "{port}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_at_hides_nothing_else() -> anyhow::Result<()> {
    let mut machine = Machine::new().await?;
    machine.variables.push((
        "POOL_MANAGERD_NVML_LIBRARY",
        "/nowhere/libnvidia-ml.so.1".to_owned(),
    ));
    let (document, code) = machine.json(&["doctor"])?;
    assert_eq!(code, Some(10), "{document:#}");
    let driver = of(&document, "driver")[0];
    assert!(
        driver["what"]
            .as_str()
            .unwrap()
            .contains("/nowhere/libnvidia-ml.so.1"),
        "{driver}"
    );
    assert_eq!(levels(&document, "disk")[0], "ok", "{document:#}");

    machine.configure("[orchestratord]\nnothing = 1\n")?;
    let (broken, code) = machine.json(&["doctor"])?;
    assert_eq!(code, Some(10), "{broken:#}");
    assert_eq!(levels(&broken, "config"), ["problem"], "{broken:#}");
    assert_eq!(levels(&broken, "clock").len(), 1, "{broken:#}");
    Ok(())
}
