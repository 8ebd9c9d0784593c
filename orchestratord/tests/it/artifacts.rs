//! REQ-ARTIFACT-ID, REQ-ARTIFACT-REPEAT, REQ-ARTIFACT-API, REQ-ARTIFACT-OFF, REQ-ARTIFACT-SECRET: what clients store, over
//! HTTP.

use serde_json::{Value, json};
use test_harness_support::http1::{Answer, Call};
use test_harness_support::wait::{Look, wait_for};

use crate::fixture::{Fixture, LIMIT, fast, task};

/// `printf abc | sha256sum`.
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

async fn idle(config: &str) -> Fixture {
    Fixture::start(&[], config, &[]).await
}

async fn put(fixture: &Fixture, body: &Value) -> (u16, Value) {
    let answer = fixture.call(Call::post_json("/v1/artifacts", body)).await;
    (answer.status, answer.json().unwrap())
}

async fn stored(fixture: &Fixture, body: &Value) -> Value {
    let (status, info) = put(fixture, body).await;
    assert_eq!(status, 201, "{info}");
    info
}

fn note(text: &str, tags: &[&str]) -> Value {
    json!({"kind": "summary", "content": text, "tags": tags})
}

fn ids(list: &Value) -> Vec<String> {
    let artifacts = list["artifacts"].as_array().unwrap();
    artifacts
        .iter()
        .map(|artifact| artifact["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_is_stored_can_be_read_by_its_digest_also_after_a_crash() {
    let mut fixture = idle("").await;
    let info = stored(&fixture, &note("abc", &["b", "a", "a"])).await;
    assert_eq!(
        (&info["id"], &info["bytes"], &info["kind"]),
        (&json!(ABC), &json!(3), &json!("summary"))
    );
    assert_eq!(
        (&info["tags"], &info["media_type"]),
        (&json!(["a", "b"]), &json!("text/plain; charset=utf-8"))
    );
    let logs = fixture.wait_logged("Stores an artifact.").await;
    assert!(logs.contains(ABC), "{logs}");
    for crashed in [false, true] {
        if crashed {
            fixture.crash().await;
        }
        let shown = fixture.get(&format!("/v1/artifacts/{ABC}")).await;
        assert_eq!(
            (&shown["content"], &shown["encoding"]),
            (&json!("abc"), &json!("utf8"))
        );
        assert_eq!(shown["created_unix_ms"], info["created_unix_ms"]);
        assert_eq!(ids(&fixture.get("/v1/artifacts?tag=a").await), [ABC]);
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_travel_as_base64() {
    let fixture = idle("").await;
    let body = json!({"kind": "other", "content": "/wAB", "encoding": "base64"});
    let info = stored(&fixture, &body).await;
    assert_eq!(
        (&info["bytes"], &info["media_type"]),
        (&json!(3), &json!("application/octet-stream"))
    );
    let shown = fixture
        .get(&format!("/v1/artifacts/{}", info["id"].as_str().unwrap()))
        .await;
    assert_eq!(
        (&shown["content"], &shown["encoding"]),
        (&json!("/wAB"), &json!("base64"))
    );
    // The same bytes are the same artifact, however they came.
    let text = json!({"kind": "other", "content": "YWJj", "encoding": "base64", "media_type": "text/plain"});
    assert_eq!(stored(&fixture, &text).await["id"], ABC);
}

#[tokio::test]
async fn the_same_content_is_the_same_artifact() {
    let fixture = idle("").await;
    let first = stored(&fixture, &note("abc", &["a"])).await;
    let (status, again) = put(&fixture, &note("abc", &["b"])).await;
    assert_eq!(
        (status, &again["id"], &again["tags"]),
        (200, &first["id"], &json!(["a", "b"]))
    );
    let (status, other) = put(&fixture, &json!({"kind": "diff", "content": "abc"})).await;
    assert_eq!((status, &other["code"]), (409, &json!("CONFLICT")));
    assert!(
        other["message"].as_str().unwrap().starts_with("kind: "),
        "{other}"
    );
    let media = json!({"kind": "summary", "content": "abc", "media_type": "text/markdown"});
    let (status, other) = put(&fixture, &media).await;
    assert_eq!(status, 409);
    assert!(
        other["message"].as_str().unwrap().starts_with("media_type: "),
        "{other}"
    );
    assert_eq!(ids(&fixture.get("/v1/artifacts").await).len(), 1);
}

#[tokio::test]
async fn each_bound_is_named_with_its_limit() {
    let fixture = idle("[orchestratord.artifacts]\nmax_bytes = 1024\n").await;
    let tags: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    let cases = [
        (json!({"content": "x"}), 400, "kind"),
        (json!({"kind": "song", "content": "x"}), 400, "kind"),
        (
            json!({"kind": "plan", "content": ""}),
            400,
            "content: must not be empty",
        ),
        (json!({"kind": "plan", "content": "x", "name": "y"}), 400, "name"),
        (
            json!({"kind": "plan", "content": "x", "tags": ["a b"]}),
            400,
            "tags[0]",
        ),
        (
            json!({"kind": "plan", "content": "x", "tags": tags}),
            400,
            "tags: has 33 tags, at most 32",
        ),
        (
            json!({"kind": "plan", "content": "x", "media_type": "text"}),
            400,
            "media_type: ",
        ),
        (
            json!({"kind": "plan", "content": "?", "encoding": "base64"}),
            400,
            "content: is not base64",
        ),
        (
            json!({"kind": "plan", "content": "", "encoding": "base64"}),
            400,
            "content: must not be empty",
        ),
        (
            json!({"kind": "plan", "content": "x".repeat(1025)}),
            413,
            "content: has 1025 bytes, at most 1024",
        ),
        (
            json!({"kind": "plan", "content": "x".repeat(70_000)}),
            413,
            "larger than 67584 bytes",
        ),
    ];
    for (body, status, words) in cases {
        let (answered, told) = put(&fixture, &body).await;
        assert_eq!(answered, status, "{told}");
        assert!(
            told["message"].as_str().unwrap().contains(words),
            "{words}: {told}"
        );
    }
    let code = |answer: &Answer| answer.json::<Value>().unwrap()["code"].clone();
    for path in [
        "/v1/artifacts?limit=0",
        "/v1/artifacts?limit=1001",
        "/v1/artifacts?cursor=x",
        "/v1/artifacts?cursor=-1",
        "/v1/artifacts?tag=a%2Fb",
        "/v1/artifacts?kind=song",
        "/v1/artifacts?page=1",
        "/v1/artifacts/abc",
        "/v1/artifacts/..%2f..%2fjournal",
        "/v1/artifacts/sha256:..%2f..%2f..%2f..%2fetc%2fpasswd",
    ] {
        let answer = fixture.call(Call::get(path)).await;
        assert_eq!(
            (answer.status, code(&answer)),
            (400, json!("INVALID_PARAMS")),
            "{path}"
        );
    }
    let unknown = fixture.call(Call::get(&format!("/v1/artifacts/{ABC}"))).await;
    assert_eq!((unknown.status, code(&unknown)), (404, json!("NOT_FOUND")));
    assert_eq!(ids(&fixture.get("/v1/artifacts").await), [""; 0]);
}

#[tokio::test]
async fn pages_go_on_where_the_one_before_ended() {
    let fixture = idle("").await;
    let mut newest_first = Vec::new();
    for n in 0..7 {
        let tag = if n % 2 == 0 { "even" } else { "odd" };
        let info = stored(&fixture, &note(&format!("note {n}"), &[tag])).await;
        newest_first.insert(0, info["id"].as_str().unwrap().to_owned());
    }
    let first = fixture.get("/v1/artifacts?limit=3").await;
    stored(&fixture, &note("meanwhile", &[])).await;
    let mut seen = ids(&first);
    let mut cursor = first["next_cursor"].clone();
    while let Some(next) = cursor.as_str() {
        let page = fixture.get(&format!("/v1/artifacts?limit=3&cursor={next}")).await;
        seen.extend(ids(&page));
        cursor = page["next_cursor"].clone();
    }
    assert_eq!(seen, newest_first);
    let even: Vec<_> = newest_first.iter().step_by(2).cloned().collect();
    let page = fixture.get("/v1/artifacts?tag=even&kind=summary&limit=4").await;
    assert_eq!((ids(&page), page.get("next_cursor")), (even, None));
    assert_eq!(ids(&fixture.get("/v1/artifacts?kind=plan").await), [""; 0]);
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let fixture = idle("").await;
    stored(&fixture, &note("abc", &["a"])).await;
    for path in [format!("/v1/artifacts/{ABC}"), "/v1/artifacts?tag=a".to_owned()] {
        let answer = fixture.call(Call::get(&path)).await;
        let tag = answer.header("etag").unwrap().to_owned();
        let ask = |tag: &str| Call::get(&path).header("If-None-Match", tag);
        let known = fixture.call(ask(&tag)).await;
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
        assert_eq!(known.header("etag"), Some(tag.as_str()));
        assert_eq!(fixture.call(ask("\"other\"")).await.status, 200);
        put(&fixture, &note("abc", &["a", &tag[1..5]])).await;
        assert_eq!(fixture.call(ask(&tag)).await.status, 200, "{path} has changed");
    }
}

/// REQ-ARTIFACT-VERIFIED.
#[tokio::test]
async fn a_damaged_artifact_is_not_served() {
    let fixture = idle("").await;
    stored(&fixture, &note("abc", &[])).await;
    let hex = &ABC[7..];
    let blob = fixture
        .state()
        .join("artifacts/blobs/sha256")
        .join(&hex[..2])
        .join(hex);
    std::fs::write(blob, "abd").unwrap();
    let answer = fixture.call(Call::get(&format!("/v1/artifacts/{ABC}"))).await;
    let told: Value = answer.json().unwrap();
    assert_eq!(
        (answer.status, &told["reason"]),
        (500, &json!("artifact_damaged")),
        "{told}"
    );
    assert_eq!(put(&fixture, &note("abc", &[])).await.0, 200);
    assert_eq!(
        fixture.get(&format!("/v1/artifacts/{ABC}")).await["content"],
        "abc"
    );
}

/// REQ-ARTIFACT-RETENTION.
#[tokio::test]
async fn what_is_too_old_is_removed_and_counted() {
    let fixture = idle("[orchestratord.artifacts]\nmax_age_ms = 1000\n").await;
    stored(&fixture, &note("abc", &[])).await;
    let look = || async {
        let answer = fixture.call(Call::get(&format!("/v1/artifacts/{ABC}"))).await;
        match answer.status {
            404 => Look::Ready(()),
            status => Look::NotYet(status),
        }
    };
    wait_for("the artifact to be removed", LIMIT, look).await.unwrap();
    let look = || async {
        let metrics = fixture.call(Call::get("/metrics")).await.text();
        match metrics.contains("artifacts_removed_total{bound=\"age\"} 1") {
            true => Look::Ready(metrics),
            false => Look::NotYet(metrics),
        }
    };
    let metrics = wait_for("it to be counted", LIMIT, look).await.unwrap();
    assert!(
        metrics.contains("artifacts_stored_total{artifact_kind=\"summary\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_durability_nothing_is_kept_and_that_is_said() {
    let fixture = Fixture::start(&[("p", 1, fast())], "", &[("ORCHD_DURABILITY", "off")]).await;
    let (status, told) = put(&fixture, &note("abc", &[])).await;
    assert_eq!(
        (status, &told["code"], &told["reason"]),
        (403, &json!("FORBIDDEN"), &json!("artifacts_off"))
    );
    assert!(
        told["hint"]
            .as_str()
            .unwrap()
            .contains("orchestratord.durability"),
        "{told}"
    );
    let unknown = fixture.call(Call::get(&format!("/v1/artifacts/{ABC}"))).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(ids(&fixture.get("/v1/artifacts").await), [""; 0]);
    let id = fixture.submit(&task(3)).await;
    let said = fixture.read(&id).await;
    assert!(format!("{:?}", said.terminal).contains("finish_reason"));
    assert!(!format!("{:?}", said.terminal).contains("transcript"));
}

#[tokio::test]
async fn the_daemons_own_token_is_in_no_artifact() {
    let token = "a-token-of-this-test";
    let fixture = Fixture::start(&[], "", &[("AUTH_TOKEN", token)]).await;
    let call = Call::post_json("/v1/artifacts", &note(&format!("curl -H 'Bearer {token}'"), &[]));
    let answer = fixture.call(call.bearer(token)).await;
    let told: Value = answer.json().unwrap();
    assert_eq!(
        (answer.status, &told["code"]),
        (400, &json!("INVALID_PARAMS")),
        "{told}"
    );
    assert!(!told.to_string().contains(token), "{told}");
}

/// REQ-ARTIFACT-API: a disk without room refuses with a hint and keeps what was there.
#[tokio::test]
async fn a_full_disk_is_told() {
    // The reserve is larger than any disk here.
    let fixture = idle("[orchestratord.journal]\nreserve_mib = 1048576\n").await;
    let (status, told) = put(&fixture, &note("abc", &[])).await;
    assert_eq!(
        (status, &told["reason"], &told["retriable"]),
        (503, &json!("artifacts_disk_full"), &json!(true)),
        "{told}"
    );
    assert_eq!(
        fixture
            .call(Call::get(&format!("/v1/artifacts/{ABC}")))
            .await
            .status,
        404
    );
}
