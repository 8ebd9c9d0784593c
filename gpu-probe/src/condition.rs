//! What a driver's error reports mean for a card. Pure. The classes follow NVIDIA's Xid catalogue and what its device
//! plugin does with it: errors of an application end with the application; a card that has lost rows or pages, or whose
//! helper processor has died, wants a reset once it is idle; one that has fallen off its bus or asks for a reboot does
//! no work any more.

use std::collections::BTreeMap;

use api_types::pool::{GpuCondition, GpuReport};

/// Errors that an application makes: its own engine ends by itself and is started again.
const APPLICATION: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// Errors after which nothing can be trusted to run on the card.
const UNUSABLE: [u64; 4] = [46, 62, 79, 154];

/// What an Xid makes of a card. An error that is not known is taken seriously: the driver calls it critical.
#[must_use]
pub(super) fn of_xid(xid: u64) -> GpuCondition {
    if APPLICATION.contains(&xid) {
        GpuCondition::Healthy
    } else if UNUSABLE.contains(&xid) {
        GpuCondition::Unusable
    } else {
        GpuCondition::NeedsReset
    }
}

/// What is remembered of the cards since the daemon's start: a bad card stays bad, however well it answers, until a
/// person has looked after it and the daemon is started again.
#[derive(Debug, Default)]
pub(super) struct Conditions(BTreeMap<String, Memory>);

#[derive(Debug, Default)]
struct Memory {
    condition: GpuCondition,
    last_xid: Option<u64>,
    uncorrected: Option<u64>,
}

impl Conditions {
    /// An Xid was reported for a card.
    pub(super) fn xid(&mut self, uuid: &str, xid: u64) {
        let memory = self.0.entry(uuid.to_owned()).or_default();
        memory.last_xid = Some(xid);
        memory.condition = memory.condition.max(of_xid(xid));
    }

    /// Writes what is remembered into a card's report, and remembers its error counters: one that grows is a memory
    /// error that nobody could correct.
    pub(super) fn judge(&mut self, card: &mut GpuReport) {
        let memory = self.0.entry(card.uuid.clone()).or_default();
        if let (Some(before), Some(now)) = (memory.uncorrected, card.ecc_uncorrected)
            && now > before
        {
            memory.condition = memory.condition.max(GpuCondition::NeedsReset);
        }
        memory.uncorrected = card.ecc_uncorrected.or(memory.uncorrected);
        card.condition = memory.condition;
        card.last_xid = memory.last_xid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(conditions: &mut Conditions, uncorrected: Option<u64>) -> (GpuCondition, Option<u64>) {
        let mut card = GpuReport {
            uuid: "GPU-a".into(),
            ecc_uncorrected: uncorrected,
            ..GpuReport::default()
        };
        conditions.judge(&mut card);
        (card.condition, card.last_xid)
    }

    #[test]
    fn each_class_of_xid_has_its_condition() {
        for xid in [13, 31, 43, 45, 68, 109] {
            assert_eq!(of_xid(xid), GpuCondition::Healthy, "{xid}");
        }
        for xid in [48, 63, 64, 74, 92, 94, 95, 119, 120, 140, 12_345] {
            assert_eq!(of_xid(xid), GpuCondition::NeedsReset, "{xid}");
        }
        for xid in [46, 62, 79, 154] {
            assert_eq!(of_xid(xid), GpuCondition::Unusable, "{xid}");
        }
    }

    #[test]
    fn a_bad_card_stays_bad_and_never_gets_better_by_a_lesser_error() {
        let mut conditions = Conditions::default();
        assert_eq!(judged(&mut conditions, None), (GpuCondition::Healthy, None));
        conditions.xid("GPU-a", 79);
        conditions.xid("GPU-a", 13);
        assert_eq!(judged(&mut conditions, None), (GpuCondition::Unusable, Some(13)));
        conditions.xid("GPU-b", 48);
        assert_eq!(judged(&mut conditions, None).0, GpuCondition::Unusable);
    }

    #[test]
    fn only_uncorrected_errors_that_are_new_count() {
        let mut conditions = Conditions::default();
        assert_eq!(judged(&mut conditions, Some(7)).0, GpuCondition::Healthy);
        assert_eq!(judged(&mut conditions, None).0, GpuCondition::Healthy);
        assert_eq!(judged(&mut conditions, Some(7)).0, GpuCondition::Healthy);
        assert_eq!(judged(&mut conditions, Some(8)).0, GpuCondition::NeedsReset);
    }
}
