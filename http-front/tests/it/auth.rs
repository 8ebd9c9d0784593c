//! AUTH-1001…1008 over HTTP.

use http_front::Front;

use crate::routes::WORKER_ROUTE;
use crate::server::{Options, Server, TOKEN, error};

fn bearer(token: &str) -> String {
    format!("\r\nAuthorization: Bearer {token}")
}

#[tokio::test]
async fn a_configured_token_is_needed_everywhere_but_on_the_public_routes() {
    let server = Server::start(Options::with_token());
    assert_eq!(server.get("/healthz", "").await.status, 200);
    for path in [
        "/v1/me",
        "/v1/items/1",
        "/v1/no-such-route",
        "/healthz/x",
        "/HEALTHZ",
    ] {
        let answer = server.get(path, "").await;
        assert_eq!(answer.error(), error(401, "MISSING_TOKEN"), "{path}");
        assert_eq!(answer.json()["numeric_code"], 40_101);
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"llama-orch\"")
        );
    }
    let wrong = server.get("/v1/me", &bearer("correct-horse-batterY")).await;
    assert_eq!(wrong.error(), error(401, "BAD_TOKEN"));
    assert_eq!(wrong.json()["numeric_code"], 40_102);
    assert!(
        wrong
            .header("www-authenticate")
            .unwrap()
            .contains("invalid_token")
    );
    assert!(!wrong.body.contains("horse"), "{wrong:?}");

    let good = server.get("/v1/me", &bearer(TOKEN)).await;
    assert_eq!(good.status, 200);
    let identity = good.json()["identity"].as_str().unwrap().to_owned();
    assert!(
        identity.starts_with("token:") && identity.len() == 12,
        "{identity}"
    );
    assert_eq!(
        server.get("/v1/no-such-route", &bearer(TOKEN)).await.error(),
        error(404, "NOT_FOUND")
    );
}

#[tokio::test]
async fn malformed_credentials_are_told_apart() {
    let server = Server::start(Options::with_token());
    for (headers, text) in [
        ("\r\nAuthorization: Basic abc".to_owned(), "not Bearer"),
        ("\r\nAuthorization: Bearer".to_owned(), "no token after Bearer"),
        (bearer(TOKEN) + &bearer(TOKEN), "more than one Authorization"),
    ] {
        let answer = server.get("/v1/me", &headers).await;
        assert_eq!(answer.error(), error(401, "BAD_TOKEN"));
        assert!(answer.message().contains(text), "{answer:?}");
    }
}

#[tokio::test]
async fn auth_optional_lets_local_programs_in_but_not_pages_proxies_or_workers() {
    let mut options = Options::with_token();
    options.auth.optional = true;
    let server = Server::start(options);
    assert_eq!(server.get("/v1/me", "").await.json()["identity"], "localhost");
    let own_page = format!("\r\nOrigin: http://{}", server.addr);
    assert_eq!(
        server.get("/v1/me", &own_page).await.error(),
        error(401, "MISSING_TOKEN")
    );
    for forwarded in [
        "X-Forwarded-For: 10.0.0.1",
        "Forwarded: for=10.0.0.1",
        "X-Forwarded-Proto: https",
    ] {
        let answer = server.get("/v1/me", &format!("\r\n{forwarded}")).await;
        assert_eq!(answer.error(), error(401, "MISSING_TOKEN"), "{forwarded}");
    }
    assert_eq!(
        server.get("/v1/me", &bearer("wrong")).await.error(),
        error(401, "BAD_TOKEN")
    );
    assert_eq!(
        server.post(WORKER_ROUTE, "").await.error(),
        error(401, "MISSING_TOKEN")
    );
}

#[tokio::test]
async fn without_a_token_loopback_works_out_of_the_box() {
    let server = Server::start(Options::default());
    assert_eq!(server.get("/v1/me", "").await.json()["identity"], "localhost");
    assert_eq!(server.post(WORKER_ROUTE, "").await.status, 200);
    let proxied = server.get("/v1/me", "\r\nX-Forwarded-For: 10.0.0.1").await;
    assert_eq!(proxied.error(), error(401, "MISSING_TOKEN"));
}

#[tokio::test]
async fn a_proxy_is_believed_only_where_it_is_configured() {
    let through = format!("{}\r\nX-Forwarded-For: 10.0.0.1", bearer(TOKEN));
    let untrusting = Server::start(Options::with_token());
    let answer = untrusting.get("/v1/me", &through).await;
    assert_eq!(answer.error(), error(401, "BAD_TOKEN"));
    assert!(
        answer.json()["hint"]
            .as_str()
            .unwrap()
            .contains("TRUST_PROXY_AUTH"),
        "{answer:?}"
    );

    let mut options = Options::with_token();
    options.auth.trust_proxy = true;
    options.auth.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let trusting = Server::start(options);
    assert_eq!(trusting.get("/v1/me", &through).await.status, 200);
}

#[test]
fn a_bind_beyond_loopback_without_a_token_is_refused() {
    let options = Options::default();
    let addr = "0.0.0.0:8080".parse().unwrap();
    let refusal = Front::new("test", &options.auth, &options.http, addr).unwrap_err();
    assert!(refusal.to_string().contains("40301"), "{refusal}");
    let options = Options::with_token();
    assert!(Front::new("test", &options.auth, &options.http, addr).is_ok());
}
