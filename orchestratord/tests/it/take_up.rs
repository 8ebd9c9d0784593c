//! ORCH-3712, ORCH-3714, ORCH-3716: tasks that were running when the daemon was killed.

use serde_json::{Value, json};
use test_harness_support::sse::Event;
use test_harness_support::stream_check::{StreamCheck, Summary, Terminal};

use crate::fixture::{Fixture, LIMIT, fast, paced, task, task_with};

/// Kills the daemon after some tokens; gives the events that a reader had until then.
async fn killed_midway(fixture: &mut Fixture, id: &str, tokens: usize) -> Vec<Event> {
    let mut reader = fixture.open(id, None).await;
    let mut events = Vec::new();
    while count(&events) < tokens {
        events.push(reader.next_event(LIMIT).await.unwrap().unwrap());
    }
    fixture.crash().await;
    events
}

fn count(events: &[Event]) -> usize {
    let token = |event: &&Event| event.name.as_deref() == Some("token");
    events.iter().filter(token).count()
}

/// One client's whole view: what it had, and what it gets with its last id.
async fn resumed(fixture: &Fixture, id: &str, before: &[Event]) -> Summary {
    let last = before.iter().rev().find_map(|event| event.id.clone()).unwrap();
    let rest = fixture
        .open(id, Some(&last))
        .await
        .all_events(LIMIT)
        .await
        .unwrap();
    let mut check = StreamCheck::new();
    before
        .iter()
        .chain(&rest)
        .try_for_each(|event| check.event(event))
        .unwrap();
    check.finish().unwrap()
}

