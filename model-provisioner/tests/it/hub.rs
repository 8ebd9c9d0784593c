//! ORCH-3436, REQ-PROVISION-HUB: models of a hub, pinned, verified, registered as active.

use api_types::ModelRef;
use downloader::FetchError;
use model_provisioner::ProvisionError;
use secrecy::SecretString;
use test_harness_support::file_server::{Fault, FileServer, Resource};

use crate::fixtures::{COMMIT, Hub, LIST, NOW, digest, is_empty, is_whole, model, provisioner, pull};

#[tokio::test]
async fn one_file_is_fetched_verified_and_active() {
    let content = model(1);
    let hub = Hub::new(&[("q/m.gguf", content.clone()), ("README.md", b"text".to_vec())]).await;
    let plan = hub.plan("hf:org/repo/q/m.gguf").await.unwrap();
    assert_eq!(plan.resolved, format!("hf:org/repo@{COMMIT}/q/m.gguf"));
    assert_eq!((plan.files.len(), plan.download_bytes), (1, content.len() as u64));
    assert!(plan.to_string().contains("to download"), "{plan}");
    assert!(!hub.folder.path().join("cache").exists(), "a plan writes nothing");

    let entry = hub.pull("hf:org/repo/q/m.gguf").await.unwrap();
    is_whole(&hub.provisioner(), &entry);
    assert_eq!((entry.id.as_str(), entry.digest), ("m", digest(&content)));
    assert_eq!((entry.created_unix_ms, entry.verified_unix_ms), (NOW, Some(NOW)));
    assert_eq!(entry.facts.unwrap().architecture.as_deref(), Some("llama"));
    let asked = "hf:org/repo/q/m.gguf".parse().unwrap();
    assert!(hub.provisioner().catalog().exists(&asked).unwrap());
}

#[tokio::test]
async fn a_repository_is_fetched_without_its_code() {
    let tensor = r#"{"a":{"dtype":"BF16","shape":[1024],"data_offsets":[0,2048]}}"#;
    let weights = [
        &(tensor.len() as u64).to_le_bytes(),
        tensor.as_bytes(),
        &[7; 2048],
    ]
    .concat();
    let hub = Hub::new(&[
        (
            "config.json",
            br#"{"model_type":"llama","num_hidden_layers":2}"#.to_vec(),
        ),
        ("model.safetensors", weights),
        ("modeling_x.py", b"import os".to_vec()),
        ("pytorch_model.bin", vec![0x80; 2_000]),
    ])
    .await;
    let entry = hub.pull("hf:org/repo").await.unwrap();
    is_whole(&hub.provisioner(), &entry);
    let names: Vec<&str> = entry.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["model.safetensors", "config.json"]);
    assert_eq!(entry.facts.unwrap().layers, Some(2));
    assert!(hub.server.seen_of(&Hub::path("pytorch_model.bin")).is_empty());
}

#[tokio::test]
async fn parts_come_together() {
    // Two files that are whole models each stand for two parts.
    let hub = Hub::new(&[
        ("m-00001-of-00002.gguf", model(1)),
        ("m-00002-of-00002.gguf", model(2)),
    ])
    .await;
    let entry = hub.pull("hf:org/repo/m-00001-of-00002.gguf").await.unwrap();
    is_whole(&hub.provisioner(), &entry);
    assert_eq!((entry.id.as_str(), entry.files.len()), ("m", 2));
    assert_eq!(entry.files[0].name.as_str(), "m-00001-of-00002.gguf");
    assert_eq!(hub.pull("hf:org/repo").await.unwrap().digest, entry.digest);
}

#[tokio::test]
async fn every_refusal_has_its_cause() {
    let word = |status: u16, code: &str| {
        let header = vec![("X-Error-Code".to_owned(), code.to_owned())];
        Fault::Status(status, header, String::new())
    };
    let busy = Fault::Status(
        429,
        vec![("RateLimit".to_owned(), "\"api\";r=0;t=3000".to_owned())],
        String::new(),
    );
    type Is = fn(&ProvisionError) -> bool;
    let cases: [(Fault, Is); 8] = [
        (word(401, "GatedRepo"), |error| {
            matches!(error, ProvisionError::Gated { .. })
        }),
        (word(403, "GatedRepo"), |error| {
            matches!(error, ProvisionError::Gated { .. })
        }),
        (word(401, "RepoNotFound"), |error| {
            matches!(error, ProvisionError::NotFound { .. })
        }),
        (word(404, "RevisionNotFound"), |error| {
            matches!(error, ProvisionError::NotFound { .. })
        }),
        (word(401, ""), |error| {
            matches!(error, ProvisionError::Unauthorized { .. })
        }),
        (word(403, ""), |error| {
            matches!(error, ProvisionError::Forbidden { .. })
        }),
        (busy, |error| {
            matches!(
                error,
                ProvisionError::RateLimited {
                    retry_after: Some(_),
                    ..
                }
            )
        }),
        (word(500, ""), |error| {
            matches!(error, ProvisionError::Fetch(FetchError::Status { .. }))
        }),
    ];
    for (fault, is_it) in cases {
        // While planning …
        let hub = Hub::new(&[("m.gguf", model(1))]).await;
        hub.server.always(LIST, fault.clone());
        let error = hub.pull("hf:org/repo/m.gguf").await.unwrap_err();
        assert!(is_it(&error), "{fault:?}: {error}");
        // … and while downloading.
        hub.server.mend();
        hub.server.always(&Hub::path("m.gguf"), fault.clone());
        let error = hub.pull("hf:org/repo/m.gguf").await.unwrap_err();
        assert!(is_it(&error), "{fault:?}: {error}");
        is_empty(&hub.provisioner());
        hub.server.mend();
        let entry = hub.pull("hf:org/repo/m.gguf").await.unwrap();
        is_whole(&hub.provisioner(), &entry);
    }
    let hub = Hub::new(&[("m.gguf", model(1))]).await;
    let missing = hub.plan("hf:org/repo/other.gguf").await.unwrap_err();
    assert!(
        missing.to_string().contains("other.gguf in org/repo"),
        "{missing}"
    );
}

