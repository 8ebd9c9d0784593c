//! What keeps the daemon from starting, and how it says so (REQ-CFG-2, REQ-CFG-4, AUTH-1002).

use test_harness_support::daemon::{Command, Process};

use crate::fixture::{Fixture, LIMIT, fast, write_config};

async fn fails(command: Command) -> String {
    let process: Process = command.spawn().unwrap();
    let status = process.wait(LIMIT).await.unwrap();
    assert!(!status.success());
    process.stderr()
}

fn orchestratord() -> Command {
    Command::of_workspace("orchestratord").unwrap()
}

#[tokio::test]
async fn a_port_that_is_taken() {
    let fixture = Fixture::one(1, fast()).await;
    let address = fixture.daemon.address().to_string();
    let said = fails(orchestratord().env("ORCHD_ADDR", &address)).await;
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn a_broken_configuration_names_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_config(
        &folder,
        "[orchestratord]\naddr = \"127.0.0.1:0\"\n[orchestratord.queue]\ncapcity = 3\npolicy = 7\n",
    );
    let said = fails(orchestratord().arg("--config").arg(&file)).await;
    for words in ["config.toml", "4", "capcity", "5", "policy"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}

#[tokio::test]
async fn beyond_loopback_without_a_token() {
    let said = fails(orchestratord().arg("--addr").arg("0.0.0.0:0")).await;
    assert!(said.contains("40301"), "{said}");
}

#[tokio::test]
async fn a_bad_variable_is_named() {
    let said = fails(orchestratord().env("ORCHD_SSE_HEARTBEAT_MS", "soon")).await;
    assert!(said.contains("ORCHD_SSE_HEARTBEAT_MS"), "{said}");
}
