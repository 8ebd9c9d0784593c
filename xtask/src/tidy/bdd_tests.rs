//! Tests of the rule for BDD steps.

use super::check;
use crate::tidy::testing::{lines, tree};

/// The findings for a step with this body, with `helpers` beside it.
fn step_with(body: &str, helpers: &str) -> Vec<String> {
    let text = format!(
        "//! Steps.\n#[then(\"it is so\")]\nasync fn is_so(world: &mut World) -> Result<()> {{\n{body}\n}}\n{helpers}"
    );
    lines(&check(&tree(&[("test-harness/bdd/src/steps/all.rs", &text)])))
}

fn passes(body: &str) {
    assert_eq!(step_with(body, ""), [""; 0], "{body}");
}

fn fails(body: &str) {
    assert_eq!(step_with(body, "").len(), 1, "{body}");
}

#[test]
fn a_step_without_any_check_is_found_where_it_stands() {
    let found = step_with("world.status();\nOk(())", "");
    let place = "test-harness/bdd/src/steps/all.rs:3: the step `is_so` asserts nothing";
    assert!(found.len() == 1 && found[0].starts_with(place), "{found:?}");
}

#[test]
fn given_and_when_need_not_assert() {
    let text =
        "//! Steps.\n#[given(\"a\")]\nfn a(w: &mut W) {}\n#[when(\"b\")]\nfn b(w: &mut W) {}\nfn c() {}\n";
    assert_eq!(lines(&check(&tree(&[("steps.rs", text)]))), [""; 0]);
}

#[test]
fn assertions_check() {
    passes("assert_eq!(world.status, 202);");
    passes("ensure!(world.status == 202, \"status\"); Ok(())");
    passes("anyhow::ensure!(world.status == 202); Ok(())");
    passes("insta::assert_snapshot!(world.text);");
    passes("let Some(task) = &world.task else { bail!(\"no task\") };");
    passes("match world.event { Some(Event::End) => Ok(()), other => bail!(\"{other:?}\") }");
    passes("if world.ok { Ok(()) } else { Err(anyhow!(\"no\")) }");
    passes("if world.status != 202 { bail!(\"status\") }\nOk(())");
    passes(
        "loop { match next(world).await { Some(End) => return Ok(()), Some(_) => {}, None => bail!(\"cut\") } }",
    );
}

#[test]
fn constants_assert_nothing() {
    fails("assert!(true);");
    fails("assert_eq!(1, 1);");
}

#[test]
fn fetching_is_not_checking() {
    fails("let body = world.get(\"/v1/pools\").await?;\nOk(())");
    fails("world.task.as_ref().context(\"no task\")?;\nOk(())");
}

#[test]
fn what_may_never_run_does_not_count() {
    fails("for frame in &world.frames { ensure!(frame.ok); }\nOk(())");
    fails("while let Some(frame) = world.frames.pop() { ensure!(frame.ok); }\nOk(())");
    fails("if world.strict { ensure!(world.ok); }\nOk(())");
    fails("if world.strict { ensure!(world.ok); } else { log(); }\nOk(())");
    fails("let later = || assert!(world.ok);\nOk(())");
    fails("fn inner(ok: bool) { assert!(ok); }\nOk(())");
    fails("world.frames.iter().for_each(|frame| assert!(frame.ok));\nOk(())");
}

#[test]
fn a_check_beside_a_loop_counts() {
    passes("ensure!(!world.frames.is_empty());\nfor frame in &world.frames { ensure!(frame.ok); }\nOk(())");
    passes("for frame in world.expect()? {}\nassert!(world.done);");
}

const CHECKER: &str = "fn expect_status(world: &World, status: u16) -> Result<()> {\n    ensure!(world.status == status);\n    Ok(())\n}\n";

#[test]
fn a_checker_that_checks_counts() {
    assert_eq!(step_with("expect_status(world, 202)", CHECKER), [""; 0]);
    assert_eq!(
        step_with("world.expect_status(202).await?;\nOk(())", CHECKER),
        [""; 0]
    );
    let through =
        format!("{CHECKER}fn expect_accepted(world: &World) -> Result<()> {{ expect_status(world, 202) }}\n");
    assert_eq!(step_with("expect_accepted(world)", &through), [""; 0]);
}

#[test]
fn a_checker_that_only_has_the_name_does_not_count() {
    let silent = "fn expect_status(world: &World, status: u16) -> Result<()> { Ok(()) }\n";
    assert_eq!(step_with("expect_status(world, 202)", silent).len(), 1);
    assert_eq!(
        step_with(
            "expect_status(world, 202)",
            &format!("{CHECKER}mod other {{ {silent} }}")
        )
        .len(),
        1
    );
    assert_eq!(
        step_with("expect_status(world, 202)", "").len(),
        1,
        "a name that is nowhere defined"
    );
}

#[test]
fn checkers_that_call_only_each_other_check_nothing() {
    let circle = "fn check_a() -> Result<()> { check_b() }\nfn check_b() -> Result<()> { check_a() }\n";
    assert_eq!(step_with("check_a()", circle).len(), 1);
}

#[test]
fn a_function_without_a_checking_name_does_not_count() {
    let helper = "fn status_is(world: &World) { assert!(world.ok); }\n";
    assert_eq!(step_with("status_is(world)", helper).len(), 1);
}

#[test]
fn a_result_that_is_thrown_away_does_not_count() {
    assert_eq!(
        step_with("let _ = expect_status(world, 202);\nOk(())", CHECKER).len(),
        1
    );
}
