//! The draws of a forecast: fixed strata and fixed sequences instead of random numbers.

/// Which stratum each play uses for one task: every stratum once, in an order of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    step: usize,
    offset: usize,
    speed_step: usize,
    speed_offset: usize,
    pub(super) plays: usize,
}

impl Draw {
    pub(super) const fn new(task: u64, plays: usize) -> Self {
        let mixed = mix(task);
        Self {
            // An odd step meets every stratum of a power of two once.
            step: (mixed as usize) | 1,
            offset: (mixed >> 16) as usize,
            speed_step: (mixed >> 32) as usize | 1,
            speed_offset: (mixed >> 48) as usize,
            plays,
        }
    }

    const fn stratum(&self, step: usize, offset: usize, play: usize) -> f64 {
        let stratum = step.wrapping_mul(play).wrapping_add(offset) % self.plays;
        (stratum as f64 + 0.5) / self.plays as f64
    }

    /// Where among the possible lengths this play draws, 0 to 1.
    pub(super) const fn quantile(&self, play: usize) -> f64 {
        self.stratum(self.step, self.offset, play)
    }

    /// How many spreads off the mean speed this play is: evenly over ±√3, which has spread 1.
    pub(super) fn spreads(&self, play: usize) -> f64 {
        let share = self.stratum(self.speed_step, self.speed_offset, play);
        (2.0 * share - 1.0) * 3.0_f64.sqrt()
    }
}

/// Spreads the bits of a counter (the finalizer of splitmix64).
pub(super) const fn mix(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
