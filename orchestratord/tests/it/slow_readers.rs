//! ORCH-3206: a reader that does not read holds the engine up for a bounded time and costs a bounded
//! amount of memory.

use test_harness_support::http1::{Call, Connection};

use crate::fixture::{Fixture, fast, task};

#[tokio::test]
async fn a_reader_that_never_reads_is_detached_and_the_slot_is_freed() {
    let config = "[orchestratord.sse]\nslow_reader_timeout_ms = 300\nchannel_cap = 16\n";
    let fixture = Fixture::start(&[("p", 1, fast())], config, &[]).await;
    // Long texts, so that the sockets' buffers fill before the task ends.
    fixture.pools[0]
        .engine
        .set_script(test_harness_support::scripted_engine::Script {
            infinite: true,
            ..fast()
        });
    let task = fixture.submit(&task(2000)).await;
    let mut silent = Connection::open(fixture.daemon.address()).await.unwrap();
    let call = Call::get(&format!("/v1/tasks/{task}/stream"));
    silent
        .send(&call.bytes(&fixture.daemon.address().to_string()))
        .await
        .unwrap();
    fixture
        .wait_status(&task, "the task to end", |status| {
            status["state"] != "running" && status["state"] != "queued"
        })
        .await;
    fixture.wait_idle().await;
}
