//! What a refused submission is told.

use cucumber::then;
use serde_json::Value;

use crate::world::{StepResult, World};

#[then(expr = "the answer is {int} with code {string} and a message holding {string}")]
fn code_and_message(world: &mut World, status: u16, code: String, words: String) -> StepResult {
    let body = check_code(world, status, &code)?;
    let message = body["message"].as_str().unwrap_or_default();
    assert!(message.contains(&words), "{body}");
    Ok(())
}

#[then(expr = "the answer is {int} with code {string} and reason {string}")]
fn code_and_reason(world: &mut World, status: u16, code: String, reason: String) -> StepResult {
    let body = check_code(world, status, &code)?;
    assert_eq!(body["reason"], reason, "{body}");
    Ok(())
}

/// Status and code; gives the body.
fn check_code(world: &World, status: u16, code: &str) -> anyhow::Result<Value> {
    let answer = world.answer()?;
    assert_eq!(answer.status, status, "{}", answer.text());
    let body: Value = answer.json()?;
    assert_eq!(body["code"], code, "{body}");
    Ok(body)
}
