//! REQ-PROVISION-OCI: artifacts of a real registry, and registries that are up to something.

use downloader::FetchError;
use model_provisioner::{ProvisionError, Provisioner, RegistryLogin};
use secrecy::SecretString;
use tempfile::TempDir;
use test_harness_support::containers::Registry;
use test_harness_support::file_server::{Fault, FileServer, Resource};

use crate::fixtures::{digest, is_empty, is_whole, model, plan, provisioner, pull, settings};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn manifest(media_type: &str, layers: &[(&str, &str, usize, Option<&str>)], config: &str) -> String {
    let layers: Vec<serde_json::Value> = layers
        .iter()
        .map(|(media_type, digest, size, title)| {
            let mut layer = serde_json::json!({"mediaType": media_type, "digest": digest, "size": size});
            if let Some(title) = title {
                layer["annotations"] = serde_json::json!({"org.opencontainers.image.title": title});
            }
            layer
        })
        .collect();
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": layers,
    })
    .to_string()
}

fn reaching(folder: &TempDir, origins: &[String]) -> Provisioner {
    provisioner(settings(folder, origins))
}

#[tokio::test]
async fn artifacts_of_a_real_registry() {
    let registry = Registry::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let origin = format!("http://{}", registry.address());
    let with = reaching(&folder, &[origin]);
    for (tag, media_type, layer, title) in [
        ("ollama", DOCKER, "application/vnd.ollama.image.model", None),
        ("oras", MANIFEST, "application/octet-stream", Some("m.gguf")),
        ("runner", MANIFEST, "application/vnd.docker.ai.gguf.v3", None),
    ] {
        let content = model(tag.len() as u64);
        let config = registry.push_blob("library/tiny", b"{}").await.unwrap();
        let blob = registry.push_blob("library/tiny", &content).await.unwrap();
        let text = manifest(media_type, &[(layer, &blob, content.len(), title)], &config);
        let pinned = registry
            .push_manifest("library/tiny", tag, media_type, &text)
            .await
            .unwrap();
        let reference = format!("oci://{}/library/tiny:{tag}", registry.address());
        let entry = pull(&with, &reference).await.unwrap();
        is_whole(&with, &entry);
        assert_eq!(
            (entry.id.as_str(), entry.digest),
            (format!("tiny-{tag}").as_str(), digest(&content))
        );
        assert_eq!(
            entry.resolved,
            format!("oci://{}/library/tiny@{pinned}", registry.address())
        );
        // By its digest, whatever the tag is by then.
        let by_digest = format!("oci://{}/library/tiny@{pinned}", registry.address());
        assert_eq!(plan(&with, &by_digest).await.unwrap().resolved, entry.resolved);
    }
    let missing = plan(&with, &format!("oci://{}/library/none:1", registry.address()))
        .await
        .unwrap_err();
    assert!(matches!(missing, ProvisionError::NotFound { .. }), "{missing}");
}

#[tokio::test]
async fn a_blob_that_is_not_what_it_is_called_is_never_active() {
    let registry = Registry::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let with = reaching(&folder, &[format!("http://{}", registry.address())]);
    let content = model(1);
    let config = registry.push_blob("tiny", b"{}").await.unwrap();
    let blob = registry.push_blob("tiny", &content).await.unwrap();
    let layer = (
        "application/vnd.ollama.image.model",
        blob.as_str(),
        content.len(),
        None,
    );
    let text = manifest(MANIFEST, &[layer], &config);
    registry
        .push_manifest("tiny", "1", MANIFEST, &text)
        .await
        .unwrap();
    let mut wrong = content;
    wrong[5_000] ^= 1;
    std::fs::write(registry.blob(&blob), wrong).unwrap();
    let error = pull(&with, &format!("oci://{}/tiny:1", registry.address()))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ProvisionError::Fetch(
                FetchError::Digest { .. } | FetchError::Status { .. } | FetchError::Http(_)
            )
        ),
        "{error}"
    );
    is_empty(&with);
}

/// A registry that wants a token: scripted, because the real one has no token service beside it.
struct Guarded {
    registry: FileServer,
    folder: TempDir,
    content: Vec<u8>,
}

