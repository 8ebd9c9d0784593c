//! Who may call the orchestrator, and what the logs say about it. The daemons log everything they can
//! here, so that a token would show if they ever let it out.

use cucumber::{given, then, when};
use serde_json::{Value, json};
use test_harness_support::daemon::Command;
use test_harness_support::http1::{Answer, Call};
use test_harness_support::system::Plan;
use test_harness_support::wait::{Look, wait_for};

use crate::world::{PATIENCE, StepResult, World};

/// The token of the scenarios.
pub(super) const TOKEN: &str = "lamp-6b0f5d1e-this-is-the-token";

/// The first six hex digits of its SHA-256, as `printf %s "$TOKEN" | sha256sum` tells them.
const FINGERPRINT: &str = "333ac3";

/// Not the token.
pub(super) const OTHER_TOKEN: &str = "reel-93c24a77-this-is-another";

/// A route of the orchestrator that needs no GPU box and is open to whoever may call at all.
const ROUTE: &str = "/v1/pools";

/// The daemons tell everything.
pub(super) const VERBOSE: &str = "[log]\nlevel = \"debug\"\n";

#[given("an orchestrator with a token and AUTH_OPTIONAL=true")]
async fn optional(world: &mut World) -> StepResult {
    let command = Command::of_workspace("orchestratord")?
        .env("ORCHD_ADDR", "127.0.0.1:0")
        .env("LOG_LEVEL", "debug")
        .env("AUTH_TOKEN", TOKEN)
        .env("AUTH_OPTIONAL", "true");
    world.keep_orchestrator(command.start().await?);
    Ok(())
}

#[given("a GPU box whose daemons share a token")]
async fn shared_token(world: &mut World) -> StepResult {
    Ok(world
        .start(Plan::reference_box(1).token(TOKEN).config(VERBOSE))
        .await?)
}

#[when(expr = "an orchestrator starts on {string} without a token")]
fn start_open(world: &mut World, address: String) -> StepResult {
    let command = Command::of_workspace("orchestratord")?.env("ORCHD_ADDR", address);
    world.keep_program(command.spawn()?);
    Ok(())
}

#[then(expr = "it refuses to start and says {int}")]
async fn refuses_to_start(world: &mut World, code: u32) -> StepResult {
    let program = world.program()?;
    let status = program.wait(PATIENCE).await?;
    assert!(!status.success(), "it ended with {status}");
    assert!(program.stderr().contains(&code.to_string()), "{}", program.logs());
    assert_eq!(program.stdout(), "", "it must not say that it listens");
    Ok(())
}

#[then(expr = "a request without a token answers {int}")]
async fn without_token(world: &mut World, status: u16) -> StepResult {
    let answer = world.call_bare(&Call::get(ROUTE)).await?;
    assert_eq!(answer.status, status, "{}", answer.text());
    Ok(())
}

#[then(expr = "a request without a token answers {int} with numeric code {int}")]
async fn without_token_code(world: &mut World, status: u16, code: u32) -> StepResult {
    let answer = world.call_bare(&Call::get(ROUTE)).await?;
    Ok(check_refusal(&answer, status, code)?)
}

#[then(expr = "a request with a wrong token answers {int} with numeric code {int}")]
async fn wrong_token(world: &mut World, status: u16, code: u32) -> StepResult {
    let answer = world.call_bare(&Call::get(ROUTE).bearer(OTHER_TOKEN)).await?;
    Ok(check_refusal(&answer, status, code)?)
}

#[then(expr = "a request with the right token answers {int}")]
async fn right_token(world: &mut World, status: u16) -> StepResult {
    let answer = world.call_bare(&Call::get(ROUTE).bearer(TOKEN)).await?;
    assert_eq!(answer.status, status, "{}", answer.text());
    Ok(())
}

#[then(expr = "a worker registration without a token answers {int} with numeric code {int}")]
async fn register_without_token(world: &mut World, status: u16, code: u32) -> StepResult {
    let answer = world.call_bare(&registration()).await?;
    Ok(check_refusal(&answer, status, code)?)
}

#[then(expr = "a worker registration with the right token answers {int}")]
async fn register_with_token(world: &mut World, status: u16) -> StepResult {
    let answer = world.call_bare(&registration().bearer(TOKEN)).await?;
    assert_eq!(answer.status, status, "{}", answer.text());
    Ok(())
}

#[then(expr = "a request with the header {string} {string} answers {int}")]
async fn foreign_header(world: &mut World, name: String, value: String, status: u16) -> StepResult {
    let honest = world.call_bare(&Call::get(ROUTE)).await?;
    assert_eq!(honest.status, 200, "without the header: {}", honest.text());
    let answer = world.call_bare(&Call::get(ROUTE).header(&name, &value)).await?;
    assert_eq!(answer.status, status, "{}", answer.text());
    Ok(())
}

#[then(expr = "the log names the identity {string}")]
async fn names_identity(world: &mut World, identity: String) -> StepResult {
    Ok(wait_identity(world, &identity).await?)
}

#[then("the log names the token only by its fingerprint")]
async fn names_fingerprint(world: &mut World) -> StepResult {
    wait_identity(world, &format!("token:{FINGERPRINT}")).await?;
    let logs = world.logs();
    assert!(!logs.contains(TOKEN), "the token is in the logs");
    assert!(!logs.contains(OTHER_TOKEN), "the wrong token is in the logs");
    Ok(())
}

/// The status, the number, and the challenge that the HTTP standard asks for.
fn check_refusal(answer: &Answer, status: u16, code: u32) -> anyhow::Result<()> {
    let body: Value = answer.json()?;
    assert_eq!(
        (answer.status, &body["numeric_code"]),
        (status, &json!(code)),
        "{body}"
    );
    assert!(answer.header("www-authenticate").is_some(), "{:?}", answer.head);
    Ok(())
}

/// Waits until the orchestrator's log holds a line with this identity.
async fn wait_identity(world: &World, identity: &str) -> anyhow::Result<()> {
    let orchestrator = world.orchestrator()?;
    let look = || async {
        let lines = orchestrator.stderr();
        let named = lines
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .any(|line| line["identity"] == identity);
        if named { Look::Ready(()) } else { Look::NotYet(()) }
    };
    wait_for(
        &format!("a log line with the identity {identity}"),
        PATIENCE,
        look,
    )
    .await?;
    anyhow::ensure!(
        orchestrator.stderr().contains(identity),
        "no line names {identity}"
    );
    Ok(())
}

/// A node without GPUs and pools that wants to be known.
fn registration() -> Call {
    let report = json!({
        "node_id": "node-of-a-stranger",
        "instance": "6f1f64c8-5d0c-4f3a-9c1e-0d8f2b7a4e12",
        "seq": 1,
        "address": "http://127.0.0.1:1",
        "version": "0.0.0",
        "gpus": [],
        "pools": [],
    });
    Call::post_json("/v1/workers/register", &report)
}
