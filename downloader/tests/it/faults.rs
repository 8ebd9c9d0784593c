//! REQ-FETCH-VERIFIED: whatever a server does, what comes out is the file or a typed error.

use std::time::Duration;

use downloader::FetchError;
use http_util::HttpError;
use test_harness_support::file_server::{Fault, Resource};

use crate::fixtures::{PATH, Scene};

fn status(status: u16) -> Fault {
    Fault::Status(status, Vec::new(), "no".to_owned())
}

fn busy(status: u16, seconds: u32) -> Fault {
    let headers = vec![("Retry-After".to_owned(), seconds.to_string())];
    Fault::Status(status, headers, String::new())
}

#[tokio::test]
async fn a_connection_that_drops_at_any_quarter_costs_no_byte_twice() {
    for bytes in [4_000_u64, 60_000] {
        for quarter in 0..=4 {
            for cut in [Fault::CutAfter, Fault::ResetAfter] {
                let scene = Scene::new(bytes as usize).await;
                scene.server.next(PATH, [cut(bytes / 4 * quarter)]);
                scene.arrives().await;
                let (received, discarded) = scene.told(|told| (told.received, told.discarded));
                assert_eq!(
                    (received, discarded),
                    (bytes, 0),
                    "cut at {quarter} quarters of {bytes}"
                );
            }
        }
    }
}

#[tokio::test]
async fn every_answer_may_be_cut_short() {
    let mut scene = Scene::new(60_000).await;
    scene.server.always(PATH, Fault::CutAfter(1_000));
    scene.effort.retry.attempts = 2;
    scene.arrives().await;
    assert!(scene.requests() >= 60);
}

