//! REQ-PROVISION-ONCE: one download, however many ask; one content, whatever it is called.

use std::sync::Arc;

use model_provisioner::{Notice, Progress, Unreported};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixtures::{Ear, Hub, is_whole, model, plan, provisioner, pull};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pulls_of_one_model_make_one_download() {
    let content = model(1);
    let hub = Hub::new(&[("m.gguf", content.clone())]).await;
    let mut pulls = JoinSet::new();
    for _ in 0..20 {
        // Each with a catalog of its own, as if in another process.
        let with = hub.provisioner();
        pulls.spawn(async move { pull(&with, "hf:org/repo/m.gguf").await.unwrap() });
    }
    let mut entries = pulls.join_all().await;
    entries.dedup();
    assert_eq!(entries.len(), 1);
    is_whole(&hub.provisioner(), &entries[0]);
    let requests = hub.server.seen_of(&Hub::path("m.gguf")).len();
    assert_eq!(requests, content.len().div_ceil(16 << 10), "each part once");
}

#[tokio::test]
async fn the_same_content_under_another_name_is_not_fetched_again() {
    let content = model(1);
    let hub = Hub::new(&[("m.gguf", content.clone()), ("other.gguf", content)]).await;
    let first = hub.pull("hf:org/repo/m.gguf").await.unwrap();
    let second = plan(&hub.provisioner(), "hf:org/repo/other.gguf").await.unwrap();
    assert!(second.files[0].cached && second.download_bytes == 0, "{second}");
    let second = hub.pull("hf:org/repo/other.gguf").await.unwrap();
    assert!(hub.server.seen_of(&Hub::path("other.gguf")).is_empty());
    let with = hub.provisioner();
    with.catalog().remove_model(&first.id, 5).unwrap();
    is_whole(&with, &second);
}

#[tokio::test]
async fn a_model_that_is_here_is_not_asked_for_again() {
    let hub = Hub::new(&[("m.gguf", model(1))]).await;
    let first = hub.pull("hf:org/repo/m.gguf").await.unwrap();
    let before = hub.server.seen_of(&Hub::path("m.gguf")).len();
    let again = hub.plan("hf:org/repo/m.gguf").await.unwrap();
    assert!(again.present);
    assert_eq!(hub.pull("hf:org/repo/m.gguf").await.unwrap(), first);
    assert_eq!(hub.server.seen_of(&Hub::path("m.gguf")).len(), before);
    // One whose file somebody has removed is brought again.
    let with = hub.provisioner();
    let located = with.catalog().locate(&"m".parse().unwrap()).unwrap().unwrap();
    std::fs::remove_file(located.first().unwrap()).unwrap();
    is_whole(&with, &hub.pull("hf:org/repo/m.gguf").await.unwrap());
}

#[tokio::test]
async fn progress_has_bytes_and_an_end() {
    let content = model(1);
    let hub = Hub::new(&[("m.gguf", content.clone())]).await;
    let with = provisioner(hub.settings());
    let plan = plan(&with, "hf:org/repo/m.gguf").await.unwrap();
    let ear = Ear::default();
    with.execute(&plan, Arc::new(ear.clone()), &CancellationToken::new())
        .await
        .unwrap();
    let told = ear.told();
    let last = told.iter().rev().find_map(|notice| match notice {
        Notice::Progress(progress) => Some(*progress),
        _ => None,
    });
    let total = content.len() as u64;
    assert!(
        matches!(last, Some(Progress { done, total: Some(all), .. }) if done == total && all == total),
        "{last:?}"
    );
    let steps: Vec<&str> = told
        .iter()
        .filter_map(|notice| match notice {
            Notice::Verified { .. } => Some("verified"),
            Notice::Published { .. } => Some("published"),
            Notice::Registered { .. } => Some("registered"),
            _ => None,
        })
        .collect();
    assert_eq!(steps, ["verified", "published", "registered"]);
}

#[tokio::test]
async fn a_stopped_pull_leaves_nothing_visible_and_goes_on() {
    let hub = Hub::new(&[("m.gguf", model(1))]).await;
    let with = hub.provisioner();
    let plan = plan(&with, "hf:org/repo/m.gguf").await.unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = with.execute(&plan, Arc::new(Unreported), &stop).await;
    assert!(stopped.is_err());
    crate::fixtures::is_empty(&with);
    is_whole(&with, &hub.pull("hf:org/repo/m.gguf").await.unwrap());
}
