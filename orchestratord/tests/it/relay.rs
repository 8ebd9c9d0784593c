//! A second GPU box on another address: its engines stay on its loopback, and its relay carries streams with the same
//! promises as a direct connection.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::network::{Gate, another_place};
use test_harness_support::scripted_engine::{End, Report, Script};
use test_harness_support::stream_check::{Summary, Terminal};
use test_harness_support::system::{MODEL, PoolPlan};
use test_harness_support::wait::{Look, wait_for};

use crate::boxes::{Boxes, FAR, IMPATIENT, NEAR, Setting, TOKEN, join, orchestrator, paced};
use crate::fixture::LIMIT;

fn error_of(stream: &Summary) -> &Value {
    let Terminal::Error(error) = &stream.terminal else {
        panic!("{:?}", stream.terminal)
    };
    error
}

/// The last generation that an engine was asked for.
fn last_end(report: &Report) -> Option<&End> {
    let asked = |target: &str| matches!(target, "/completion" | "/v1/chat/completions");
    let request = report.requests.iter().rev().find(|one| asked(&one.target))?;
    Some(&request.end)
}

/// REQ-RELAY-REACH, REQ-RELAY-STREAM: the same text over the relay as without, of every workload, and no key leaves the box.
#[tokio::test]
async fn a_second_box_serves_through_its_relay() {
    let vectors = PoolPlan {
        extra: "workloads = [\"embedding\"]".to_owned(),
        ..PoolPlan::new("vectors", 1, 1)
    };
    let setting = Setting {
        script: Script::default().tokens(4000),
        more: Some(vectors),
        ..Setting::default()
    };
    let boxes = Boxes::start(setting).await;
    let (near, far) = (boxes.run(NEAR, 300).await, boxes.run(FAR, 300).await);
    assert_eq!((near.outcome(), near.tokens.len()), (Some("length"), 300));
    assert_eq!((far.outcome(), &far.tokens), (Some("length"), &near.tokens));

    let chat =
        json!({"workload": "chat", "prompt": null, "messages": [{"role": "user", "content": "hello"}]});
    let chat = boxes.try_submit(FAR, 5, chat).await;
    assert_eq!(chat.status, 202, "{}", chat.text());
    let chat = chat.json::<Value>().unwrap()["task_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(boxes.read(&chat).await.outcome(), Some("length"));
    boxes
        .wait_pool("vectors", "to be ready", |pool| pool["health"]["ready"] == true)
        .await;
    let body = json!({"model_ref": MODEL, "workload": "embedding", "inputs": ["a", "b"]});
    let embedded = boxes.submit_as(&body).await;
    let Terminal::End(end) = boxes.read(&embedded).await.terminal else {
        panic!("no vectors")
    };
    assert_eq!(
        end["result"]["embeddings"].as_array().map(Vec::len),
        Some(2),
        "{end}"
    );

    let shown = boxes.system.pool(FAR).await.unwrap();
    let endpoint = format!("{}/v1/relay/{FAR}/r0", boxes.far.daemon.base_url());
    assert_eq!(shown["replicas"][0]["endpoint"], endpoint.as_str());
    let asked = boxes.engine().await.report().await.unwrap();
    assert!(
        asked
            .requests
            .iter()
            .any(|request| request.target == "/apply-template")
    );
    for request in &asked.requests {
        assert!(!format!("{:?}", request.headers).contains(TOKEN), "{request:?}");
    }
    let nodes = boxes
        .system
        .call(Call::get("/v1/nodes"))
        .await
        .unwrap()
        .json::<Value>()
        .unwrap();
    let relays: Vec<_> = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| &node["relay"])
        .collect();
    assert!(
        relays.contains(&&json!(true)) && relays.contains(&&json!(false)),
        "{nodes}"
    );
    if another_place().beyond_loopback {
        assert!(
            boxes.far.daemon.stderr().contains("unencrypted"),
            "{}",
            boxes.far.daemon.logs()
        );
        assert!(
            boxes.system.orchestrator.stderr().contains("unencrypted"),
            "{}",
            boxes.system.logs()
        );
    }
}

