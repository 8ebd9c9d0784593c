//! REQ-PROVISION-S3: objects of a store that speaks S3, requests signed.

use model_provisioner::{ProvisionError, Provisioner, S3Settings};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use test_harness_support::object_store::ObjectStore;

use crate::fixtures::{digest, is_empty, is_whole, model, plan, provisioner, pull, settings};

struct Store {
    store: ObjectStore,
    folder: TempDir,
}

impl Store {
    async fn new() -> Self {
        let store = ObjectStore::start().await.unwrap();
        store.put("/models", b"", &[]).await.unwrap();
        Self {
            store,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn provisioner(&self) -> Provisioner {
        let origin = format!("http://{}", self.store.address());
        let mut settings = settings(&self.folder, std::slice::from_ref(&origin));
        settings.s3 = S3Settings {
            endpoint: Some(origin.parse().unwrap()),
            access_key: Some("key".to_owned()),
            secret_key: Some(SecretString::from("s3_secret")),
            ..S3Settings::default()
        };
        provisioner(settings)
    }
}

#[tokio::test]
async fn an_object_is_fetched_in_parts_and_verified() {
    let (store, content) = (Store::new().await, model(1));
    store
        .store
        .put("/models/a/m%20x.gguf", &content, &[])
        .await
        .unwrap();
    store.store.put("/models/a/m.gguf", &content, &[]).await.unwrap();
    let with = store.provisioner();
    let plan = plan(&with, "s3://models/a/m.gguf").await.unwrap();
    assert_eq!(plan.files[0].bytes, Some(content.len() as u64));
    let shown = serde_json::to_string(&plan).unwrap();
    assert!(
        !shown.contains("Signature") && !shown.contains("s3_secret"),
        "{shown}"
    );
    let entry = pull(&with, "s3://models/a/m.gguf").await.unwrap();
    is_whole(&with, &entry);
    assert_eq!(entry.digest, digest(&content));
}

#[tokio::test]
async fn the_digest_that_the_store_keeps_is_the_one_that_counts() {
    use base64::Engine as _;
    let (store, content) = (Store::new().await, model(1));
    let checksum = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&content));
    let headers = [
        ("x-amz-checksum-sha256", checksum.as_str()),
        ("x-amz-sdk-checksum-algorithm", "SHA256"),
    ];
    store
        .store
        .put("/models/m.gguf", &content, &headers)
        .await
        .unwrap();
    let with = store.provisioner();
    let plan = plan(&with, "s3://models/m.gguf").await.unwrap();
    assert_eq!(plan.files[0].sha256, Some(digest(&content)), "{plan}");
    is_whole(&with, &pull(&with, "s3://models/m.gguf").await.unwrap());
}

#[tokio::test]
async fn what_the_store_does_not_have_is_told() {
    let store = Store::new().await;
    let with = store.provisioner();
    for reference in ["s3://models/none.gguf", "s3://elsewhere/m.gguf"] {
        let missing = plan(&with, reference).await.unwrap_err();
        assert!(
            matches!(missing, ProvisionError::NotFound { .. }),
            "{reference}: {missing}"
        );
    }
    is_empty(&with);
}
