//! REQ-TRACE-EVERY, REQ-TRACE-REDACTION, REQ-TRACE-MISSED: the lasting record of each task.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use test_harness_support::http1::Call;
use test_harness_support::scripted_engine::{Fault, FaultKind};
use test_harness_support::stream_check::{Summary, Terminal};

use crate::fixture::{Fixture, LIMIT, fast, paced, task, task_with};

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn end(stream: &Summary) -> &Value {
    match &stream.terminal {
        Terminal::End(end) => end,
        Terminal::Error(error) => panic!("{error}"),
    }
}

/// The bytes of an artifact.
async fn content(fixture: &Fixture, id: &str) -> String {
    let shown = fixture.get(&format!("/v1/artifacts/{id}")).await;
    shown["content"].as_str().unwrap().to_owned()
}

/// The trace of a task and its outcome, as anybody finds them.
async fn traced(fixture: &Fixture, task: &str) -> (String, Value) {
    let list = fixture
        .get(&format!("/v1/artifacts?kind=trace&tag=task:{task}"))
        .await;
    let [info] = list["artifacts"].as_array().unwrap().as_slice() else {
        panic!("{task} has not one trace: {list}")
    };
    let tags = info["tags"].as_array().unwrap();
    let mut outcomes = tags
        .iter()
        .filter_map(|tag| tag.as_str().unwrap().strip_prefix("outcome:"));
    let outcome = outcomes.next().unwrap().to_owned();
    let text = content(fixture, info["id"].as_str().unwrap()).await;
    (outcome, serde_json::from_str(&text).unwrap())
}

async fn running(fixture: &Fixture, body: &Value) -> String {
    let id = fixture.submit(body).await;
    fixture
        .wait_status(&id, "it to run", |status| status["state"] == "running")
        .await;
    id
}

async fn cancel(fixture: &Fixture, id: &str) {
    let call = Call::post(&format!("/v1/tasks/{id}/cancel"));
    assert_eq!(fixture.call(call).await.status, 204);
}

#[tokio::test]
async fn the_end_names_a_trace_that_tells_it_all() {
    let fixture = Fixture::one(1, fast()).await;
    let receipt: Value = fixture.post(&task(6)).await.json().unwrap();
    let id = receipt["task_id"].as_str().unwrap();
    let stream = fixture.read(id).await;
    let end = end(&stream);
    let named = &end["transcript"];
    let text = content(&fixture, named["artifact_id"].as_str().unwrap()).await;
    assert_eq!(named["sha256"], sha256(text.as_bytes()));
    assert_eq!(
        named["artifact_id"],
        format!("sha256:{}", sha256(text.as_bytes()))
    );
    assert_eq!(named["text_sha256"], sha256(stream.text().as_bytes()));
    let trace: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(trace["output"]["parts"], json!([{"text": stream.text()}]));
    assert_eq!(
        (&trace["output"]["tokens"], &trace["receipt"]),
        (&json!(6), &receipt)
    );
    assert_eq!(
        (&trace["run"]["pool_id"], &trace["attempts"]),
        (&json!("p"), &json!(1))
    );
    assert_eq!(
        (&trace["seed"], &trace["request"]["seed"]),
        (&json!(7), &json!(7))
    );
    let mut told = end.clone();
    told.as_object_mut().unwrap().remove("transcript");
    assert_eq!(trace["terminal"], json!({"event": "end", "data": told}));
    let decision = fixture.get(&format!("/v1/tasks/{id}/decision")).await;
    assert_eq!(trace["decision"], decision, "with its input, so that it replays");
    assert_eq!(traced(&fixture, id).await, ("length".to_owned(), trace));
}

#[tokio::test]
async fn equal_outputs_have_equal_digests() {
    let fixture = Fixture::one(1, fast()).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let stream = fixture.read(&fixture.submit(&task(6)).await).await;
        seen.push(end(&stream)["transcript"].clone());
    }
    assert_eq!(seen[0]["text_sha256"], seen[1]["text_sha256"]);
    assert_ne!(
        seen[0]["artifact_id"], seen[1]["artifact_id"],
        "each task has its own"
    );
}

