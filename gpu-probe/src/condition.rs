//! What a driver's readings and error reports mean for a card. Pure. The classes follow NVIDIA's Xid catalogue and what its
//! device plugin does with it: errors of an application end with the application; a card that has lost rows or pages, or
//! whose helper processor has died, wants a reset once it is idle; one that has fallen off its bus or asks for a reboot
//! does no work any more. A card that is too hot is well again when it has cooled.

use std::collections::BTreeMap;
use std::time::Duration;

use api_types::pool::{GpuCondition, GpuReport};
use tokio::time::Instant;

/// Errors that an application makes: its own engine ends by itself and is started again.
const APPLICATION: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// Errors after which nothing can be trusted to run on the card.
const UNUSABLE: [u64; 4] = [46, 62, 79, 154];

/// How far a card has to cool below its limit before it takes work again, °C: one that stays at its limit would change
/// its mind with every look.
const COOLING: u32 = 5;

/// Corrected memory errors within [`STORM_WINDOW`] that are too many: ten a second is a cell that is broken, not a
/// particle that came by.
const STORM: u64 = 600;

const STORM_WINDOW: Duration = Duration::from_secs(60);

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

/// What is remembered of the cards since the daemon's start: a card that has reported errors stays bad, however well it
/// answers, until a person has looked after it and the daemon is started again.
#[derive(Debug, Default)]
pub(super) struct Conditions(BTreeMap<String, Memory>);

#[derive(Debug, Default)]
struct Memory {
    errors: Errors,
    last_xid: Option<u64>,
    uncorrected: Option<u64>,
    corrected: Option<Window>,
    hot: bool,
}

/// The worst that has been reported, and what it was.
#[derive(Debug, Default)]
struct Errors {
    condition: GpuCondition,
    reason: Option<String>,
}

/// A counter at the begin of a window.
#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    count: u64,
}

impl Errors {
    fn note(&mut self, condition: GpuCondition, reason: impl FnOnce() -> String) {
        if condition > self.condition {
            self.condition = condition;
            self.reason = Some(reason());
        }
    }
}

impl Conditions {
    /// An Xid was reported for a card.
    pub(super) fn xid(&mut self, uuid: &str, xid: u64) {
        let memory = self.0.entry(uuid.to_owned()).or_default();
        memory.last_xid = Some(xid);
        memory
            .errors
            .note(of_xid(xid), || format!("it has reported Xid {xid}"));
    }

    /// Remembers a card's counters and temperature, and writes into its report what they mean.
    pub(super) fn judge(&mut self, card: &mut GpuReport, now: Instant) {
        let memory = self.0.entry(card.uuid.clone()).or_default();
        memory.count_uncorrected(card.ecc_uncorrected);
        memory.count_corrected(card.ecc_corrected, now);
        memory.feel(card.temperature_c, card.slowdown_c);
        (card.condition, card.condition_reason) = memory.verdict(card);
        card.last_xid = memory.last_xid;
    }
}

impl Memory {
    /// One that is new is a memory error that nobody could correct.
    fn count_uncorrected(&mut self, now: Option<u64>) {
        if let (Some(before), Some(now)) = (self.uncorrected, now)
            && now > before
        {
            self.errors.note(GpuCondition::NeedsReset, || {
                "it has had memory errors that could not be corrected".to_owned()
            });
        }
        self.uncorrected = now.or(self.uncorrected);
    }

    /// One does no harm. Many within a short time announce those that cannot be corrected.
    fn count_corrected(&mut self, count: Option<u64>, now: Instant) {
        let Some(count) = count else { return };
        let fresh = Window { since: now, count };
        let window = self.corrected.get_or_insert(fresh);
        let new = count.saturating_sub(window.count);
        if new >= STORM {
            self.errors.note(GpuCondition::NeedsReset, || {
                format!("{new} of its memory errors had to be corrected within a minute")
            });
        }
        if now.saturating_duration_since(window.since) >= STORM_WINDOW || count < window.count {
            self.corrected = Some(fresh);
        }
    }