fn end(summary: &Summary) -> &Value {
    match &summary.terminal {
        Terminal::End(end) => end,
        Terminal::Error(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_stream_goes_on_after_the_text_so_far() {
    let mut fixture = Fixture::one(1, paced()).await;
    let id = fixture.submit(&task(40)).await;
    let before = killed_midway(&mut fixture, &id, 7).await;
    assert_eq!(fixture.status(&id).await["state"], "queued");
    fixture.register().await;
    let stream = resumed(&fixture, &id, &before).await;
    assert_eq!((stream.tokens.len(), stream.outcome()), (40, Some("length")));
    assert!(stream.last_id.starts_with("1."), "{}", stream.last_id);
    assert_eq!(end(&stream)["tokens_out"], 40);
    let again = fixture.open(&id, None).await.all_events(LIMIT).await.unwrap();
    assert_eq!(StreamCheck::whole(&again).unwrap().tokens, stream.tokens);
    assert_eq!(fixture.status(&id).await["state"], "completed");
}

#[tokio::test]
async fn every_crash_adds_an_epoch_and_no_token_is_lost_or_doubled() {
    let mut fixture = Fixture::one(1, paced()).await;
    let id = fixture.submit(&task(60)).await;
    let mut seen = Vec::new();
    for crash in 1..=3 {
        let last = seen.iter().rev().find_map(|event: &Event| event.id.clone());
        let mut reader = fixture.open(&id, last.as_deref()).await;
        while count(&seen) < crash * 6 {
            seen.push(reader.next_event(LIMIT).await.unwrap().unwrap());
        }
        fixture.crash().await;
        fixture.register().await;
    }
    let stream = resumed(&fixture, &id, &seen).await;
    assert_eq!((stream.tokens.len(), stream.outcome()), (60, Some("length")));
    assert!(stream.last_id.starts_with("3."), "{}", stream.last_id);
}

#[tokio::test]
async fn a_strict_task_is_replayed_to_the_same_text() {
    let mut fixture = Fixture::one(1, paced()).await;
    let body = task_with(30, json!({"determinism": "strict"}));
    let id = fixture.submit(&body).await;
    let before = killed_midway(&mut fixture, &id, 9).await;
    fixture.register().await;
    let stream = resumed(&fixture, &id, &before).await;
    let uncut = fixture.submit(&body).await;
    assert_eq!(stream.tokens, fixture.read(&uncut).await.tokens);
    assert_eq!(end(&stream)["tokens_out"], 30);
}

#[tokio::test]
async fn a_replay_that_differs_ends_as_interrupted_with_the_text_kept() {
    let mut fixture = Fixture::start(
        &[("p", 1, paced())],
        "[orchestratord]\ninterrupted = \"replay\"\n",
        &[],
    )
    .await;
    let id = fixture.submit(&task(30)).await;
    let before = killed_midway(&mut fixture, &id, 9).await;
    let mut other = fast();
    other.text = test_harness_support::scripted_engine::Text::Multibyte;
    fixture.pools[0].engine.set_script(other);
    fixture.register().await;
    let stream = resumed(&fixture, &id, &before).await;
    assert!(matches!(&stream.terminal, Terminal::Error(body) if body["reason"] == "interrupted"));
    assert!(stream.tokens.len() >= 9);
    assert_eq!(fixture.status(&id).await["state"], "interrupted");
    fixture.wait_idle().await;
}

#[tokio::test]
async fn an_installation_may_end_interrupted_tasks() {
    let config = "[orchestratord]\ninterrupted = \"interrupt\"\n";
    let mut fixture = Fixture::start(&[("p", 1, paced())], config, &[]).await;
    let id = fixture.submit(&task(1000)).await;
    let before = killed_midway(&mut fixture, &id, 5).await;
    let stream = resumed(&fixture, &id, &before).await;
    assert_eq!(stream.outcome(), Some("WORKER_RESET"));
    let status = fixture.status(&id).await;
    assert_eq!(
        (&status["state"], &status["error"]["reason"]),
        (&json!("interrupted"), &json!("interrupted"))
    );
    fixture.crash().await;
    assert_eq!(
        fixture.status(&id).await["state"],
        "interrupted",
        "a terminal state is never left"
    );
}

#[tokio::test]
async fn a_client_ahead_of_what_survived_is_told_to_go_back() {
    let mut fixture = Fixture::one(1, paced()).await;
    let id = fixture.submit(&task(30)).await;
    let before = killed_midway(&mut fixture, &id, 8).await;
    fixture.daemon.kill().unwrap();
    fixture.daemon.wait(LIMIT).await.unwrap();
    // The disk of a machine that lost its power: the end of the transcript never got there.
    let transcripts = std::fs::read_dir(fixture.state().join("transcripts")).unwrap();
    let longest = transcripts
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| path.metadata().unwrap().len());
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(longest.unwrap())
        .unwrap();
    file.set_len(file.metadata().unwrap().len() / 3).unwrap();
    fixture.start_again().await;
    fixture.register().await;
    let last = before.iter().rev().find_map(|event| event.id.clone()).unwrap();
    let rest = fixture
        .open(&id, Some(&last))
        .await
        .all_events(LIMIT)
        .await
        .unwrap();
    assert_eq!(rest[0].name.as_deref(), Some("resync"));
    let mut check = StreamCheck::new();
    before
        .iter()
        .chain(&rest)
        .try_for_each(|event| check.event(event))
        .unwrap();
    assert_eq!(check.finish().unwrap().tokens.len(), 30);
}

#[tokio::test]
async fn strict_hands_out_the_same_stream() {
    let fixture = Fixture::start(&[("p", 2, fast())], "", &[("ORCHD_DURABILITY", "strict")]).await;
    let ids = [fixture.submit(&task(50)).await, fixture.submit(&task(50)).await];
    for id in &ids {
        let stream = fixture.read(id).await;
        assert_eq!((stream.tokens.len(), stream.outcome()), (50, Some("length")));
    }
    fixture.wait_idle().await;
}

/// A cancel's word holds after a restart too: what was withheld stays withheld (ORCH-3204).
#[tokio::test]
async fn a_cancelled_task_stays_cancelled() {
    let mut fixture = Fixture::start(&[("p", 1, paced())], "", &[("CANCEL_ON_DISCONNECT", "false")]).await;
    let id = fixture.submit(&task(1000)).await;
    let mut reader = fixture.open(&id, None).await;
    while reader.next_event(LIMIT).await.unwrap().unwrap().name.as_deref() != Some("token") {}
    let cancel = test_harness_support::http1::Call::post_json(&format!("/v1/tasks/{id}/cancel"), &json!({}));
    assert_eq!(fixture.call(cancel).await.status, 204);
    fixture.crash().await;
    fixture.register().await;
    let stream = fixture.read(&id).await;
    assert_eq!((stream.tokens.len(), stream.outcome()), (0, Some("canceled")));
    assert_eq!(fixture.status(&id).await["state"], "canceled");
}
