//! Recorded streams cut anywhere: how bytes arrive makes no difference to what comes out.

use adapter_api::Job;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::runtime::{Builder, Runtime};

use crate::common::{PATIENT, adapter, chat, config, generate, job};
use crate::recorded::{check_job, recorded_streams};
use crate::replay::Replay;
use crate::transcript;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn check_pieces(name: &str, pieces: Vec<Vec<u8>>, case: &str) {
    let (_, job, expected) = recorded_streams().find(|(row, ..)| *row == name).unwrap();
    let server = Replay::pieces(pieces).await;
    let adapter = adapter(&server.url(), None, PATIENT);
    check_job(&adapter, &job, &transcript::response(name), &expected, case).await;
}

#[test]
fn a_byte_at_a_time() {
    runtime().block_on(async {
        for (name, ..) in recorded_streams() {
            let response = transcript::response(name);
            check_pieces(name, response.chunks(1).map(<[u8]>::to_vec).collect(), name).await;
        }
    });
}

/// REQ-FAULT-ENGINE-BYTES.
#[test]
fn cut_at_random() {
    let names: Vec<&str> = recorded_streams().map(|(name, ..)| name).collect();
    let cases = (
        prop::sample::select(names),
        proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
    );
    let runtime = runtime();
    let mut runner = TestRunner::new(config(96));
    let ran = runner.run(&cases, |(name, cuts)| {
        let response = transcript::response(name);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(response.len() + 1)).collect();
        at.extend([0, response.len()]);
        at.sort_unstable();
        at.dedup();
        let pieces = at.windows(2).map(|w| response[w[0]..w[1]].to_vec()).collect();
        runtime.block_on(check_pieces(name, pieces, &format!("{name} cut at {at:?}")));
        Ok(())
    });
    ran.unwrap();
}

/// Whatever byte the connection ends after: the texts so far, then one error; a finish only from an end marker.
#[test]
fn cut_off_anywhere() {
    cut_off("15-completion-stream-utf8-split.txt", &job("hi", 4));
    cut_off("79-oai-chat-stream-stop.txt", &chat("hi", 4));
}

fn cut_off(name: &str, job: &Job) {
    let response = transcript::response(name);
    let texts = transcript::texts(&response);
    runtime().block_on(async {
        // Every byte of the end, every seventh before it.
        let end = response.len() - 100;
        for len in (0..end).step_by(7).chain(end..response.len()) {
            let server = Replay::whole(response[..len].to_vec()).await;
            let adapter = adapter(&server.url(), None, PATIENT);
            let output = generate(&adapter, job).await;
            assert!(texts.starts_with(&output.texts), "{len}: {output:?}");
            let end_is_whole = len >= response.len() - "\r\n0\r\n\r\n".len();
            assert_eq!(output.end.is_ok(), end_is_whole, "{len}: {output:?}");
        }
    });
}