    fn feel(&mut self, temperature: Option<u32>, limit: Option<u32>) {
        let (Some(temperature), Some(limit)) = (temperature, limit) else {
            self.hot = false;
            return;
        };
        let limit = if self.hot {
            limit.saturating_sub(COOLING)
        } else {
            limit
        };
        self.hot = temperature >= limit;
    }

    fn verdict(&self, card: &GpuReport) -> (GpuCondition, Option<String>) {
        if self.hot && self.errors.condition < GpuCondition::TooHot {
            let (is, limit) = (card.temperature_c.unwrap_or(0), card.slowdown_c.unwrap_or(0));
            let reason = format!("it has {is} °C and slows itself down at {limit} °C");
            return (GpuCondition::TooHot, Some(reason));
        }
        (self.errors.condition, self.errors.reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Card {
        conditions: Conditions,
        now: Instant,
    }

    impl Card {
        fn new() -> Self {
            Self {
                conditions: Conditions::default(),
                now: Instant::now(),
            }
        }

        fn judged(&mut self, reading: GpuReport) -> GpuReport {
            let mut card = GpuReport {
                uuid: "GPU-a".into(),
                ..reading
            };
            self.conditions.judge(&mut card, self.now);
            card
        }

        fn at(&mut self, temperature: u32) -> GpuCondition {
            let reading = GpuReport {
                temperature_c: Some(temperature),
                slowdown_c: Some(90),
                ..GpuReport::default()
            };
            self.judged(reading).condition
        }

        fn with_ecc(&mut self, corrected: Option<u64>, uncorrected: Option<u64>) -> GpuCondition {
            let reading = GpuReport {
                ecc_corrected: corrected,
                ecc_uncorrected: uncorrected,
                ..GpuReport::default()
            };
            self.judged(reading).condition
        }
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
        let mut card = Card::new();
        assert_eq!(card.judged(GpuReport::default()).condition, GpuCondition::Healthy);
        card.conditions.xid("GPU-a", 79);
        card.conditions.xid("GPU-a", 13);
        card.conditions.xid("GPU-b", 48);
        let judged = card.judged(GpuReport::default());
        assert_eq!(
            (judged.condition, judged.last_xid),
            (GpuCondition::Unusable, Some(13))
        );
        assert_eq!(judged.condition_reason.as_deref(), Some("it has reported Xid 79"));
    }

    #[test]
    fn only_uncorrected_errors_that_are_new_count() {
        let mut card = Card::new();
        assert_eq!(card.with_ecc(None, Some(7)), GpuCondition::Healthy);
        assert_eq!(card.with_ecc(None, None), GpuCondition::Healthy);
        assert_eq!(card.with_ecc(None, Some(7)), GpuCondition::Healthy);
        assert_eq!(card.with_ecc(None, Some(8)), GpuCondition::NeedsReset);
    }

    #[test]
    fn corrected_errors_count_when_they_come_as_a_storm() {
        let mut card = Card::new();
        // Ten a minute for a day.
        let mut count = 1_000_000;
        for _ in 0..1_440 {
            assert_eq!(card.with_ecc(Some(count), None), GpuCondition::Healthy);
            card.now += Duration::from_secs(60);
            count += 10;
        }
        // A driver that was loaded anew counts from nothing.
        assert_eq!(card.with_ecc(Some(0), None), GpuCondition::Healthy);
        assert_eq!(card.with_ecc(Some(STORM - 1), None), GpuCondition::Healthy);
        assert_eq!(card.with_ecc(Some(STORM), None), GpuCondition::NeedsReset);
        card.now += Duration::from_secs(3_600);
        assert_eq!(
            card.with_ecc(Some(STORM), None),
            GpuCondition::NeedsReset,
            "it stays"
        );
    }

    #[test]
    fn a_hot_card_is_well_again_once_it_has_cooled_for_good() {
        let mut card = Card::new();
        let seen = [89, 90, 92, 89, 86, 85, 84, 89, 90].map(|temperature| card.at(temperature));
        let (well, hot) = (GpuCondition::Healthy, GpuCondition::TooHot);
        assert_eq!(seen, [well, hot, hot, hot, hot, hot, well, well, hot]);
        card.conditions.xid("GPU-a", 48);
        assert_eq!(card.at(95), GpuCondition::NeedsReset, "the worse of both");
    }
}
