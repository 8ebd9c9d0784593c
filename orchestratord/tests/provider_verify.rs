//! ORCH-3980, REQ-CONTRACT-VERIFIED: the real daemon against its own contract. Every operation of
//! `contracts/openapi/{data,control}.yaml` is called with good, malformed and unknown input, with and without the token;
//! each answer must have a documented status, media type and body.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "provider_verify/cases.rs"]
mod cases;
#[path = "provider_verify/contract.rs"]
mod contract;
#[expect(dead_code, reason = "the integration tests of this crate use the rest of it")]
#[path = "it/fixture.rs"]
mod fixture;
#[path = "provider_verify/schemathesis.rs"]
mod schemathesis;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use test_harness_support::http1::{self, Answer, Call};

use cases::{Case, TOKEN};
use contract::{Contract, Operation};
use fixture::{Fixture, LIMIT, fast};

/// Operations that answer without the token. This list only shrinks.
const PUBLIC: [&str; 2] = ["GET /healthz", "GET /readyz"];

async fn guarded() -> Fixture {
    guarded_by("").await
}

async fn guarded_by(config: &str) -> Fixture {
    let pools = [("p", 1, fast())];
    Fixture::start(&pools, config, &[("AUTH_TOKEN", TOKEN)]).await
}

async fn ask(fixture: &Fixture, case: &Case) -> Answer {
    http1::call(fixture.daemon.address(), &case.call().bearer(TOKEN))
        .await
        .unwrap()
}

#[test]
fn the_documents_are_the_checked_in_ones() {
    for (file, document) in contract::documents() {
        let path = test_harness_support::binaries::workspace_root()
            .join("contracts/openapi")
            .join(file);
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            document.to_yaml().unwrap(),
            written,
            "{file}: run cargo xtask regen"
        );
    }
}

/// ORCH-3980: every operation shows what it takes and gives, and what it shows is true to its schema.
#[test]
fn every_operation_has_examples_that_hold() {
    let contract = Contract::load();
    let path = test_harness_support::binaries::workspace_root().join("contracts/openapi/examples.json");
    let told: BTreeMap<String, Value> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let operations: BTreeSet<String> = contract
        .operations()
        .filter(|operation| operation.shows_something())
        .map(Operation::name)
        .collect();
    let told: BTreeSet<String> = told.into_keys().collect();
    assert_eq!(told, operations, "examples.json and the operations");
    for operation in contract.operations() {
        contract.check_examples(operation);
    }
}

#[tokio::test]
async fn every_operation_answers_as_the_contract_says() {
    let contract = Contract::load();
    let fixture = guarded().await;
    let task =
        json!({"model_ref": "tiny", "prompt": "the moon", "max_tokens": 4, "session_id": cases::SESSION});
    let submitted = http1::call(
        fixture.daemon.address(),
        &Call::post_json("/v1/tasks", &task).bearer(TOKEN),
    )
    .await
    .unwrap();
    let known = submitted.json::<Value>().unwrap()["task_id"]
        .as_str()
        .unwrap()
        .to_owned();
    // The end of the task, so that its stream is a whole one.
    let stream = Call::get(&format!("/v1/tasks/{known}/stream")).bearer(TOKEN);
    let mut reader = test_harness_support::sse::SseReader::open(fixture.daemon.address(), &stream)
        .await
        .unwrap();
    for event in reader.all_events(LIMIT).await.unwrap() {
        let data: Value = serde_json::from_str(&event.data).unwrap();
        let tagged = json!({"event": event.name.clone().unwrap(), "data": data});
        contract.check_schema("TaskEvent", &tagged);
    }
    let mut seen = BTreeSet::new();
    for case in cases::of_pools() {
        let operation = contract.operation(case.method, case.path);
        let answer = fixture.obeyed(ask(&fixture, &case)).await;
        contract.check(&operation, &answer, case.name);
        assert_eq!(answer.status, case.status, "{}: {}", case.name, answer.text());
        seen.insert(operation.name());
    }
    for case in cases::good(&known, &fixture.report()) {
        let operation = contract.operation(case.method, case.path);
        let answer = ask(&fixture, &case).await;
        contract.check(&operation, &answer, case.name);
        assert_eq!(answer.status, case.status, "{}: {}", case.name, answer.text());
        seen.insert(operation.name());
        println!(
            "{} {} -> {} ({})",
            case.method, case.path, answer.status, case.name
        );
    }
    for operation in contract.operations() {
        for case in cases::probes(operation) {
            let answer = ask(&fixture, &case).await;
            contract.check(operation, &answer, case.name);
            println!("{} -> {} ({})", operation.name(), answer.status, case.name);
        }
    }
    let unseen: Vec<String> = contract
        .operations()
        .map(Operation::name)
        .filter(|name| !seen.contains(name))
        .collect();
    assert!(
        unseen.is_empty(),
        "operations without a case of their own: {unseen:?}"
    );
}

/// AUTH-1001, AUTH-1005: 40101 without, 40102 with a wrong token, on every operation but the public ones.
#[tokio::test]
async fn every_operation_tells_a_missing_token_from_a_bad_one() {
    let contract = Contract::load();
    let fixture = guarded().await;
    for operation in contract.operations() {
        let name = operation.name();
        let call = cases::bare(operation);
        for (call, code, numeric) in [
            (call.clone(), "MISSING_TOKEN", 40101),
            (call.bearer("another-token-of-this-test"), "BAD_TOKEN", 40102),
        ] {
            let answer = http1::call(fixture.daemon.address(), &call).await.unwrap();
            contract.check(operation, &answer, code);
            if PUBLIC.contains(&name.as_str()) {
                assert!(matches!(answer.status, 200 | 503), "{name}: {}", answer.status);
                continue;
            }
            let body: Value = answer.json().unwrap();
            assert_eq!(
                (answer.status, &body["code"], &body["numeric_code"]),
                (401, &json!(code), &json!(numeric)),
                "{name}"
            );
            assert!(answer.header("www-authenticate").is_some(), "{name}");
        }
    }
    let public: BTreeSet<String> = contract
        .operations()
        .filter(|operation| operation.public)
        .map(Operation::name)
        .collect();
    assert_eq!(
        public,
        PUBLIC.map(str::to_owned).into(),
        "the contract says the same"
    );
}

/// AUTH-1002: 40301.
#[tokio::test]
async fn a_bind_beyond_loopback_without_a_token_has_its_number() {
    let refused = test_harness_support::daemon::Command::of_workspace("orchestratord")
        .unwrap()
        .env("ORCHD_ADDR", "0.0.0.0:0")
        .start()
        .await;
    let Err(refused) = refused else {
        panic!("it listens for everybody without a token")
    };
    assert!(refused.to_string().contains("40301"), "{refused}");
}
