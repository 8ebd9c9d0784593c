//! Token buckets, one per key: how often something may happen (REQ-RATE-LIMIT). Pure; the caller
//! brings the time.
//!
//! A bucket is kept as one number, the time at which it will be full again. Keys whose bucket is full
//! take no memory.

use std::collections::BTreeMap;

/// Nanoseconds of a minute.
const MINUTE_NS: u64 = 60_000_000_000;

/// How often, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// ns between two in the long run; at least 1.
    interval_ns: u64,
    /// Most at once, less one, in ns.
    tolerance_ns: u64,
}

impl Rate {
    /// `per_minute` in the long run and `burst` at once; `None` when one of them is 0.
    #[must_use]
    pub fn per_minute(per_minute: u32, burst: u32) -> Option<Self> {
        let interval_ns = MINUTE_NS.checked_div(u64::from(per_minute))?.max(1);
        let more = u64::from(burst.checked_sub(1)?);
        Some(Self {
            interval_ns,
            tolerance_ns: interval_ns.saturating_mul(more),
        })
    }
}

/// One more is too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFast {
    /// When the next one may come, ns from now; at least 1.
    pub wait_ns: u64,
    /// ns between two in the long run.
    pub interval_ns: u64,
}

impl TooFast {
    /// When to try again, ms from now, rounded up. Those who were refused at the same moment are
    /// spread by `jitter`, drawn by the caller from [0, 1), over the time in which one more is allowed.
    #[must_use]
    pub fn retry_after_ms(&self, jitter: f64) -> u64 {
        // Converting to an integer saturates, and makes 0 of NaN.
        let spread = (self.interval_ns as f64 * jitter.clamp(0.0, 1.0)) as u64;
        self.wait_ns.saturating_add(spread).div_ceil(1_000_000)
    }
}

/// The buckets.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    /// When each bucket will be full again, ns; only those that are not.
    full_at: BTreeMap<K, u64>,
}

impl<K: Ord + Clone> Buckets<K> {
    /// Full buckets.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: BTreeMap::new(),
        }
    }

    /// Takes one from the bucket of `key` at `now_ns`, which never goes back.
    ///
    /// # Errors
    /// [`TooFast`] when it is empty; nothing is taken then.
    pub fn take(&mut self, key: &K, now_ns: u64) -> Result<(), TooFast> {
        let Rate {
            interval_ns,
            tolerance_ns,
        } = self.rate;
        if let Some(full_at) = self.full_at.get_mut(key) {
            let from = (*full_at).max(now_ns);
            let wait_ns = (from - now_ns).saturating_sub(tolerance_ns);
            if wait_ns > 0 {
                return Err(TooFast { wait_ns, interval_ns });
            }
            *full_at = from.saturating_add(interval_ns);
            return Ok(());
        }
        // A new key is rare: the time to forget those that are full.
        self.full_at.retain(|_, full_at| *full_at > now_ns);
        self.full_at
            .insert(key.clone(), now_ns.saturating_add(interval_ns));
        Ok(())
    }

    /// Keys that take memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether no key takes memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }
}
