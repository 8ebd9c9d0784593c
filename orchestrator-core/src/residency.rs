//! Which loaded pools make room for another one. Pure.

use std::cmp::Reverse;

use api_types::PoolId;

/// A loaded pool that may make room: it is idle, and neither pinned nor just chosen itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// The pool.
    pub pool_id: PoolId,
    /// Those of lower priority make room first.
    pub priority: u32,
    /// For how long nothing ran there, ms.
    pub idle_ms: u64,
    /// How long it takes to load it again, ms; absent until measured.
    pub load_ms: Option<u64>,
    /// What it holds on the GPUs in question, bytes.
    pub bytes: u64,
}

/// The pools to unload so that `needed` bytes fit where `free` are free now: of low priority first, then those that were
/// idle longest, then those that are back soonest. `None` if all of them together would not make room. Each one that is
/// named is needed (REQ-MODEL-EVICTION).
#[must_use]
pub fn victims(needed: u64, free: u64, mut residents: Vec<Resident>) -> Option<Vec<PoolId>> {
    residents.sort_by_key(|resident| {
        let back_in = resident.load_ms.unwrap_or(u64::MAX);
        (
            resident.priority,
            Reverse(resident.idle_ms),
            back_in,
            resident.pool_id.clone(),
        )
    });
    let mut room = free;
    let mut chosen: Vec<Resident> = Vec::new();
    for resident in residents {
        if room >= needed {
            break;
        }
        room = room.saturating_add(resident.bytes);
        chosen.push(resident);
    }
    if room < needed {
        return None;
    }
    // A large one that came last may make those before it needless: the ones that would go last are spared first.
    for index in (0..chosen.len()).rev() {
        let without = room.saturating_sub(chosen[index].bytes);
        if without >= needed {
            room = without;
            chosen.remove(index);
        }
    }
    Some(chosen.into_iter().map(|resident| resident.pool_id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resident(id: &str, priority: u32, idle_ms: u64, load_ms: Option<u64>, bytes: u64) -> Resident {
        Resident {
            pool_id: PoolId::new(id).unwrap(),
            priority,
            idle_ms,
            load_ms,
            bytes,
        }
    }

    fn names(chosen: Option<Vec<PoolId>>) -> Option<Vec<String>> {
        Some(chosen?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn priority_then_idleness_then_load_time_decide() {
        let pools = || {
            vec![
                resident("dear", 5, 900, None, 10),
                resident("fresh", 0, 10, None, 10),
                resident("slow", 0, 500, Some(9000), 10),
                resident("quick", 0, 500, Some(100), 10),
            ]
        };
        let order = ["quick", "slow", "fresh", "dear"];
        for (count, needed) in [10, 20, 30, 40].into_iter().enumerate() {
            let expected = order[..=count].iter().map(ToString::to_string).collect();
            assert_eq!(names(victims(needed, 0, pools())), Some(expected));
        }
        assert_eq!(victims(41, 0, pools()), None);
        assert_eq!(names(victims(41, 41, pools())), Some(vec![]));
    }

    #[test]
    fn who_is_not_needed_stays() {
        let pools = vec![
            resident("small", 0, 9, None, 1),
            resident("large", 0, 5, None, 10),
        ];
        assert_eq!(names(victims(10, 0, pools)), Some(vec!["large".to_owned()]));
    }

    proptest! {
        /// REQ-MODEL-EVICTION.
        #[test]
        fn the_chosen_make_room_and_each_of_them_is_needed(
            sizes in prop::collection::vec((0_u32..3, 0_u64..100, 1_u64..50), 0..8), needed in 0_u64..300, free in 0_u64..100,
        ) {
            let residents: Vec<Resident> = sizes
                .iter()
                .enumerate()
                .map(|(n, &(priority, idle_ms, bytes))| resident(&format!("p{n}"), priority, idle_ms, None, bytes))
                .collect();
            let all: u64 = residents.iter().map(|resident| resident.bytes).sum();
            let bytes = |id: &PoolId| residents.iter().find(|it| it.pool_id == *id).map_or(0, |it| it.bytes);
            match victims(needed, free, residents.clone()) {
                None => prop_assert!(free + all < needed),
                Some(chosen) => {
                    let room: u64 = free + chosen.iter().map(bytes).sum::<u64>();
                    prop_assert!(room >= needed);
                    prop_assert!(chosen.iter().all(|id| room - bytes(id) < needed), "{chosen:?}");
                }
            }
        }
    }
}
