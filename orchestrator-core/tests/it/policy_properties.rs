//! What holds for every placement decision, over random pools and jobs.

use orchestrator_core::policy::{
    DecisionCache, DecisionRecord, Filter, JobSpec, MAX_SENTENCE, Outcome, PlacementDecision, PlacementInput,
    Readiness, Replay, Snapshot, Stage, Verdict, can_start_now, could_serve, decide, explain, verdicts,
};
use proptest::prelude::*;

use super::fixtures::{any_job, any_snapshot};

fn decided(job: &JobSpec, snapshot: &Snapshot) -> PlacementDecision {
    decide(&PlacementInput::new(job, snapshot))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// ORCH-3252, ORCH-3900.
    #[test]
    fn the_order_of_pools_does_not_matter(job in any_job(), snapshot in any_snapshot(), turn in 0usize..5) {
        let mut turned = snapshot.clone();
        let len = turned.pools.len().max(1);
        turned.pools.rotate_left(turn % len);
        prop_assert_eq!(decided(&job, &turned), decided(&job, &snapshot));
        turned.pools.reverse();
        prop_assert_eq!(decided(&job, &turned), decided(&job, &snapshot));
    }

    /// ORCH-3252, ORCH-3900.
    #[test]
    fn a_stored_input_replays_to_its_stored_decision(job in any_job(), snapshot in any_snapshot()) {
        let input = PlacementInput::new(&job, &snapshot);
        let decision = decide(&input);
        let stored = (serde_json::to_string(&input).unwrap(), serde_json::to_string(&decision).unwrap());
        let input: PlacementInput<'static> = serde_json::from_str(&stored.0).unwrap();
        let read: PlacementDecision = serde_json::from_str(&stored.1).unwrap();
        prop_assert_eq!(decide(&input), read);
    }

    /// REQ-PLACEMENT-CACHE: whatever is asked in whatever order, while slots are taken, snapshots
    /// replaced and time passes, a cached answer is the answer.
    #[test]
    fn the_cache_never_changes_a_decision(
        jobs in prop::collection::vec(any_job(), 1..6),
        snapshots in prop::collection::vec(any_snapshot(), 1..4),
        asked in prop::collection::vec((0usize..6, 0u8..12, 0u64..400), 1..60),
        ttl_ms in 0u64..1000,
    ) {
        let mut cache = DecisionCache::new(ttl_ms);
        let (mut version, mut current, mut now) = (0, 0, 0);
        let mut snapshot = Snapshot { version, ..snapshots[0].clone() };
        let asks = asked.len() as u64;
        for (job, change, pause) in asked {
            now += pause;
            match change {
                0 => {
                    current += 1;
                    version = snapshot.version + 1;
                    snapshot = Snapshot { version, ..snapshots[current % snapshots.len()].clone() };
                }
                1 => {
                    let free = snapshot.pools.iter().find(|pool| pool.has_free_slot()).map(|pool| pool.pool_id.clone());
                    if let Some(pool) = free {
                        prop_assert!(snapshot.take_slot(&pool).is_ok());
                    }
                }
                _ => {}
            }
            let job = &jobs[job % jobs.len()];
            prop_assert_eq!(&*cache.decide(job, &snapshot, now), &decided(job, &snapshot));
        }
        let (hits, misses) = cache.hits_and_misses();
        prop_assert_eq!(hits + misses, asks);
    }

    /// REQ-DECISION-REPLAY: what the API shows is enough to decide again, and any change of it shows.
    #[test]
    fn a_record_read_back_replays_and_a_changed_one_does_not(job in any_job(), snapshot in any_snapshot(), more in 1u32..9) {
        let decision = decided(&job, &snapshot);
        let record = DecisionRecord::new(Stage::Placed, job, snapshot, decision);
        let text = serde_json::to_string(&record).unwrap();
        let mut read: DecisionRecord = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &record);
        prop_assert_eq!(read.replay(), Replay::Agrees);
        if let Some(input) = &mut read.input {
            input.job.to_mut().ctx_tokens += more;
        }
        prop_assert_eq!(read.replay(), Replay::OtherInput);
        let mut read = record;
        read.decision.candidates_considered += more;
        prop_assert!(matches!(read.replay(), Replay::Differs(_)));
    }

    #[test]
    fn verdicts_name_the_chosen_pool_first_and_every_pool_once(job in any_job(), snapshot in any_snapshot()) {
        let input = PlacementInput::new(&job, &snapshot);
        let verdicts = verdicts(&input);
        prop_assert_eq!(verdicts.len(), snapshot.pools.len());
        let candidates = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Candidate { .. })).count();
        let decision = decide(&input);
        prop_assert_eq!(candidates, decision.log.candidates_considered as usize);
        if let Some(chosen) = decision.outcome.pool_id() {
            prop_assert_eq!(&verdicts[0].0.pool_id, chosen);
        }
    }

    #[test]
    fn it_places_exactly_if_some_pool_can_start_it(job in any_job(), snapshot in any_snapshot()) {
        let startable = |pool| can_start_now(&job, pool);
        match decided(&job, &snapshot).outcome {
            Outcome::Placed { pool_id } => prop_assert!(snapshot.pool(&pool_id).is_some_and(startable)),
            Outcome::Wait { pool_id, .. } => {
                prop_assert!(!snapshot.pools.iter().any(startable));
                prop_assert!(snapshot.pool(&pool_id).is_some_and(|pool| could_serve(&job, pool)));
            }
            Outcome::Refused(refused) => {
                prop_assert!(!snapshot.pools.iter().any(startable));
                let waitable = |r: Readiness| matches!(r, Readiness::Ready | Readiness::Starting);
                prop_assert!(!snapshot.pools.iter().any(|p| could_serve(&job, p) && waitable(p.readiness)));
                let may_come = snapshot.pools.iter().any(|pool| could_serve(&job, pool));
                prop_assert_eq!(refused.refusal.reason() == "not_ready", may_come);
            }
        }
    }

    /// ORCH-3411.
    #[test]
    fn every_pool_is_a_candidate_or_counted_once(job in any_job(), snapshot in any_snapshot()) {
        let log = decided(&job, &snapshot).log;
        let removed: u32 = log.filters_applied.iter().map(|applied| applied.removed).sum();
        prop_assert_eq!((removed + log.candidates_considered) as usize, snapshot.pools.len());
        prop_assert!(log.filters_applied.is_sorted_by_key(|applied| applied.filter));
        prop_assert!(log.tie_breakers_applied.is_sorted());
        prop_assert_eq!(log.tie_breakers_applied.is_empty(), log.candidates_considered < 2);
    }

    #[test]
    fn less_context_is_never_harder_to_place(job in any_job(), snapshot in any_snapshot(), less in 0u32..9000) {
        let smaller = JobSpec { ctx_tokens: job.ctx_tokens.saturating_sub(less), ..job.clone() };
        for pool in &snapshot.pools {
            prop_assert!(!can_start_now(&job, pool) || can_start_now(&smaller, pool));
        }
    }

    #[test]
    fn overrides_without_fallback_are_never_loosened(job in any_job(), snapshot in any_snapshot()) {
        let placement = &job.needs.placement;
        if let Some(chosen) = decided(&job, &snapshot).outcome.pool_id() {
            prop_assert!(placement.pin_pool_id.as_ref().is_none_or(|pin| pin == chosen));
            if !placement.allow_fallback {
                prop_assert!(placement.prefer_pools.is_empty() || placement.prefer_pools.contains(chosen));
                prop_assert!(!placement.avoid_pools.contains(chosen));
            }
        }
    }

    #[test]
    fn the_sentence_is_short_and_plain(job in any_job(), snapshot in any_snapshot()) {
        let input = PlacementInput::new(&job, &snapshot);
        let sentence = explain(&input, &decide(&input));
        prop_assert!(sentence.chars().count() <= MAX_SENTENCE, "{}", sentence);
        prop_assert!(sentence.ends_with('.'));
    }
}

#[test]
fn filters_are_listed_in_the_order_they_are_asked() {
    assert!(Filter::ALL.is_sorted());
}
