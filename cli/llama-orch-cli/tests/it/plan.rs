//! `plan` (REQ-CLI-PLAN): whether a model fits, as the driver of this machine has it.

use std::fs;

use api_types::{EngineKind, KvCacheType, MeasuredUsage, UsageKey};
use catalog_core::Catalog;
use serde_json::json;
use test_harness_support::gguf::TinyModel;

use crate::machine::{Machine, model};

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_held_against_what_is_free() -> anyhow::Result<()> {
    let mut machine = Machine::new().await?;
    TinyModel::HEAVY.write_hollow(&machine.folder.path().join("heavy.gguf"))?;
    let (fits, code) = machine.json(&["plan", "heavy.gguf", "--ctx", "2048", "--slots", "2"])?;
    assert_eq!((&fits["fits"], code), (&json!(true), Some(0)), "{fits}");
    let weights = fits["need"]["weights_bytes"].as_u64().unwrap();
    assert!(weights > 400 << 20, "{fits}");
    assert_eq!(fits["need"]["cache_bytes"], 2 * 2048 * 2 * 4096 * 2, "{fits}");
    assert_eq!(fits["verdicts"].as_array().map(Vec::len), Some(2), "{fits}");

    machine.nvml.update(|driver| {
        for gpu in &mut driver.gpus {
            gpu.memory.used_by_others = gpu.memory.total - (600 << 20);
        }
    })?;
    let (full, code) = machine.json(&["plan", "heavy.gguf"])?;
    assert_eq!((&full["fits"], code), (&json!(false), Some(10)), "{full}");
    let text = machine.run(&["plan", "heavy.gguf"])?;
    assert_eq!(text.code, Some(10), "{text:?}");
    assert!(
        text.out.contains("does not fit") && text.out.contains("because"),
        "{}",
        text.out
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_the_catalog_is_known_by_its_name() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    fs::write(machine.folder.path().join("own.gguf"), model()?)?;
    machine.run(&["models", "add", "own.gguf", "--id", "mine"])?;
    let (answer, code) = machine.json(&["plan", "mine", "--gpus", "2"])?;
    assert_eq!((&answer["model"], code), (&json!("mine"), Some(0)), "{answer}");
    assert_eq!(answer["verdicts"][0]["gpus"].as_array().map(Vec::len), Some(2));

    // REQ-VRAM-LEARN: what pool-managerd has seen counts, not the estimate.
    let (shown, _) = machine.json(&["models", "show", "mine"])?;
    let seen = MeasuredUsage {
        key: UsageKey {
            engine: EngineKind::Llamacpp,
            engine_version: "b1".to_owned(),
            model: serde_json::from_value(shown["model"]["digest"].clone())?,
            ctx: 4096,
            slots: 1,
            cache_k: KvCacheType::F16,
            cache_v: KvCacheType::F16,
        },
        bytes: 5 << 30,
        samples: 1,
        measured_unix_ms: 1,
    };
    Catalog::at(&machine.catalog()).record_usage(&seen, 1)?;
    let (answer, _) = machine.json(&["plan", "mine"])?;
    assert_eq!(answer["need"]["basis"], "measured", "{answer}");
    assert!(answer["need"]["total_bytes"].as_u64() > Some(5 << 30), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_planned_is_told() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    fs::write(machine.folder.path().join("text.gguf"), "no model")?;
    fs::write(machine.folder.path().join("own.gguf"), model()?)?;
    for (line, code, words) in [
        (&["plan", "nothing"][..], 5, "models pull"),
        (&["plan", "text.gguf"], 5, "text.gguf"),
        (&["plan", "own.gguf", "--engine", "openai"], 5, "openai"),
        (&["plan", "own.gguf", "--slots", "0"], 2, "--slots"),
    ] {
        let done = machine.run(line)?;
        assert_eq!(done.code, Some(code), "{line:?}: {done:?}");
        assert!(done.err.contains(words), "{line:?}: {}", done.err);
    }
    let mut command = machine.command(&["plan", "own.gguf", "--json"]);
    command.env("POOL_MANAGERD_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1");
    let done = crate::process::ended(&mut command)?;
    assert_eq!(done.code, Some(10), "{done:?}");
    let document: serde_json::Value = serde_json::from_str(&done.out)?;
    assert!(document["need"]["total_bytes"].is_u64(), "{document}");
    let told = document["driver_error"].as_str().unwrap_or_default();
    assert!(told.contains("/nowhere/libnvidia-ml.so.1"), "{document}");
    Ok(())
}