#[tokio::test]
async fn a_corrupted_body_of_the_right_size_is_never_the_file() {
    let scene = Scene::new(60_000).await;
    scene.server.always(PATH, Fault::Flip(31_234));
    let error = scene.download().await.unwrap_err();
    assert!(matches!(error, FetchError::Digest { .. }), "{error}");
    assert!(!scene.path().join("data").exists(), "wrong bytes are not kept");
    // What was wrong once on the way is asked for again.
    let once = Scene::new(6_000).await;
    once.server.next(PATH, [Fault::Flip(1_234)]);
    once.arrives().await;
    assert_eq!(once.told(|told| told.discarded), 6_000);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_gives_the_whole() {
    let scene = Scene::new(60_000).await;
    scene.server.always(PATH, Fault::IgnoreRange);
    scene
        .server
        .next(PATH, [Fault::CutAfter(20_000), Fault::CutAfter(40_000)]);
    scene.arrives().await;
    assert_eq!(scene.requests(), 3);
    // One that ignores only some.
    let some = Scene::new(60_000).await;
    some.server.plan(
        PATH,
        [None, Some(Fault::IgnoreRange), None, Some(Fault::IgnoreRange)],
    );
    some.arrives().await;
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_not_mixed() {
    for known in [true, false] {
        let scene = Scene::new(60_000).await;
        let scene = if known { scene } else { scene.unknown() };
        scene
            .server
            .plan(PATH, [None, Some(Fault::Etag("\"two\"".to_owned()))]);
        scene.arrives().await;
        assert!(scene.told(|told| told.discarded) > 0);
        // One that changes all the time cannot be had.
        let restless = if known {
            Scene::new(60_000).await
        } else {
            Scene::new(60_000).await.unknown()
        };
        let etags = (0..40).map(|number| Some(Fault::Etag(format!("\"{number}\""))));
        restless.server.plan(PATH, etags);
        let error = restless.download().await.unwrap_err();
        assert!(matches!(error, FetchError::Changed { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_new_file_under_an_old_name_is_another_file() {
    let scene = Scene::new(60_000).await;
    let other: Vec<u8> = scene.content.iter().rev().copied().collect();
    scene.server.serve(PATH, Resource::new(other, "two"));
    let error = scene.download().await.unwrap_err();
    assert!(matches!(error, FetchError::Digest { .. }), "{error}");
    scene
        .server
        .serve(PATH, Resource::new(scene.content[..50_000].to_vec(), "three"));
    let error = scene.download().await.unwrap_err();
    assert!(
        matches!(
            error,
            FetchError::Size {
                expected: 60_000,
                found: 50_000,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn lengths_that_lie_are_found_out() {
    for (fault, ranges) in [
        (Fault::LengthOff(1_000), true),
        (Fault::LengthOff(-1_000), true),
        (Fault::LengthOff(1_000), false),
        (Fault::LengthOff(-1_000), false),
        (Fault::TotalOff(1), true),
        (Fault::TotalOff(-1), true),
        (Fault::RangeOff(1), true),
    ] {
        let scene = Scene::new(60_000).await;
        scene.server.always(PATH, fault.clone());
        if !ranges {
            scene.server.always(PATH, Fault::IgnoreRange);
        }
        // It may be the file all the same: then the lie was of no consequence.
        match scene.download().await {
            Ok(complete) => assert_eq!(std::fs::read(complete.path).unwrap(), scene.content),
            Err(error) => assert!(
                matches!(
                    error,
                    FetchError::Http(HttpError::Reset { .. })
                        | FetchError::Short { .. }
                        | FetchError::Size { .. }
                        | FetchError::Protocol { .. }
                ),
                "{fault:?}: {error}"
            ),
        }
        scene.server.mend();
        scene.arrives().await;
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_told_and_not_tried_again() {
    for code in [401, 403, 404, 410] {
        let scene = Scene::new(1_000).await;
        scene.server.always(PATH, status(code));
        let error = scene.download().await.unwrap_err();
        assert!(
            matches!(&error, FetchError::Status { status, .. } if status.as_u16() == code),
            "{error}"
        );
        let tries = if code == 401 { 2 } else { 1 };
        assert_eq!(
            scene.requests(),
            tries,
            "{code}: only a credential is asked for again"
        );
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_as_often_as_it_helps() {
    let scene = Scene::new(60_000).await;
    scene
        .server
        .next(PATH, [busy(429, 0), busy(503, 0), status(500), busy(502, 0)]);
    // Four refusals in a row are one more than there are tries.
    let error = scene.download().await.unwrap_err();
    assert!(matches!(error, FetchError::Status { .. }), "{error}");
    scene.server.plan(
        PATH,
        [
            Some(status(500)),
            Some(busy(503, 0)),
            None,
            Some(status(504)),
            Some(busy(429, 0)),
        ],
    );
    scene.arrives().await;
    let patient = Scene::new(1_000).await;
    patient.server.always(PATH, busy(429, 3600));
    let error = patient.download().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert_eq!(patient.requests(), 1, "nobody waits for an hour");
}

#[tokio::test]
async fn a_server_that_waits_for_ever_is_left() {
    let scene = Scene::new(60_000).await;
    scene.server.next(PATH, [Fault::Silent]);
    scene.arrives().await;
    let first = scene.told(|told| told.retries.first().cloned());
    assert_eq!(first.as_deref(), Some("the download broke off"));
    let mut slow = Scene::new(60_000).await;
    (slow.effort.slowest, slow.effort.slow_for) = (1 << 40, Duration::from_secs(1));
    slow.effort.retry.attempts = 1;
    slow.server
        .always(PATH, Fault::Slow(100, Duration::from_millis(20)));
    let error = slow.download().await.unwrap_err();
    assert!(matches!(error, FetchError::Slow { .. }), "{error}");
}

#[tokio::test]
async fn a_disk_without_room_is_an_error_of_its_own() {
    let mut scene = Scene::new(1_000).await;
    // A size that no disk of ours holds is refused before a byte is asked for.
    scene.wanted.bytes = Some(1 << 50);
    scene.server.always(PATH, Fault::TotalOff((1 << 50) - 1_000));
    let error = scene.download().await.unwrap_err();
    assert!(
        matches!(error, FetchError::DiskFull { .. } | FetchError::Io { .. }),
        "{error}"
    );
}
