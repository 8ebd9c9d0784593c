//! Why a task is where it is: the decision, its replay, and every pool with its numbers.

use orchestrator_core::policy::{DecisionLog, DecisionRecord, Outcome, Replay, Stage, Verdict, verdicts};
use orchestrator_core::policy::{PlacementDecision, PoolView};
use serde::Serialize;

use super::table::{Look, Tone, cell, draw, pairs, toned};
use super::text::{digest, duration, gib, wire};

/// The answer as a JSON document: the record, and what the replay said.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'r> {
    record: &'r DecisionRecord,
    replay: ReplayDocument<'r>,
}

#[derive(Debug, Serialize)]
struct ReplayDocument<'r> {
    agrees: bool,
    result: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'r PlacementDecision>,
}

/// The record and its replay as data.
pub(crate) fn document<'r>(record: &'r DecisionRecord, replay: &'r Replay) -> Document<'r> {
    Document {
        record,
        replay: ReplayDocument {
            agrees: *replay == Replay::Agrees,
            result: result(replay),
            decision: match replay {
                Replay::Differs(again) => Some(again),
                Replay::Agrees | Replay::OtherRules { .. } | Replay::OtherInput | Replay::NoInput => None,
            },
        },
    }
}

/// The record and its replay for people.
pub(crate) fn show(record: &DecisionRecord, replay: &Replay, look: Look) -> String {
    let log = &record.decision;
    let mut text = pairs(&[
        ("task", record.task_id.map(|task| task.to_string())),
        ("decision", Some(record.human.clone())),
        ("made", Some(made(record.stage).to_owned())),
        ("outcome", Some(outcome(&record.outcome))),
        ("filters", Some(filters(log))),
        ("candidates", Some(log.candidates_considered.to_string())),
        ("decided by", decided_by(log)),
        ("pinned", log.pinned.then(|| "yes".to_owned())),
        ("fallback", log.fallback_used.then(|| "used".to_owned())),
        (
            "rules",
            Some(format!(
                "{}, snapshot {}",
                log.policy_version, log.snapshot_version
            )),
        ),
        (
            "input",
            record
                .input_digest
                .as_deref()
                .map(|text| digest(text).into_owned()),
        ),
        ("replay", Some(result(replay))),
    ]);
    if let Some(input) = &record.input {
        text.push('\n');
        text.push_str(&pools(verdicts(input), look));
    }
    text
}

const fn made(stage: Stage) -> &'static str {
    match stage {
        Stage::Preview => "now, nothing was submitted",
        Stage::Waiting => "now, the task still waits",
        Stage::Left => "when the task left the queue without a slot",
        Stage::Placed => "when the task got its slot",
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Placed { pool_id } => format!("placed on {pool_id}"),
        Outcome::Wait { pool_id, because } => format!("waits for {pool_id} ({})", wire(because)),
        Outcome::Refused(refused) => format!("refused ({}): {refused}", refused.refusal.reason()),
    }
}

/// The filters in the order they were asked, with the pools that each removed.
fn filters(log: &DecisionLog) -> String {
    let applied = log.filters_applied.iter();
    let words: Vec<String> = applied
        .map(|filter| format!("{} -{}", wire(&filter.filter), filter.removed))
        .collect();
    words.join(", ")
}

fn decided_by(log: &DecisionLog) -> Option<String> {
    let words: Vec<String> = log.tie_breakers_applied.iter().map(wire).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn result(replay: &Replay) -> String {
    match replay {
        Replay::Agrees => "agrees: the stored input gives the same decision here".to_owned(),
        Replay::Differs(again) => format!("DIFFERS: the stored input gives {} here", outcome(&again.outcome)),
        Replay::OtherRules { made_by, own } => {
            format!("not possible: decided by rules {made_by}, this command has rules {own}")
        }
        Replay::OtherInput => "DIFFERS: the input is not the one that the digest was made of".to_owned(),
        Replay::NoInput => "not possible: the input is not kept any more".to_owned(),
    }
}

fn pools(verdicts: Vec<(&PoolView, Verdict)>, look: Look) -> String {
    let header = [
        "POOL",
        "RANK",
        "STATE",
        "SLOTS FREE",
        "NEXT FREE",
        "TOK/S",
        "VRAM FREE",
        "WHY NOT",
    ];
    let rows = verdicts.into_iter().map(|(pool, verdict)| {
        let (rank, why, tone) = match verdict {
            Verdict::Candidate { rank: 0 } => ("1".to_owned(), String::new(), Tone::Good),
            Verdict::Candidate { rank } => ((rank + 1).to_string(), String::new(), Tone::Doubtful),
            Verdict::LeftOut(infeasible) => ("-".to_owned(), infeasible.why.to_string(), Tone::Bad),
        };
        vec![
            cell(pool.pool_id.as_str()),
            toned(rank, tone, look),
            cell(wire(&pool.readiness)),
            cell(format!("{}/{}", pool.slots_free, pool.slots_total)),
            cell(known(pool.predicted_free_ms.map(duration))),
            cell(known(
                pool.decode_mtps
                    .map(|mtps| format!("{:.1}", mtps as f64 / 1000.0)),
            )),
            cell(known(pool.vram_free_bytes.map(gib))),
            cell(why),
        ]
    });
    draw(look, &header, rows)
}

fn known(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn a_decision_is_told_with_its_replay() {
        let record = samples::decision();
        let replay = record.replay();
        assert_eq!(replay, Replay::Agrees);
        insta::assert_snapshot!("decision", show(&record, &replay, Look::Piped));
        let json = serde_json::to_string_pretty(&document(&record, &replay)).unwrap();
        insta::assert_snapshot!("decision_json", json);
    }

    #[test]
    fn each_failed_replay_says_why() {
        let mut record = samples::decision();
        record.decision.candidates_considered += 1;
        let replay = record.replay();
        assert!(matches!(replay, Replay::Differs(_)), "{replay:?}");
        assert!(show(&record, &replay, Look::Piped).contains("DIFFERS"));
        let mut record = samples::decision();
        record.decision.policy_version += 1;
        assert!(matches!(record.replay(), Replay::OtherRules { .. }));
        let mut record = samples::decision();
        record.input_digest = Some("sha256:00".into());
        assert_eq!(record.replay(), Replay::OtherInput);
        record.input = None;
        assert_eq!(record.replay(), Replay::NoInput);
        assert!(show(&record, &Replay::NoInput, Look::Piped).contains("not kept"));
    }
}
