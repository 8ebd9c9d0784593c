//! REQ-FETCH-CREDENTIAL: where redirects may lead, and that a credential stays at home.

use downloader::{Ask, Blocked, Credential, FetchError};
use test_harness_support::file_server::{Fault, FileServer, Resource};

use crate::fixtures::{policy, transport};

fn ask(server: &FileServer, path: &str) -> Ask {
    let secret = Credential::Bearer("hf_secret".to_owned().into());
    Ask::new(server.url(path).parse().unwrap()).with_credential(Some(secret))
}

#[tokio::test]
async fn a_credential_stays_at_its_origin() {
    let (hub, cdn) = (
        FileServer::start().await.unwrap(),
        FileServer::start().await.unwrap(),
    );
    hub.serve("/back", Resource::new("x", "1"));
    cdn.serve("/blob", Resource::new("x", "1"));
    hub.always("/here", Fault::Redirect("/there".to_owned()));
    hub.always("/there", Fault::Redirect(cdn.url("/blob?sig=1")));
    let answer = transport(policy(&[&hub, &cdn]))
        .get(&ask(&hub, "/here"))
        .await
        .unwrap();
    assert_eq!((answer.status.as_u16(), answer.url.path()), (200, "/blob"));
    let authorized = |server: &FileServer, path: &str| {
        let seen = server.seen_of(path);
        seen[0].header("authorization").map(str::to_owned)
    };
    assert_eq!(authorized(&hub, "/here").as_deref(), Some("Bearer hf_secret"));
    assert_eq!(
        authorized(&hub, "/there").as_deref(),
        Some("Bearer hf_secret"),
        "the same origin"
    );
    assert_eq!(authorized(&cdn, "/blob"), None);
    assert_eq!(cdn.seen_of("/blob")[0].query.as_deref(), Some("sig=1"));
}

#[tokio::test]
async fn a_redirect_is_checked_like_any_url() {
    let (hub, inner) = (
        FileServer::start().await.unwrap(),
        FileServer::start().await.unwrap(),
    );
    inner.serve("/x", Resource::new("secret", "1"));
    let transport = transport(policy(&[&hub]));
    for (to, port) in [
        (inner.url("/x"), Some(inner.address().port())),
        ("http://169.254.169.254/latest/meta-data".to_owned(), None),
        ("https://127.0.0.1/x".to_owned(), None),
        ("https://[::1]/x".to_owned(), None),
        ("file:///etc/passwd".to_owned(), None),
        ("//10.0.0.1/x".to_owned(), None),
        ("https://user:pass@example.org/".to_owned(), None),
        ("https://example.org:8443/".to_owned(), None),
        ("ftp://example.org/x".to_owned(), None),
    ] {
        hub.mend();
        hub.always("/here", Fault::Redirect(to.clone()));
        let refused = transport.get(&ask(&hub, "/here")).await;
        assert!(matches!(refused, Err(FetchError::Blocked(_))), "{to} ({port:?})");
    }
    assert_eq!(inner.seen(), []);
}

#[tokio::test]
async fn redirects_end() {
    let hub = FileServer::start().await.unwrap();
    hub.always("/here", Fault::Redirect("/here".to_owned()));
    let refused = transport(policy(&[&hub])).get(&ask(&hub, "/here")).await;
    assert!(matches!(
        refused,
        Err(FetchError::Blocked(Blocked::Redirects { most: 5 }))
    ));
    assert_eq!(hub.seen().len(), 6);
}

#[tokio::test]
async fn no_error_shows_a_credential() {
    let hub = FileServer::start().await.unwrap();
    let body = "Authorization: Bearer hf_secret was refused\r\nX: y".to_owned();
    hub.always("/here", Fault::Status(403, Vec::new(), body));
    let answer = transport(policy(&[&hub])).get(&ask(&hub, "/here")).await.unwrap();
    let refusal = answer.refusal().await;
    let shown = format!("{refusal} {refusal:?} {:?}", ask(&hub, "/here"));
    assert!(!shown.contains("hf_secret"), "{shown}");
}
