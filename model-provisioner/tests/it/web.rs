//! REQ-PROVISION-WEB: a file at an address, with and without a digest.

use downloader::{Downloads, FetchError};
use model_provisioner::ProvisionError;
use test_harness_support::file_server::{Fault, FileServer, Resource};

use crate::fixtures::{carry_out, digest, is_empty, is_whole, model, provisioner, settings};

/// References are `https`, and scripted servers are not: they stand for the origin that the guard lets pass.
struct Web {
    server: FileServer,
    folder: tempfile::TempDir,
    content: Vec<u8>,
}

impl Web {
    async fn new() -> Self {
        let web = Self {
            server: FileServer::start().await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
            content: model(1),
        };
        web.server
            .serve("/a/m%20x.gguf", Resource::new(web.content.clone(), "one"));
        web
    }
}

#[tokio::test]
async fn what_is_private_or_not_named_is_not_asked() {
    let web = Web::new().await;
    let port = web.server.address().port();
    for (downloads, reference) in [
        (Downloads::On, format!("https://127.0.0.1:{port}/m.gguf")),
        (Downloads::On, "https://169.254.169.254/m.gguf".to_owned()),
        (Downloads::Allowlist, "https://example.org/m.gguf".to_owned()),
        (Downloads::Off, "https://example.org/m.gguf".to_owned()),
        (Downloads::Off, "hf:org/repo/m.gguf".to_owned()),
        (Downloads::Allowlist, "oci://example.org/m:1".to_owned()),
        (Downloads::Allowlist, "s3://bucket/m.gguf".to_owned()),
    ] {
        let mut settings = settings(&web.folder, &[]);
        settings.policy.downloads = downloads;
        let with = provisioner(settings);
        let refused = crate::fixtures::plan(&with, &reference).await.unwrap_err();
        assert!(
            matches!(refused, ProvisionError::Fetch(FetchError::Blocked(_))),
            "{reference}: {refused}"
        );
        is_empty(&with);
    }
    assert_eq!(web.server.seen(), []);
}

/// The plan of a web source is the same whatever the scheme, so a plan for the scripted server shows the rest.
#[tokio::test]
async fn a_planned_address_is_fetched_by_its_validator_or_digest() {
    for pinned in [true, false] {
        let web = Web::new().await;
        let with = provisioner(settings(&web.folder, &[web.server.url("")]));
        let wanted = pinned.then(|| digest(&web.content));
        let mut plan = planned(&web, wanted);
        let entry = carry_out(&with, &plan).await.unwrap();
        is_whole(&with, &entry);
        assert_eq!(entry.digest, digest(&web.content));
        // Another digest than was pinned.
        plan.id = "other".parse().unwrap();
        plan.files[0].sha256 = Some(digest(b"something else"));
        let refused = carry_out(&with, &plan).await.unwrap_err();
        assert!(
            matches!(refused, ProvisionError::Fetch(FetchError::Digest { .. })),
            "{refused}"
        );
        assert_eq!(with.catalog().model(&plan.id).unwrap(), None);
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_any_more_is_told() {
    let web = Web::new().await;
    let with = provisioner(settings(&web.folder, &[web.server.url("")]));
    let plan = planned(&web, None);
    web.server
        .always("/a/m%20x.gguf", Fault::Status(404, Vec::new(), String::new()));
    let gone = carry_out(&with, &plan).await.unwrap_err();
    assert!(matches!(gone, ProvisionError::NotFound { .. }), "{gone}");
    is_empty(&with);
}

fn planned(web: &Web, sha256: Option<api_types::Sha256Digest>) -> model_provisioner::Plan {
    model_provisioner::Plan {
        id: "m".parse().unwrap(),
        source: "https://example.org/a/m%20x.gguf".parse().unwrap(),
        resolved: "https://example.org/a/m%20x.gguf at \"one\"".to_owned(),
        files: vec![model_provisioner::PlannedFile {
            name: "m x.gguf".parse().unwrap(),
            bytes: Some(web.content.len() as u64),
            sha256,
            etag: Some("\"one\"".to_owned()),
            place: model_provisioner::Place::Web(web.server.url("/a/m%20x.gguf").parse().unwrap()),
            cached: false,
        }],
        download_bytes: web.content.len() as u64,
        free_bytes: u64::MAX,
        present: false,
    }
}
