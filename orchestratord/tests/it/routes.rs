//! Every route of the contract is served, and every one but the two probes needs the token
//! (AUTH-1001): the table only shrinks.

use serde_json::Value;
use test_harness_support::http1::{self, Call};

use crate::fixture::{Fixture, fast};

const PUBLIC: [&str; 2] = ["/healthz", "/readyz"];

fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| item.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    paths
        .iter()
        .flat_map(|(path, item)| methods(item).into_iter().map(|m| (m, path.clone())))
        .collect()
}

#[tokio::test]
async fn without_the_token_only_the_probes_answer() {
    let open = Fixture::one(1, fast()).await;
    let document = open.get("/openapi.json").await;
    let operations = operations(&document);
    assert!(operations.len() >= 15, "{operations:?}");
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "a-token-of-this-test").unwrap();
    std::fs::set_permissions(&token_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let guarded = test_harness_support::daemon::Command::of_workspace("orchestratord")
        .unwrap()
        .env("ORCHD_ADDR", "127.0.0.1:0")
        .env("AUTH_TOKEN_FILE", &token_file)
        .start()
        .await
        .unwrap();
    for (method, path) in operations {
        let target = path
            .replace("{id}", "01900000-0000-7000-8000-0000000000ff")
            .replace("{node_id}", "box");
        let call = Call::new(&method.to_uppercase(), &target);
        let bare = http1::call(guarded.address(), &call).await.unwrap();
        let expected = if PUBLIC.contains(&path.as_str()) { 200 } else { 401 };
        assert_eq!(bare.status, expected, "{method} {path}");
        let known = http1::call(guarded.address(), &call.bearer("a-token-of-this-test"))
            .await
            .unwrap();
        assert_ne!(known.status, 401, "{method} {path}");
        assert_ne!(known.status, 405, "{method} {path} is documented but not served");
    }
    assert!(!guarded.logs().contains("a-token-of-this-test"));
}
