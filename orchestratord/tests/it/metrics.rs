//! ORCH-3460: the families, types and labels of `ci/metrics.lint.json`, after real traffic; a scrape
//! only reads.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::json;
use test_harness_support::binaries::workspace_root;
use test_harness_support::http1::Call;

use crate::fixture::{Fixture, LIMIT, fast, paced, task, task_with};

#[derive(Deserialize)]
struct Lint {
    families: Vec<Family>,
}

#[derive(Deserialize)]
struct Family {
    name: String,
    r#type: String,
    labels: BTreeSet<String>,
    max_series: usize,
}

/// Family name → type.
type Types = BTreeMap<String, String>;

/// Series name → label names of each of its series.
type Series = BTreeMap<String, Vec<BTreeSet<String>>>;

fn parse(text: &str) -> (Types, Series) {
    let mut types = Types::new();
    let mut series = Series::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let (name, labels) = line.split_once('{').map_or_else(
                || (line.split(' ').next().unwrap(), BTreeSet::new()),
                |(name, rest)| (name, label_names(rest.split_once('}').unwrap().0)),
            );
            series.entry(name.to_owned()).or_default().push(labels);
        }
    }
    (types, series)
}

fn label_names(text: &str) -> BTreeSet<String> {
    text.split("\",")
        .map(|pair| pair.split('=').next().unwrap().to_owned())
        .filter(|name| name != "le")
        .collect()
}

async fn traffic(fixture: &Fixture) {
    let done = fixture.submit(&task(6)).await;
    fixture.read(&done).await;
    let canceled = fixture.submit(&task(1000)).await;
    fixture
        .wait_status(&canceled, "it to run", |status| status["state"] == "running")
        .await;
    for _ in 0..3 {
        fixture.post(&task_with(4, json!({"priority": "batch"}))).await;
    }
    fixture
        .call(Call::post(&format!("/v1/tasks/{canceled}/cancel")))
        .await;
    fixture
        .post(&json!({"model_ref": "nonesuch", "prompt": "x"}))
        .await;
    fixture.wait_idle().await;
}

#[tokio::test]
async fn the_contract_holds_after_real_traffic() {
    let fixture = Fixture::start(&[("p", 1, paced())], "[orchestratord.queue]\ncapacity = 2\n", &[]).await;
    traffic(&fixture).await;
    let text = fixture.call(Call::get("/metrics")).await.text();
    let (types, series) = parse(&text);
    let lint: Lint =
        serde_json::from_slice(&std::fs::read(workspace_root().join("ci/metrics.lint.json")).unwrap())
            .unwrap();
    for family in &lint.families {
        assert_eq!(
            types.get(&family.name),
            Some(&family.r#type),
            "{}: {text}",
            family.name
        );
        let suffix = if family.r#type == "histogram" {
            "_count"
        } else {
            ""
        };
        let found = series
            .get(&format!("{}{suffix}", family.name))
            .unwrap_or_else(|| panic!("{} has no series", family.name));
        assert!(found.len() <= family.max_series, "{}", family.name);
        assert!(
            found.iter().all(|labels| *labels == family.labels),
            "{}: {found:?}",
            family.name
        );
    }
    let known: BTreeSet<&String> = lint.families.iter().map(|family| &family.name).collect();
    let unknown: Vec<_> = types.keys().filter(|name| !known.contains(name)).collect();
    assert!(
        unknown.is_empty(),
        "families without a place in the contract: {unknown:?}"
    );
    for fed in [
        "tasks_enqueued_total",
        "tasks_started_total",
        "tasks_canceled_total",
        "tasks_rejected_total",
        "tokens_out_total",
    ] {
        let values = text
            .lines()
            .filter(|line| line.starts_with(fed))
            .map(|line| line.rsplit(' ').next().unwrap());
        assert!(
            values.map(|v| v.parse::<f64>().unwrap()).sum::<f64>() > 0.0,
            "{fed} was not fed"
        );
    }
}

#[tokio::test]
async fn a_scrape_only_reads() {
    let fixture = Fixture::one(1, fast()).await;
    fixture.read(&fixture.submit(&task(3)).await).await;
    fixture.wait_idle().await;
    let first = fixture.call(Call::get("/metrics")).await.text();
    let second = fixture.call(Call::get("/metrics")).await.text();
    assert_eq!(first, second);
}

/// ORCH-3462: what was streamed is counted when the run ends; no token touches a family.
#[tokio::test]
async fn tokens_are_counted_once_a_run_and_not_one_by_one() {
    let fixture = Fixture::one(1, paced()).await;
    let task = fixture.submit(&task(400)).await;
    let mut reader = fixture.open(&task, None).await;
    let mut seen = 0;
    while seen < 20 {
        let event = reader.next_event(LIMIT).await.unwrap().unwrap();
        seen += u32::from(event.name.as_deref() == Some("token"));
    }
    let meanwhile = fixture.call(Call::get("/metrics")).await.text();
    assert!(!meanwhile.contains("\ntokens_out_total{"), "{meanwhile}");
    reader.all_events(LIMIT).await.unwrap();
    fixture.wait_idle().await;
    let after = fixture.call(Call::get("/metrics")).await.text();
    let counted = after.lines().find(|line| line.starts_with("tokens_out_total{"));
    assert!(counted.unwrap().ends_with(" 400"), "{counted:?}");
}
