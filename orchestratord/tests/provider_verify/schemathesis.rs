//! REQ-CONTRACT-VERIFIED: Schemathesis makes up requests from the two documents, examples and edge cases and random
//! ones, valid and invalid, and looks at every answer. The seed is fixed and the number of requests bounded; another
//! seed or more requests go by hand, with the command line that a failure shows.

use std::process::Command;

use test_harness_support::{binaries, schemathesis};

use super::cases::TOKEN;

/// Random requests for each operation, beside those of the examples and edge cases.
const REQUESTS: &str = "10";
const SEED: &str = "7";

fn try_out(url: &str, document: &str) {
    let folder = binaries::workspace_root().join("contracts/openapi");
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(schemathesis::executable().unwrap());
    command
        .current_dir(scratch.path())
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .arg("run")
        .arg(folder.join(document))
        .args(["--url", url])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", REQUESTS, "--seed", SEED])
        .args(["--generation-database", "none", "--request-timeout", "30"])
        .args(["--warnings", "off", "--no-color"]);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let erred = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}
{told}
{erred}"
    );
}

// The scripted engine of the fixture answers meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_requests_get_answers_of_the_contract() {
    // Nodes that are made up never record what they are told.
    let config = "[orchestratord.nodes]\nstale_after_ms = 500\nheartbeat_interval_ms = 100\n";
    let fixture = super::guarded_by(config).await;
    for document in ["data.yaml", "control.yaml"] {
        let url = fixture.daemon.base_url();
        let trying = tokio::task::spawn_blocking(move || try_out(&url, document));
        fixture.obeyed(trying).await.unwrap();
    }
}