/// REQ-RELAY-STREAM: cancel is a contract over the relay too.
#[tokio::test]
async fn a_cancel_reaches_the_engine_through_the_relay() {
    let boxes = Boxes::start(Setting {
        script: paced(),
        ..Setting::default()
    })
    .await;
    let (task, mut stream) = boxes.running(4000).await;
    let cancel = Call::post(&format!("/v1/tasks/{task}/cancel"));
    assert_eq!(boxes.system.call(cancel).await.unwrap().status, 204);
    let rest = stream.all_events(LIMIT).await.unwrap();
    let last = rest.last().and_then(|event| event.name.as_deref());
    assert_eq!(last, Some("end"), "{rest:?}");
    boxes.wait_idle().await;
    let report = boxes.engine().await.report().await.unwrap();
    assert_eq!(last_end(&report), Some(&End::ClientGone));
    assert_eq!(
        boxes.run(FAR, 3).await.outcome(),
        Some("length"),
        "the slot serves on"
    );
}

/// REQ-RELAY-STREAM: before the first token there is nothing to read, and still the engine hears of a cancel at once.
#[tokio::test]
async fn a_cancel_during_prefill_reaches_the_engine() {
    let script = Script {
        first_token_delay_ms: 3_600_000,
        ..paced()
    };
    let boxes = Boxes::start(Setting {
        script,
        ..Setting::default()
    })
    .await;
    let task = boxes.submit(FAR, 10).await;
    boxes
        .wait_engine("the engine to work", |report| report.active == 1)
        .await;
    let cancel = Call::post(&format!("/v1/tasks/{task}/cancel"));
    assert_eq!(boxes.system.call(cancel).await.unwrap().status, 204);
    boxes.wait_idle().await;
}

