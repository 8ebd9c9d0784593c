//! REQ-CATALOG-SERVED: pools load what the catalog of their machine has, and what it does not let them load they do not start.

use anyhow::{Context, Result};
use api_types::pool::{PoolReport, UnreadyCause};
use api_types::{FilePlace, Lifecycle, ModelEntry, ModelFile, ModelId, Sha256Digest};
use catalog_core::Catalog;
use sha2::{Digest as _, Sha256};
use test_harness_support::gguf::TinyModel;

use crate::rig::{Node, Rig};

/// A model that was taken in where it lies.
fn entry(rig: &Rig, id: &str) -> Result<ModelEntry> {
    let content = std::fs::read(rig.model())?;
    let digest = Sha256Digest::new(Sha256::digest(&content).into());
    Ok(ModelEntry {
        id: ModelId::new(id)?,
        state: Lifecycle::Active,
        source: rig.model_ref.parse()?,
        resolved: rig.model_ref.clone(),
        digest,
        bytes: content.len() as u64,
        files: vec![ModelFile {
            name: "tiny.gguf".parse()?,
            bytes: content.len() as u64,
            sha256: digest,
            place: FilePlace::External(rig.model().to_str().context("no text")?.to_owned()),
        }],
        facts: None,
        created_unix_ms: 1,
        state_unix_ms: 1,
        verified_unix_ms: None,
    })
}

async fn waits(node: &Node, words: &str) -> Result<()> {
    let waiting = node.until(words, |pool| {
        let told = pool.hint.as_deref().is_some_and(|hint| hint.contains(words));
        pool.cause == Some(UnreadyCause::ModelMissing) && told
    });
    waiting.await.map(drop)
}

#[tokio::test]
async fn a_pool_serves_what_the_catalog_has_and_nothing_retired() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.model_ref = "hf:org/repo/tiny.gguf".to_owned();
    rig.head = "[catalog]\ndownloads = \"off\"\n".to_owned();
    TinyModel::default().write(&rig.model())?;
    let node = rig.start().await?;
    waits(&node, "downloads").await?;
    let catalog = Catalog::at(&rig.dir.path().join("state/catalog"));
    let id = catalog.register_model(entry(&rig, "tiny")?, 1)?.into_entry().id;
    node.until_ready(1).await?;
    node.stop().await?;

    catalog.set_model_state(&id, Lifecycle::Retired, 2)?;
    let node = rig.start().await?;
    waits(&node, "llama-orch models activate tiny").await?;
    catalog.set_model_state(&id, Lifecycle::Active, 3)?;
    node.until("it to be ready again", PoolReport::is_ready).await?;
    node.stop().await?;

    std::fs::write(rig.dir.path().join("state/catalog/models.json"), "{")?;
    let node = rig.start().await?;
    waits(&node, "models.json is damaged").await
}

#[tokio::test]
async fn a_pool_names_a_model_of_the_catalog_by_its_id() -> Result<()> {
    let mut rig = Rig::new().await?;
    TinyModel::default().write(&rig.model())?;
    let catalog = Catalog::at(&rig.dir.path().join("state/catalog"));
    catalog.register_model(entry(&rig, "mine")?, 1)?;
    rig.model_ref = "mine".to_owned();
    let node = rig.start().await?;
    node.until_ready(1).await?;
    Ok(())
}
