//! REQ-RATE-LIMIT: token buckets against the textbook's, with the test's own clock.

use std::collections::BTreeMap;

use orchestrator_core::rate::{Buckets, Rate, TooFast};
use proptest::prelude::*;

/// A bucket that is filled by the time that passed; one task takes `interval` of it.
struct Model {
    interval: u64,
    size: u64,
    level: BTreeMap<u8, (u64, u64)>,
}

impl Model {
    fn take(&mut self, key: u8, now: u64) -> Result<(), u64> {
        let (level, at) = *self.level.get(&key).unwrap_or(&(self.size, now));
        let level = (level + (now - at)).min(self.size);
        if level < self.interval {
            self.level.insert(key, (level, now));
            return Err(self.interval - level);
        }
        self.level.insert(key, (level - self.interval, now));
        Ok(())
    }
}

proptest! {
    #[test]
    fn it_is_the_textbook_bucket(
        per_minute in 1u32..100_000,
        burst in 1u32..20,
        steps in prop::collection::vec((0u8..3, 0u64..2_000_000_000), 1..400),
    ) {
        let mut buckets = Buckets::new(Rate::per_minute(per_minute, burst).unwrap());
        let interval = 60_000_000_000 / u64::from(per_minute);
        let mut model = Model { interval, size: interval * u64::from(burst), level: BTreeMap::new() };
        let mut now = 0;
        for (key, pause) in steps {
            now += pause % (2 * interval);
            let taken = buckets.take(&key, now);
            prop_assert_eq!(taken.map_err(|fast| fast.wait_ns), model.take(key, now));
            if let Err(TooFast { wait_ns, .. }) = taken {
                now += wait_ns;
                prop_assert_eq!(buckets.take(&key, now), Ok(()), "what was told to wait for is true");
                prop_assert_eq!(model.take(key, now), Ok(()));
            }
        }
        now += interval * u64::from(burst);
        prop_assert_eq!(buckets.take(&9, now), Ok(()));
        prop_assert_eq!(buckets.len(), 1, "full buckets take no memory");
    }

    #[test]
    fn the_wait_is_spread_over_one_interval(per_minute in 1u32..100_000, jitter in 0.0f64..1.0) {
        let mut buckets = Buckets::new(Rate::per_minute(per_minute, 1).unwrap());
        buckets.take(&"a", 0).unwrap();
        let fast = buckets.take(&"a", 0).unwrap_err();
        let (least, most) = (fast.wait_ns.div_ceil(1_000_000), (fast.wait_ns + fast.interval_ns).div_ceil(1_000_000));
        prop_assert!((least..=most).contains(&fast.retry_after_ms(jitter)));
        prop_assert_eq!(fast.retry_after_ms(0.0), least);
    }
}

#[test]
fn nothing_is_no_rate() {
    assert!(Rate::per_minute(0, 5).is_none() && Rate::per_minute(5, 0).is_none());
}