/// ORCH-3208 over the relay: the engine's death is told with its last words.
#[tokio::test]
async fn a_dead_engine_is_told_with_its_last_lines() {
    let boxes = Boxes::start(Setting {
        script: paced(),
        ..Setting::default()
    })
    .await;
    let (task, mut stream) = boxes.running(4000).await;
    boxes.kill_engine().await;
    stream.all_events(LIMIT).await.unwrap();
    let stream = boxes.read(&task).await;
    let error = error_of(&stream);
    assert_eq!(error["code"], "WORKER_RESET", "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("signal 9"), "{message}");
    boxes
        .wait_pool(FAR, "to be ready again", |pool| {
            pool["health"]["ready"] == true && pool["replicas"][0]["generation"] == 2
        })
        .await;
    assert_eq!(boxes.run(FAR, 3).await.outcome(), Some("length"));
}

/// ORCH-3427: lost heartbeats take new work away and nothing else; they come back, and so does the work.
/// REQ-FAULT-MANAGER-HUNG.
#[tokio::test]
async fn a_silent_box_is_stale_and_never_dead() {
    let setting = Setting {
        script: paced(),
        config: IMPATIENT,
        ..Setting::default()
    };
    let (boxes, gate) = Boxes::whose_reports_can_be_lost(setting).await;
    let before = boxes
        .wait_pool(FAR, "to be ready", |pool| pool["health"]["ready"] == true)
        .await;
    let (task, mut stream) = boxes.running(1500).await;
    gate.close();
    let stale = boxes
        .wait_pool(FAR, "to be stale", |pool| pool["health"]["cause"] == "NODE_STALE")
        .await;
    assert_eq!(
        (&stale["health"]["live"], &stale["health"]["ready"]),
        (&json!(false), &json!(false))
    );
    let refused = boxes.try_submit(FAR, 3, json!({})).await;
    let body: Value = refused.json().unwrap();
    assert_eq!(
        (refused.status, &body["code"]),
        (503, &json!("POOL_UNREADY")),
        "{body}"
    );
    let rest = stream.all_events(LIMIT).await.unwrap();
    assert_eq!(rest.last().and_then(|event| event.name.as_deref()), Some("end"));
    let stream = boxes.read(&task).await;
    assert_eq!(
        (stream.outcome(), stream.tokens.len()),
        (Some("length"), 1500),
        "the stream goes on"
    );
    gate.open_to(boxes.system.address());
    let after = boxes
        .wait_pool(FAR, "to be ready again", |pool| pool["health"]["ready"] == true)
        .await;
    assert_eq!(
        after["replicas"][0]["pid"], before["replicas"][0]["pid"],
        "the same engine serves on"
    );
    assert_eq!(boxes.run(FAR, 3).await.outcome(), Some("length"));
}

/// I10, I16: a hung pool-managerd takes its relay along. The task is told, others take the work; what is still on its way
/// when the box goes on reaches nobody, and the engine is let go.
/// REQ-FAULT-MANAGER-HUNG.
#[tokio::test]
async fn a_box_that_hung_loses_its_work_and_is_not_heard_late() {
    let setting = Setting {
        script: paced(),
        config: "[orchestratord.nodes]\nstale_after_ms = 900\nheartbeat_interval_ms = 200\n\
                 [orchestratord.engine]\ntoken_idle_timeout_ms = 1500\n",
        ..Setting::default()
    };
    let boxes = Boxes::start(setting).await;
    let before = boxes.system.pool(FAR).await.unwrap();
    let (task, mut stream) = boxes.running(4000).await;
    boxes.far.daemon.signal(Signal::STOP).unwrap();
    boxes
        .wait_pool(FAR, "to be stale", |pool| pool["health"]["cause"] == "NODE_STALE")
        .await;
    stream.all_events(LIMIT).await.unwrap();
    let told = boxes.read(&task).await;
    assert_eq!(error_of(&told)["code"], "DECODE_TIMEOUT", "{:?}", told.terminal);
    let anywhere = json!({"model_ref": MODEL, "prompt": "the moon", "max_tokens": 3});
    let elsewhere = boxes.submit_as(&anywhere).await;
    assert_eq!(boxes.read(&elsewhere).await.outcome(), Some("length"));

    boxes.far.daemon.signal(Signal::CONT).unwrap();
    let after = boxes
        .wait_pool(FAR, "to be ready again", |pool| pool["health"]["ready"] == true)
        .await;
    assert_eq!(after["replicas"][0]["pid"], before["replicas"][0]["pid"]);
    boxes.wait_idle().await;
    assert_eq!(boxes.run(FAR, 3).await.outcome(), Some("length"));
    assert_eq!(
        boxes.read(&task).await.tokens,
        told.tokens,
        "nothing was added late"
    );
}

/// REQ-RELAY-START: an engine that was started again while its node could not say so is not asked by mistake.
#[tokio::test]
async fn a_newer_engine_is_not_asked_under_an_older_ones_name() {
    let setting = Setting {
        script: paced(),
        config: "[orchestratord.nodes]\nstale_after_ms = 600000\nheartbeat_interval_ms = 200\n",
        ..Setting::default()
    };
    let (boxes, gate) = Boxes::whose_reports_can_be_lost(setting).await;
    boxes
        .wait_pool(FAR, "to be ready", |pool| pool["health"]["ready"] == true)
        .await;
    gate.close();
    boxes.kill_engine().await;
    let again =
        |shown: &Value| shown["replicas"][0]["generation"] == 2 && shown["replicas"][0]["state"] == "ready";
    let look = || async {
        match boxes.far.pool(FAR).await {
            Ok(shown) if again(&shown) => Look::Ready(()),
            other => Look::NotYet(format!("{other:?}")),
        }
    };
    wait_for("the second engine", LIMIT, look).await.unwrap();
    let task = boxes.submit(FAR, 3).await;
    let moved = "relay_requests_total{outcome=\"moved\",pool_id=\"far\",replica_id=\"r0\"} ";
    let look = || async {
        let text = boxes
            .far
            .call(Call::get("/metrics"))
            .await
            .map(|answer| answer.text());
        match text {
            Ok(text) if text.contains(moved) => Look::Ready(()),
            other => Look::NotYet(format!("{other:?}")),
        }
    };
    wait_for("the request to be refused", LIMIT, look).await.unwrap();
    let asked = boxes.engine().await.report().await.unwrap();
    assert_eq!(
        last_end(&asked),
        None,
        "the second engine was asked for the first"
    );
    gate.open_to(boxes.system.address());
    boxes
        .wait_pool(FAR, "to be known as it is", |pool| {
            pool["replicas"][0]["generation"] == 2
        })
        .await;
    let outcome = boxes.read(&task).await;
    assert_eq!(outcome.outcome(), Some("length"), "{:?}", outcome.terminal);
}

/// Invariant 8 over the relay: a crashed orchestrator takes its task up again on the same far engine.
#[tokio::test]
async fn an_orchestrator_comes_back_to_its_far_box() {
    let mut boxes = Boxes::start(Setting {
        script: paced(),
        ..Setting::default()
    })
    .await;
    let before = boxes.system.pool(FAR).await.unwrap();
    let (task, stream) = boxes.running(600).await;
    boxes.system.orchestrator.kill().unwrap();
    boxes.system.orchestrator.wait(LIMIT).await.unwrap();
    drop(stream);
    boxes.system.restart_orchestrator().await.unwrap();
    let after = boxes
        .wait_pool(FAR, "to be ready again", |pool| pool["health"]["ready"] == true)
        .await;
    assert_eq!(after["replicas"][0]["pid"], before["replicas"][0]["pid"]);
    let look = || async {
        let call = Call::get(&format!("/v1/tasks/{task}"));
        let status: Value = boxes.system.call(call).await.unwrap().json().unwrap();
        match status["state"].as_str() {
            Some("completed") => Look::Ready(status),
            _ => Look::NotYet(status),
        }
    };
    let done = wait_for("the task to complete", LIMIT, look).await;
    done.unwrap_or_else(|error| panic!("{error}\n{}", boxes.system.logs()));
    boxes.wait_idle().await;
}

/// A node that comes back under the same name is reached anew, under its own count.
#[tokio::test]
async fn a_restarted_node_is_reached_anew() {
    let mut boxes = Boxes::start(Setting {
        script: Script::default().tokens(100),
        config: IMPATIENT,
        ..Setting::default()
    })
    .await;
    assert_eq!(boxes.run(FAR, 3).await.outcome(), Some("length"));
    boxes.far.daemon.signal(Signal::TERM).unwrap();
    boxes.far.daemon.wait(LIMIT).await.unwrap();
    boxes.far.start_again().await.unwrap();
    boxes
        .wait_pool(FAR, "to be ready again", |pool| {
            pool["health"]["ready"] == true && pool["health"]["live"] == true
        })
        .await;
    assert_eq!(boxes.run(FAR, 3).await.outcome(), Some("length"));
}

/// The network between the orchestrator and a relay breaks: the task is told, the engine is let go.
#[tokio::test]
async fn a_cut_network_frees_both_ends() {
    let setting = Setting {
        script: paced(),
        ..Setting::default()
    };
    let system = orchestrator(&setting).await;
    let gate = Gate::closed().await.unwrap();
    let setting = Setting {
        env: vec![
            ("POOL_MANAGERD_RELAY", "always".to_owned()),
            ("POOL_MANAGERD_ADVERTISE_URL", gate.base_url()),
        ],
        ..setting
    };
    let far = join(&system, &setting).await;
    gate.open_to(far.daemon.address());
    let boxes = Boxes { system, far };
    boxes
        .wait_pool(FAR, "to be ready", |pool| pool["health"]["ready"] == true)
        .await;
    let (task, mut stream) = boxes.running(4000).await;
    gate.close();
    stream.all_events(LIMIT).await.unwrap();
    let ended = boxes.read(&task).await;
    assert_eq!(error_of(&ended)["code"], "WORKER_RESET", "{:?}", ended.terminal);
    let report = boxes
        .wait_engine("the engine's slot to be free", |report| report.active == 0)
        .await;
    assert_eq!(last_end(&report), Some(&End::ClientGone));
    gate.open_to(boxes.far.daemon.address());
    boxes.wait_idle().await;
    assert_eq!(boxes.run(FAR, 3).await.outcome(), Some("length"));
}

/// REQ-RELAY-WAY-BACK: a node whose address does not lead to it is told what the orchestrator found there.
#[tokio::test]
async fn a_node_that_cannot_be_reached_is_told_so() {
    let setting = Setting::default();
    let system = orchestrator(&setting).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let another = system.node.base_url();
    let place = another_place();
    let fixed = std::net::TcpListener::bind(SocketAddr::new(place.ip, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let mut cases = vec![
        (format!("http://{nobody}"), "cannot reach", "firewall"),
        (another, "leads to node", "pool_managerd.advertise_url"),
        (
            format!("http://{}", system.address()),
            "404 NOT_FOUND",
            "pool_managerd.advertise_url",
        ),
    ];
    if place.beyond_loopback {
        cases.push((
            format!("http://localhost:{}", fixed.port()),
            "cannot reach",
            "firewall",
        ));
    }
    for (address, words, hint) in cases {
        let setting = Setting {
            env: vec![
                ("POOL_MANAGERD_ADVERTISE_URL", address.clone()),
                ("POOL_MANAGERD_RELAY", "always".to_owned()),
            ],
            ..Setting::default()
        };
        let far = join(&system, &setting).await;
        let look = || async {
            let said = far.daemon.stderr();
            let line = said
                .lines()
                .find(|line| line.contains(words) && line.contains(hint));
            match line {
                Some(line) => Look::Ready(line.to_owned()),
                None => Look::NotYet(said),
            }
        };
        let line = wait_for(&format!("{words} … {hint}"), LIMIT, look).await.unwrap();
        assert!(line.contains(&address), "{line}");
        let nodes = system.call(Call::get("/v1/nodes")).await.unwrap().text();
        assert!(!nodes.contains("far-box"), "{nodes}");
        assert_eq!(
            far.pool(FAR).await.unwrap()["pool_id"],
            FAR,
            "its engines are left alone"
        );
    }
}
