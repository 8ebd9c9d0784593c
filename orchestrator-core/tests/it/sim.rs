//! A scripted simulator of the whole core with golden output: arrivals, ends, cancels and drains
//! over pools with known speeds; prints who went where, why, and how good the estimate was.
//!
//! One command per line: `queue CAPACITY POLICY MAX_WAIT_MS`, `pool NAME MODEL SLOTS PREFILL DECODE`
//! (tokens per second), then `AT submit NAME CLASS MODEL TOKENS_IN TOKENS_OUT [PINNED_POOL]`,
//! `AT cancel NAME`, `AT drain POOL`, `AT ready POOL`, in order of time (ms).

mod engine;
mod honesty;

use engine::Sim;

fn play(script: &str) -> String {
    let mut sim = Sim::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        sim.obey(line);
    }
    sim.run_to_the_end();
    sim.story
}

#[test]
fn estimates_appear_once_something_was_measured() {
    insta::assert_snapshot!(play(
        "
        queue 10 reject 60000
        pool gpu0 tiny 1 1000 50
        0 submit first interactive tiny 100 51
        10 submit second interactive tiny 100 51
        20 submit third interactive tiny 200 101
        1500 submit fourth interactive tiny 100 51
        5000 submit fifth interactive tiny 100 51
        "
    ));
}

#[test]
fn the_faster_pool_is_found_and_preferred() {
    insta::assert_snapshot!(play(
        "
        queue 10 reject 60000
        pool big tiny 2 2000 100
        pool small tiny 2 500 25
        0 submit a interactive tiny 100 101
        5 submit b interactive tiny 100 101
        6000 submit c interactive tiny 100 101
        6005 submit d interactive tiny 100 101
        6010 submit e interactive tiny 100 101
        6015 submit f interactive tiny 100 101 small
        "
    ));
}

#[test]
fn chat_goes_before_batch_until_batch_has_waited_long_enough() {
    insta::assert_snapshot!(play(
        "
        queue 20 reject 3000
        pool gpu0 tiny 1 1000 100
        0 submit running interactive tiny 100 101
        1 submit batch-1 batch tiny 100 101
        2 submit batch-2 batch tiny 100 101
        3 submit chat-1 interactive tiny 100 101
        4 submit chat-2 interactive tiny 100 101
        2000 submit chat-3 interactive tiny 100 101
        2500 submit chat-4 interactive tiny 100 101
        3500 submit chat-5 interactive tiny 100 101
        "
    ));
}

#[test]
fn a_full_queue_drops_the_longest_waiting_batch_task() {
    insta::assert_snapshot!(play(
        "
        queue 2 drop-lru 60000
        pool gpu0 tiny 1 1000 100
        0 submit running interactive tiny 100 101
        1 submit batch-1 batch tiny 100 101
        2 submit batch-2 batch tiny 100 101
        3 submit batch-3 batch tiny 100 101
        4 submit chat-1 interactive tiny 100 101
        5 submit chat-2 interactive tiny 100 101
        6 submit batch-4 batch tiny 100 101
        7 cancel chat-1
        8 cancel chat-1
        9 cancel running
        "
    ));
}

#[test]
fn waiting_tasks_move_when_their_pool_drains() {
    insta::assert_snapshot!(play(
        "
        queue 10 reject 60000
        pool gpu0 tiny 1 1000 100
        pool gpu1 tiny 1 1000 50
        0 submit a interactive tiny 100 101
        1 submit b interactive tiny 100 101
        2 submit c interactive tiny 100 101
        3 drain gpu0
        4 submit d interactive tiny 100 101 gpu0
        5 submit e interactive huge 100 101
        4000 ready gpu0
        4001 submit f interactive tiny 100 101
        "
    ));
}
