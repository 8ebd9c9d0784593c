//! Models that have to be fetched first (REQ-MODEL-FETCH): from a scripted hub into the catalog, then onto the GPU.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api_types::KvCacheType;
use api_types::operation::{DesiredPool, ModelChoice, OperationKind, OperationState};
use api_types::pool::UnreadyCause;
use catalog_core::Catalog;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use test_harness_support::file_server::{Fault, FileServer, Resource};
use test_harness_support::gguf::TinyModel;
use test_harness_support::wait::{Look, wait_for};
use uuid::Uuid;

use crate::orchestrator::Answer;
use crate::rig::{LIMIT, Node, Rig};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const MODEL: &str = "hf:org/repo/m.gguf";

/// A hub with one repository, and a box that may ask it.
struct Scene {
    hub: FileServer,
    rig: Rig,
}

impl Scene {
    /// With a pool that is to serve the hub's model, and these lines more in its table.
    async fn new(pool: &str) -> Result<Self> {
        let hub = FileServer::start().await?;
        let mut rig = Rig::new().await?;
        rig.head = format!("[catalog]\nprivate_origins = [{:?}]\n", hub.url(""));
        rig.variables.push(("HF_ENDPOINT".to_owned(), hub.url("")));
        MODEL.clone_into(&mut rig.model_ref);
        rig.pool = pool.to_owned();
        let scene = Self { hub, rig };
        scene.serve(&scene.content()?);
        Ok(scene)
    }

    fn content(&self) -> Result<Vec<u8>> {
        let file = self.rig.dir.path().join("source.gguf");
        TinyModel::default().write(&file)?;
        Ok(fs::read(file)?)
    }

    fn serve(&self, content: &[u8]) {
        let list = json!({"id": "org/repo", "sha": COMMIT, "siblings": [
            {"rfilename": "m.gguf", "size": content.len(),
             "lfs": {"sha256": hex::encode(Sha256::digest(content)), "size": content.len()}}
        ]});
        self.hub
            .serve("/api/models/org/repo/revision/main", Resource::json(&list));
        self.hub.serve(&file(), Resource::new(content.to_vec(), "m"));
    }
}

fn file() -> String {
    format!("/org/repo/resolve/{COMMIT}/m.gguf")
}

async fn load(scene: &Scene, node: &Node) -> Result<api_types::pool::PoolReport> {
    scene.rig.orchestrator.answer(Answer::Accept(vec![DesiredPool {
        pool_id: "p".parse()?,
        generation: 1,
        operation_id: Uuid::from_u128(1),
        kind: OperationKind::Load,
        model: Some(ModelChoice {
            model_ref: MODEL.parse()?,
            model_id: "m".parse()?,
        }),
        deadline_ms: 0,
    }]));
    node.until("the load to be over", |pool| {
        let over = |state| state != OperationState::Running;
        pool.operation.as_ref().is_some_and(|it| over(it.state))
    })
    .await
}

#[tokio::test]
async fn a_pool_fetches_its_model_and_serves_it() -> Result<()> {
    let scene = Scene::new("").await?;
    let content = scene.content()?;
    let node = scene.rig.start().await?;
    node.until_ready(1).await?;
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&content)));
    let pool = node
        .until("its digest", |pool| pool.model_digest.is_some())
        .await?;
    assert_eq!(pool.model_digest, Some(digest));
    assert_eq!((pool.model_id.as_str(), pool.model_ref.as_str()), ("m", MODEL));
    node.stop().await?;

    // What is here needs no hub.
    let asked = scene.hub.seen().len();
    let node = scene.rig.start().await?;
    node.until_ready(2).await?;
    assert_eq!(scene.hub.seen().len(), asked);
    Ok(())
}

#[tokio::test]
async fn a_download_that_is_cut_goes_on_and_no_wrong_byte_is_served() -> Result<()> {
    let scene = Scene::new("").await?;
    scene.hub.next(
        &file(),
        [
            Fault::CutAfter(10_000),
            Fault::Flip(20_000),
            Fault::CutAfter(30_000),
        ],
    );
    let node = scene.rig.start().await?;
    node.until_ready(1).await?;
    let pool = node
        .until("its digest", |pool| pool.model_digest.is_some())
        .await?;
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(scene.content()?)));
    assert_eq!(pool.model_digest, Some(digest));
    Ok(())
}