#[tokio::test]
async fn what_was_told_survives_a_kill() {
    for durability in ["process", "strict"] {
        let env = [("ORCHD_DURABILITY", durability)];
        let mut fixture = Fixture::start(&[("p", 1, fast())], "", &env).await;
        let mut told = Vec::new();
        for _ in 0..5 {
            let id = fixture.submit(&task(4)).await;
            let stream = fixture.read(&id).await;
            told.push((id, end(&stream).clone()));
        }
        fixture.crash().await;
        for (id, end) in &told {
            let named = end["transcript"]["artifact_id"].as_str().unwrap();
            let text = content(&fixture, named).await;
            assert_eq!(named, format!("sha256:{}", sha256(text.as_bytes())));
            let again = fixture.read(id).await;
            assert_eq!(self::end(&again), end, "{durability}: the same frame as before");
            traced(&fixture, id).await;
        }
    }
}

#[tokio::test]
async fn however_a_task_ends_it_leaves_one_trace() {
    let small = "[orchestratord.queue]\ncapacity = 2\npolicy = \"drop-lru\"\n";
    let fixture = Fixture::start(&[("p", 1, paced())], small, &[]).await;
    let cut = running(&fixture, &task(1000)).await;
    let batch = |more: Value| {
        let mut body = task_with(4, json!({"priority": "batch"}));
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let evicted = fixture.submit(&batch(json!({}))).await;
    let canceled = fixture.submit(&batch(json!({}))).await;
    let late = fixture.submit(&task_with(4, json!({"deadline_ms": 300}))).await;
    cancel(&fixture, &canceled).await;
    fixture.read(&late).await;
    cancel(&fixture, &cut).await;
    let cases = [
        (&evicted, "error", json!("QUEUE_FULL_DROP_LRU"), json!("left")),
        (&canceled, "canceled", json!("canceled"), json!("left")),
        (&late, "deadline", json!("deadline"), json!("left")),
        (&cut, "canceled", json!("canceled"), json!("placed")),
    ];
    for (id, outcome, reason, stage) in cases {
        let (tagged, trace) = traced(&fixture, id).await;
        assert_eq!(tagged, outcome, "{trace:#}");
        let data = &trace["terminal"]["data"];
        assert_eq!(
            data.get("code").unwrap_or_else(|| &data["finish_reason"]),
            &reason,
            "{trace:#}"
        );
        assert_eq!(trace["decision"]["stage"], stage, "{trace:#}");
    }
    let (_, trace) = traced(&fixture, &cut).await;
    assert_eq!(trace["cut"], true);
    let stream = fixture.read(&cut).await;
    assert!(end(&stream)["transcript"]["artifact_id"].is_string());
}

#[tokio::test]
async fn a_failed_task_leaves_its_text_and_its_error() {
    let broken = fast().fault(Fault::at(3, FaultKind::Rst));
    let fixture = Fixture::one(1, broken).await;
    let id = fixture.submit(&task(20)).await;
    let stream = fixture.read(&id).await;
    let (outcome, trace) = traced(&fixture, &id).await;
    assert_eq!(
        (outcome.as_str(), &trace["output"]["tokens"]),
        ("error", &json!(3))
    );
    assert_eq!(trace["output"]["parts"][0]["text"], stream.text());
    assert_eq!(trace["terminal"]["data"]["code"], "WORKER_RESET");
    assert_eq!(trace["run"]["engine_version"], "b1-test");
}

#[tokio::test]
async fn a_task_that_is_taken_up_again_has_one_trace_of_all_it_said() {
    let mut fixture = Fixture::one(1, paced()).await;
    let id = fixture.submit(&task(40)).await;
    let mut reader = fixture.open(&id, None).await;
    let mut seen = 0;
    while seen < 7 {
        let event = reader.next_event(LIMIT).await.unwrap().unwrap();
        seen += u32::from(event.name.as_deref() == Some("token"));
    }
    fixture.crash().await;
    fixture.register().await;
    let stream = fixture.read(&id).await;
    let (outcome, trace) = traced(&fixture, &id).await;
    assert_eq!((outcome.as_str(), &trace["epoch"]), ("length", &json!(1)));
    assert_eq!(trace["output"]["parts"], json!([{"text": stream.text()}]));
    assert_eq!(
        end(&stream)["transcript"]["text_sha256"],
        sha256(stream.text().as_bytes())
    );
}

#[tokio::test]
async fn an_interrupted_task_leaves_one_too() {
    let config = "[orchestratord]\ninterrupted = \"interrupt\"\n";
    let mut fixture = Fixture::start(&[("p", 1, paced())], config, &[]).await;
    let id = fixture.submit(&task(1000)).await;
    let mut reader = fixture.open(&id, None).await;
    while reader.next_event(LIMIT).await.unwrap().unwrap().name.as_deref() != Some("token") {}
    fixture.crash().await;
    let stream = fixture.read(&id).await;
    let (outcome, trace) = traced(&fixture, &id).await;
    assert_eq!(
        (outcome.as_str(), &trace["terminal"]["data"]["reason"]),
        ("error", &json!("interrupted"))
    );
    assert_eq!(trace["output"]["parts"][0]["text"], stream.text());
}

const PROMPT: &str = "the moon over the river";

/// What the trace of one task says, and everything that lies in the folder of artifacts.
async fn with_policy(input: &str, output: &str) -> (Value, Value, String, Vec<u8>) {
    let config =
        format!("[orchestratord.artifacts]\ntrace_input = \"{input}\"\ntrace_output = \"{output}\"\n");
    let fixture = Fixture::start(&[("p", 1, fast())], &config, &[]).await;
    let id = fixture.submit(&task(6)).await;
    let stream = fixture.read(&id).await;
    let (_, trace) = traced(&fixture, &id).await;
    let mut disk = Vec::new();
    for entry in std::fs::read_dir(fixture.state().join("artifacts/packs")).unwrap() {
        disk.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    (trace, end(&stream)["transcript"].clone(), stream.text(), disk)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn texts_are_kept_hashed_or_dropped() {
    let (trace, _, text, disk) = with_policy("keep", "keep").await;
    assert_eq!(trace["request"]["prompt"], PROMPT);
    assert!(holds(&disk, PROMPT) && holds(&disk, &text));
    let (trace, named, text, disk) = with_policy("hash", "hash").await;
    let digest = json!({"bytes": PROMPT.len(), "sha256": sha256(PROMPT.as_bytes())});
    assert_eq!(trace["request"]["prompt"], digest);
    assert_eq!(
        (&trace["output"]["sha256"], &named["text_sha256"]),
        (&json!(sha256(text.as_bytes())), &json!(sha256(text.as_bytes())))
    );
    assert!(!holds(&disk, PROMPT) && !holds(&disk, &text));
    let (trace, named, text, disk) = with_policy("drop", "drop").await;
    assert_eq!(trace["request"]["prompt"], json!({"bytes": PROMPT.len()}));
    assert_eq!(trace["output"], json!({"tokens": 6, "bytes": text.len()}));
    assert_eq!(named.get("text_sha256"), None);
    assert!(!holds(&disk, PROMPT) && !holds(&disk, &text));
}

#[tokio::test]
async fn prompts_are_in_no_trace_unless_that_is_asked_for() {
    let fixture = Fixture::one(1, fast()).await;
    let id = fixture.submit(&task(6)).await;
    fixture.read(&id).await;
    let (_, trace) = traced(&fixture, &id).await;
    assert_eq!(trace["request"]["prompt"]["sha256"], sha256(PROMPT.as_bytes()));
    assert!(!trace.to_string().contains(PROMPT));
}

async fn missed(fixture: &Fixture, cause: &str) -> u64 {
    let metrics = fixture.call(Call::get("/metrics")).await.text();
    let line = format!("traces_missed_total{{cause=\"{cause}\"}} ");
    let value = metrics.lines().find_map(|found| found.strip_prefix(&line));
    value.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_trace_that_cannot_be_kept_costs_the_task_nothing() {
    let config = "[orchestratord.artifacts]\ntraces_mib = 1\nmax_bytes = 65536\n";
    let fixture = Fixture::start(&[("p", 1, fast())], config, &[]).await;
    let packs = fixture.state().join("artifacts/packs");
    // No segment can be begun any more once the one that is written is full.
    std::fs::remove_dir_all(&packs).unwrap();
    let mut without = None;
    for _ in 0..200 {
        let id = fixture.submit(&task(4)).await;
        let stream = fixture.read(&id).await;
        assert_eq!((stream.tokens.len(), stream.outcome()), (4, Some("length")));
        if end(&stream).get("transcript").is_none() {
            without = Some(id);
            break;
        }
    }
    let id = without.expect("the first segment is full after some tasks");
    assert_eq!(fixture.status(&id).await["state"], "completed");
    assert_eq!(missed(&fixture, "io").await, 1);
    fixture.read(&fixture.submit(&task(4)).await).await;
    assert_eq!(missed(&fixture, "io").await, 2);
    std::fs::create_dir(&packs).unwrap();
    let stream = fixture.read(&fixture.submit(&task(4)).await).await;
    assert!(end(&stream)["transcript"]["artifact_id"].is_string());
    let told = fixture.wait_logged("Traces of tasks are kept again.").await;
    let missed = told.matches("A task ends without a trace").count();
    assert_eq!(missed, 1, "told once");
}

#[tokio::test]
async fn a_trace_that_would_be_too_large_goes_without_its_texts() {
    let config = "[orchestratord.artifacts]\nmax_bytes = 6144\n";
    let fixture = Fixture::start(&[("p", 1, fast())], config, &[]).await;
    let stream = fixture.read(&fixture.submit(&task(1900)).await).await;
    assert!(stream.text().len() > 6144, "{}", stream.text().len());
    let named = end(&stream)["transcript"]["artifact_id"].as_str().unwrap();
    let trace: Value = serde_json::from_str(&content(&fixture, named).await).unwrap();
    let output = json!({
        "tokens": 1900, "bytes": stream.text().len(), "sha256": sha256(stream.text().as_bytes()), "left_out": true
    });
    assert_eq!(trace["output"], output);
    let tiny = "[orchestratord.artifacts]\nmax_bytes = 1024\n";
    let fixture = Fixture::start(&[("p", 1, fast())], tiny, &[]).await;
    let stream = fixture.read(&fixture.submit(&task(3)).await).await;
    assert_eq!(end(&stream).get("transcript"), None);
    assert_eq!(missed(&fixture, "size").await, 1);
}

/// REQ-ARTIFACT-SECRET.
#[tokio::test]
async fn a_trace_never_holds_the_daemons_token() {
    let token = "a-token-of-this-test";
    let env = [("AUTH_TOKEN", token), ("AUTH_OPTIONAL", "true")];
    let config = "[orchestratord.artifacts]\ntrace_input = \"keep\"\n";
    let fixture = Fixture::start(&[("p", 1, fast())], config, &env).await;
    let id = fixture
        .submit(&json!({"model_ref": "tiny", "prompt": format!("is {token} good?"), "max_tokens": 3}))
        .await;
    let stream = fixture.read(&id).await;
    assert_eq!(end(&stream).get("transcript"), None);
    assert_eq!(missed(&fixture, "secret").await, 1);
    for entry in std::fs::read_dir(fixture.state().join("artifacts/packs")).unwrap() {
        assert!(!holds(&std::fs::read(entry.unwrap().path()).unwrap(), token));
    }
    assert!(!fixture.daemon.logs().contains(token));
}

#[tokio::test]
async fn traces_can_be_turned_off() {
    let config = "[orchestratord.artifacts]\ntraces = false\n";
    let fixture = Fixture::start(&[("p", 1, fast())], config, &[]).await;
    let stream = fixture.read(&fixture.submit(&task(3)).await).await;
    assert_eq!(end(&stream).get("transcript"), None);
    assert_eq!(fixture.get("/v1/artifacts").await["artifacts"], json!([]));
}