/// REQ-FETCH-CREDENTIAL.
#[tokio::test]
async fn the_token_goes_to_the_hub_and_not_to_where_it_leads() {
    let content = model(1);
    let hub = Hub::new(&[("m.gguf", content.clone())]).await;
    let cdn = FileServer::start().await.unwrap();
    cdn.serve("/blob", Resource::new(content, "blob"));
    hub.server
        .always(&Hub::path("m.gguf"), Fault::Redirect(cdn.url("/blob")));
    hub.server.lock(LIST, "Bearer hf_secret");
    let mut settings = hub.settings();
    settings.policy.private_origins.push(cdn.url("").parse().unwrap());
    settings.hub.token = Some(SecretString::from("hf_secret"));
    let with = provisioner(settings);
    let entry = pull(&with, "hf:org/repo/m.gguf").await.unwrap();
    is_whole(&with, &entry);
    assert!(
        cdn.seen()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    let at_hub = hub.server.seen_of(&Hub::path("m.gguf"));
    assert!(
        at_hub
            .iter()
            .all(|request| request.header("authorization") == Some("Bearer hf_secret"))
    );
    let kept = std::fs::read_to_string(with.catalog().root().join("models.json")).unwrap();
    assert!(!kept.contains("hf_secret"));
}

#[tokio::test]
async fn wrong_bytes_are_never_active() {
    let faults = [
        Fault::Flip(2_000),
        Fault::LengthOff(-500),
        Fault::TotalOff(-1),
        Fault::Redirect("http://127.0.0.1:9/elsewhere".to_owned()),
        Fault::CutAfter(0),
    ];
    for fault in faults {
        let hub = Hub::new(&[("m.gguf", model(1))]).await;
        hub.server.always(&Hub::path("m.gguf"), fault.clone());
        let error = hub.pull("hf:org/repo/m.gguf").await;
        assert!(error.is_err(), "{fault:?}");
        is_empty(&hub.provisioner());
        hub.server.mend();
        let entry = hub.pull("hf:org/repo/m.gguf").await.unwrap();
        is_whole(&hub.provisioner(), &entry);
    }
}

/// REQ-MODEL-HOSTILE: bytes that have the right digest and are no model are not registered either.
#[tokio::test]
async fn what_is_no_model_is_not_registered() {
    let mut content = model(1);
    content.truncate(content.len() / 2);
    let hub = Hub::new(&[("m.gguf", content)]).await;
    let error = hub.pull("hf:org/repo/m.gguf").await.unwrap_err();
    assert!(matches!(error, ProvisionError::Model { .. }), "{error}");
    is_empty(&hub.provisioner());
}

#[tokio::test]
async fn a_list_that_leads_elsewhere_is_refused() {
    for name in ["../m.gguf", "/etc/m.gguf", "a/../../m.gguf", "a//m.gguf"] {
        let hub = Hub::new(&[("m.gguf", model(1))]).await;
        let list = serde_json::json!({"sha": COMMIT, "siblings": [{"rfilename": name, "size": 3}]});
        hub.server.serve(LIST, Resource::json(&list));
        let error = hub.pull("hf:org/repo").await.unwrap_err();
        assert!(
            matches!(error, ProvisionError::Malformed { .. }),
            "{name}: {error}"
        );
    }
    let hub = Hub::new(&[("m.gguf", model(1))]).await;
    for sha in ["main", "../../x", ""] {
        let list = serde_json::json!({"sha": sha, "siblings": []});
        hub.server.serve(LIST, Resource::json(&list));
        assert!(hub.pull("hf:org/repo").await.is_err(), "{sha:?} is no commit");
    }
}

#[tokio::test]
async fn a_disk_without_room_is_told_before_anything_is_fetched() {
    let hub = Hub::new(&[("m.gguf", model(1))]).await;
    let huge = serde_json::json!({"sha": COMMIT, "siblings": [{"rfilename": "m.gguf", "size": 1_u64 << 60}]});
    hub.server.serve(LIST, Resource::json(&huge));
    let error = hub.pull("hf:org/repo").await.unwrap_err();
    assert!(
        matches!(error, ProvisionError::NoSpace { needs, spare, free, .. } if needs == 1 << 60 && spare > 0 && free < needs),
        "{error}"
    );
    assert!(hub.server.seen_of(&Hub::path("m.gguf")).is_empty());
}

#[tokio::test]
async fn another_model_under_a_taken_name_is_refused() {
    let hub = Hub::new(&[("m.gguf", model(1)), ("q/m.gguf", model(2))]).await;
    hub.pull("hf:org/repo/m.gguf").await.unwrap();
    let error = hub.pull("hf:org/repo/q/m.gguf").await.unwrap_err();
    assert!(
        matches!(
            error,
            ProvisionError::Catalog(catalog_core::CatalogError::Taken { .. })
        ),
        "{error}"
    );
    // A retired one comes back by being asked for again.
    let id = "m".parse().unwrap();
    let with = hub.provisioner();
    with.catalog()
        .set_model_state(&id, api_types::Lifecycle::Retired, 5)
        .unwrap();
    let entry = hub.pull("hf:org/repo/m.gguf").await.unwrap();
    is_whole(&with, &entry);
    assert!(with.catalog().exists(&ModelRef::from(&id)).unwrap());
}