#[tokio::test]
async fn a_hub_that_refuses_is_told_with_what_helps_and_tried_again() -> Result<()> {
    let scene = Scene::new("").await?;
    let gated = Fault::Status(
        403,
        vec![("X-Error-Code".to_owned(), "GatedRepo".to_owned())],
        String::new(),
    );
    scene.hub.always("/api/models/org/repo/revision/main", gated);
    let node = scene.rig.start().await?;
    let pool = node
        .until("the refusal", |pool| {
            pool.cause == Some(UnreadyCause::ModelMissing)
        })
        .await?;
    let hint = pool.hint.context("no hint")?;
    assert!(hint.contains("gated") && hint.contains("HF_TOKEN"), "{hint}");
    assert_eq!(pool.replicas[0].generation, 0, "nothing is started without it");
    scene.hub.mend();
    node.until_ready(1).await?;
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_downloaded_is_not_asked_for() -> Result<()> {
    let mut scene = Scene::new("").await?;
    scene.rig.head = "[catalog]\ndownloads = \"off\"\n".to_owned();
    let node = scene.rig.start().await?;
    let pool = node
        .until("the refusal", |pool| {
            pool.cause == Some(UnreadyCause::ModelMissing)
        })
        .await?;
    let hint = pool.hint.context("no hint")?;
    assert!(hint.contains("downloads"), "{hint}");
    assert!(scene.hub.seen().is_empty());
    Ok(())
}

/// REQ-MODEL-DEMAND.
#[tokio::test]
async fn a_model_on_demand_is_fetched_when_it_is_asked_for() -> Result<()> {
    let scene = Scene::new("load_on = \"demand\"").await?;
    scene
        .hub
        .always(&file(), Fault::Slow(60_000, Duration::from_millis(50)));
    let node = scene.rig.start().await?;
    node.until("a look at it", |pool| pool.unloaded).await?;
    assert!(scene.hub.seen().is_empty());
    let (loaded, seen) = tokio::join!(
        load(&scene, &node),
        node.until("the fetch", |pool| {
            pool.cause == Some(UnreadyCause::ModelFetching) && pool.models[0].fetch.is_some()
        })
    );
    assert_eq!(seen?.replicas[0].generation, 0);
    let pool = loaded?;
    assert!(pool.is_ready(), "{pool:?}");
    assert_eq!(pool.models[0].fetch, None);
    Ok(())
}

/// REQ-VRAM-LEARN: what the driver shows of a load is in the catalog, for the next plan.
#[tokio::test]
async fn what_an_engine_holds_is_noted_for_plans() -> Result<()> {
    let scene = Scene::new("args = [\"-ctk\", \"q8_0\"]").await?;
    let node = scene.rig.start().await?;
    let engine = node.until_ready(1).await?;
    let catalog = Catalog::at(&scene.rig.dir.path().join("state/catalog"));
    let look = || async {
        match catalog.usage() {
            Ok(usage) if !usage.is_empty() => Look::Ready(usage),
            other => Look::NotYet(format!("{other:?}")),
        }
    };
    let usage = wait_for("a measurement", LIMIT, look).await?;
    let seen = usage.first().context("none")?;
    let digest = hex::encode(Sha256::digest(scene.content()?));
    assert_eq!(seen.key.model.to_string(), format!("sha256:{digest}"));
    assert_eq!(
        (seen.key.ctx, seen.key.slots, seen.key.cache_k, seen.key.cache_v),
        (512, 2, KvCacheType::Q80, KvCacheType::F16)
    );
    let shown = node.pool().await?.replicas[0].gpu_memory_bytes;
    assert_eq!((Some(seen.bytes), engine.slots_total), (shown, Some(2)));
    Ok(())
}
