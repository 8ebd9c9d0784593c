//! REQ-FETCH-RESUME: parts at once, going on where an earlier try ended, and what is asked for.

use std::time::Duration;

use downloader::FetchError;
use test_harness_support::file_server::{Fault, Resource};
use test_harness_support::wait::{Look, wait_for};
use tokio_util::sync::CancellationToken;

use crate::fixtures::{PATH, Scene};

#[tokio::test]
async fn a_file_comes_in_parts_at_once() {
    let scene = Scene::new(100_000).await;
    scene.arrives().await;
    let seen = scene.server.seen();
    assert_eq!(seen.len(), 100_000_usize.div_ceil(8 << 10));
    assert!(seen.iter().all(|request| request.header("range").is_some()));
    assert!(
        seen.iter()
            .all(|request| request.header("accept-encoding") == Some("identity"))
    );
    let validated = seen
        .iter()
        .filter(|request| request.header("if-range") == Some("\"one\""))
        .count();
    assert_eq!(validated, seen.len() - 1, "all but the first know the validator");
    assert_eq!(scene.told(|told| (told.resumed, told.received)), (0, 100_000));
}

#[tokio::test]
async fn sizes_around_a_part_and_nothing_at_all() {
    for bytes in [0, 1, (8 << 10) - 1, 8 << 10, (8 << 10) + 1] {
        Scene::new(bytes).await.arrives().await;
        Scene::new(bytes).await.unknown().arrives().await;
    }
}

#[tokio::test]
async fn nothing_need_be_known_beforehand() {
    let scene = Scene::new(50_000).await.unknown();
    scene.arrives().await;
    assert!(scene.requests() > 1, "a validator is enough for parts");
    let chunked = Scene::new(50_000).await.unknown();
    chunked.server.always(PATH, Fault::Chunked);
    chunked.server.always(PATH, Fault::IgnoreRange);
    chunked.arrives().await;
}

#[tokio::test]
async fn without_validator_and_digest_there_are_no_parts() {
    let scene = Scene::new(50_000).await.unknown();
    scene.server.always(PATH, Fault::NoEtag);
    scene.arrives().await;
    assert_eq!(scene.requests(), 1);
}

#[tokio::test]
async fn a_stopped_download_goes_on_later() {
    let scene = Scene::new(200_000).await;
    scene
        .server
        .always(PATH, Fault::Slow(1 << 10, Duration::from_millis(2)));
    let stop = CancellationToken::new();
    let download = scene.download_until(&stop);
    let stopping = async {
        wait_for("some parts", Duration::from_secs(20), || async {
            match scene.told(|told| told.received) {
                received if received > 30_000 => Look::Ready(()),
                received => Look::NotYet(received),
            }
        })
        .await
        .unwrap();
        stop.cancel();
    };
    let (stopped, ()) = tokio::join!(download, stopping);
    assert!(matches!(stopped, Err(FetchError::Stopped)), "{stopped:?}");
    scene.server.mend();
    let before = scene.told(|told| told.received);
    scene.arrives().await;
    let (resumed, received) = scene.told(|told| (told.resumed, told.received));
    assert_eq!(resumed, before);
    assert_eq!(received, 200_000, "nothing came twice");
}

/// The bytes of a try that did not end are of no use when they may be of another file.
#[tokio::test]
async fn a_file_that_changed_between_two_tries_begins_anew() {
    let mut scene = Scene::new(40_000).await.unknown();
    let gone = Fault::Status(404, Vec::new(), String::new());
    scene.server.next(PATH, [Fault::CutAfter(7_000), gone]);
    scene.download().await.unwrap_err();
    let other: Vec<u8> = scene.content.iter().map(|byte| byte ^ 0x55).collect();
    scene.server.serve(PATH, Resource::new(other.clone(), "two"));
    scene.content = other;
    scene.arrives().await;
    assert!(scene.told(|told| told.resumed > 0 && told.discarded > 0));
}

#[tokio::test]
async fn what_is_left_of_a_try_is_believed_only_if_it_can_be() {
    let scene = Scene::new(40_000).await;
    let left = [
        ("state.json", "{"),
        (
            "state.json",
            r#"{"schema":9,"bytes":40000,"etag":"\"one\"","there":[[0,40000]]}"#,
        ),
        (
            "state.json",
            r#"{"schema":1,"bytes":39999,"etag":"\"one\"","there":[[0,39999]]}"#,
        ),
        // It claims more than there is.
        (
            "state.json",
            r#"{"schema":1,"bytes":40000,"etag":"\"one\"","there":[[0,40000]]}"#,
        ),
        (
            "state.json",
            r#"{"schema":1,"bytes":40000,"etag":"\"one\"","there":[[9,4]]}"#,
        ),
        ("data", "bytes of whatever"),
    ];
    for (name, text) in left {
        std::fs::create_dir_all(scene.path()).unwrap();
        std::fs::write(scene.path().join(name), text).unwrap();
        scene.arrives().await;
        std::fs::remove_dir_all(scene.path()).unwrap();
    }
    // A claim that fits, of bytes that are none: the digest tells, and the file begins anew.
    std::fs::create_dir_all(scene.path()).unwrap();
    std::fs::write(scene.path().join("data"), vec![0; 40_000]).unwrap();
    let claim = r#"{"schema":1,"bytes":40000,"etag":"\"one\"","there":[[0,40000]]}"#;
    std::fs::write(scene.path().join("state.json"), claim).unwrap();
    scene.arrives().await;
    assert_eq!(scene.told(|told| told.discarded), 40_000);
}
