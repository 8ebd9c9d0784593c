//! What an operator sees: counters and narration.

use std::collections::BTreeMap;

use adapter_api::AdapterErrorKind;
use adapter_host::AdapterHost;
use narration_core::Recorder;
use prometheus::Registry;
use test_harness_support::scripted_engine::{EngineError, Fault, FaultKind, Script, ScriptedEngine};

use crate::common::{OPTIONS, bind, generate, target};

/// Every series as `name{label values}` with its value, zeros left out.
fn series(registry: &Registry) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for family in registry.gather() {
        for metric in family.get_metric() {
            let labels: Vec<_> = metric
                .get_label()
                .iter()
                .map(|l| format!("{}={}", l.name(), l.value()))
                .collect();
            let value = metric.get_counter().get_value();
            if value > 0.0 {
                out.insert(format!("{}{{{}}}", family.name(), labels.join(",")), value as u64);
            }
        }
    }
    out
}

#[tokio::test]
async fn generations_failures_and_trips_are_counted_per_replica() {
    let registry = Registry::new();
    let host = AdapterHost::new(OPTIONS, &registry).unwrap();
    let engine = ScriptedEngine::start(Script::default().tokens(20)).await.unwrap();
    bind(&host, 1, &engine);
    generate(&host).await.unwrap();
    engine.set_script(Script::default().tokens(20).fault(Fault::at(2, FaultKind::Fin)));
    for _ in 0..OPTIONS.breaker.faults_to_open {
        assert_eq!(generate(&host).await.unwrap_err().kind, AdapterErrorKind::Reset);
    }
    // Refused by the breaker: neither sent nor failed at the engine.
    generate(&host).await.unwrap_err();
    let replica = "engine=llamacpp,pool_id=pool-a,replica_id=r0";
    let failure = "engine=llamacpp,kind=reset,pool_id=pool-a,replica_id=r0";
    let expected = BTreeMap::from([
        (format!("adapter_submits_total{{{replica}}}"), 4),
        (format!("adapter_failures_total{{{failure}}}"), 3),
        (format!("breaker_trips_total{{{replica}}}"), 1),
    ]);
    assert_eq!(series(&registry), expected);
    // Counters outlive a generation.
    engine.set_script(Script::default().tokens(20));
    bind(&host, 2, &engine);
    generate(&host).await.unwrap();
    assert_eq!(
        series(&registry)[&format!("adapter_submits_total{{{replica}}}")],
        5
    );
}

#[tokio::test]
async fn the_story_of_a_replica_is_told_without_the_engines_words() {
    let recorder = Recorder::new();
    let host = AdapterHost::new(OPTIONS, &Registry::new()).unwrap();
    let secret = "Failed to parse messages: the-clients-words";
    let fault = FaultKind::InStreamError(EngineError::new(500, "x", secret));
    let engine = ScriptedEngine::start(Script::default().fault(Fault::at(2, fault)))
        .await
        .unwrap();
    let story = async {
        bind(&host, 1, &engine);
        assert!(
            generate(&host)
                .await
                .unwrap_err()
                .message
                .contains("the-clients-words")
        );
        engine.set_script(Script::default().fault(Fault::at(2, FaultKind::Fin)));
        for _ in 0..OPTIONS.breaker.faults_to_open {
            generate(&host).await.unwrap_err();
        }
        bind(&host, 2, &engine);
        host.unbind(&target());
    };
    recorder.follow(story).await;
    let lines = recorder.lines();
    let actions: Vec<&str> = lines.iter().map(|line| line.action()).collect();
    assert_eq!(
        actions,
        ["bind", "fail", "fail", "fail", "fail", "rest", "rebind", "unbind"]
    );
    for line in &lines {
        assert_eq!(
            (line.actor(), line.field("target"), line.field("pool_id")),
            ("adapter-host", "pool-a/r0", "pool-a")
        );
        assert!(
            !line
                .fields
                .values()
                .any(|text| text.contains("the-clients-words")),
            "{line:?}"
        );
    }
    assert_eq!(lines[1].field("job_id"), "00000000-0000-0000-0000-000000000007");
    assert!(
        lines[5].human().starts_with("leaves the engine alone for "),
        "{:?}",
        lines[5]
    );
}