impl Guarded {
    async fn new(realm: Option<&str>) -> Self {
        let guarded = Self {
            registry: FileServer::start().await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
            content: model(1),
        };
        let own = guarded.registry.url("/token");
        let challenge = format!("Bearer realm=\"{}\",service=\"s\"", realm.unwrap_or(&own));
        let refuse = || {
            let header = vec![("WWW-Authenticate".to_owned(), challenge.clone())];
            Fault::Status(401, header, String::new())
        };
        let blob = digest(&guarded.content).to_string();
        let layer = (
            "application/vnd.ollama.image.model",
            blob.as_str(),
            guarded.content.len(),
            None,
        );
        let text = manifest(MANIFEST, &[layer], &blob);
        let (manifest, blob) = (
            "/v2/tiny/manifests/1".to_owned(),
            format!("/v2/tiny/blobs/{blob}"),
        );
        guarded.registry.serve(&manifest, Resource::new(text, "m"));
        guarded
            .registry
            .serve(&blob, Resource::new(guarded.content.clone(), "b"));
        guarded
            .registry
            .serve("/token", Resource::json(&serde_json::json!({"token": "t0ken"})));
        guarded.registry.next(&manifest, [refuse()]);
        guarded.registry.next(&blob, [refuse(), refuse()]);
        guarded
    }

    fn provisioner(&self, more: &[String]) -> Provisioner {
        let mut settings = settings(&self.folder, &[&[self.registry.url("")], more].concat());
        settings.registries.push(RegistryLogin {
            registry: self.registry.address().to_string(),
            user: "me".to_owned(),
            password: SecretString::from("pa55"),
        });
        provisioner(settings)
    }

    fn reference(&self) -> String {
        format!("oci://{}/tiny:1", self.registry.address())
    }
}

/// REQ-FETCH-CREDENTIAL.
#[tokio::test]
async fn a_token_is_fetched_where_the_registry_says_and_used_there() {
    let guarded = Guarded::new(None).await;
    let with = guarded.provisioner(&[]);
    let entry = pull(&with, &guarded.reference()).await.unwrap();
    is_whole(&with, &entry);
    let tokens = guarded.registry.seen_of("/token");
    assert!(
        tokens
            .iter()
            .all(|request| request.header("authorization") == Some("Basic bWU6cGE1NQ=="))
    );
    let query = tokens[0].query.clone().unwrap_or_default();
    assert!(
        query.contains("service=s") && query.contains("scope=repository%3Atiny%3Apull"),
        "{query}"
    );
    let bearer = guarded
        .registry
        .seen()
        .iter()
        .filter(|request| request.header("authorization") == Some("Bearer t0ken"))
        .count();
    assert!(bearer > 1);
}

#[tokio::test]
async fn a_stranger_is_not_told_who_is_asking() {
    let stranger = FileServer::start().await.unwrap();
    stranger.serve("/token", Resource::json(&serde_json::json!({"token": "t0ken"})));
    // Another host by another spelling of the same machine, which the guard lets pass and the registry does not own.
    let elsewhere = format!("http://localhost:{}", stranger.address().port());
    let guarded = Guarded::new(Some(&format!("{elsewhere}/token"))).await;
    let with = guarded.provisioner(std::slice::from_ref(&elsewhere));
    let refused = pull(&with, &guarded.reference()).await.unwrap_err();
    assert!(refused.to_string().contains("does not belong to it"), "{refused}");
    assert_eq!(stranger.seen(), []);
    is_empty(&with);
}

#[tokio::test]
async fn a_manifest_that_is_not_the_one_asked_for_is_refused() {
    let guarded = Guarded::new(None).await;
    let with = guarded.provisioner(&[]);
    let wrong = digest(b"another manifest");
    let path = format!("/v2/tiny/manifests/{wrong}");
    guarded
        .registry
        .serve(&path, Resource::new("{\"layers\":[]}", "x"));
    let refused = plan(
        &with,
        &format!("oci://{}/tiny@{wrong}", guarded.registry.address()),
    )
    .await
    .unwrap_err();
    assert!(
        matches!(refused, ProvisionError::Fetch(FetchError::Digest { .. })),
        "{refused}"
    );
}
