//! How many live slots lie before an index, in O(log n): a Fenwick tree that grows at its end.

/// `tree[i]` counts the live slots of `i & (i + 1) ..= i`.
#[derive(Debug, Clone, Default)]
pub(super) struct LiveCount {
    tree: Vec<u32>,
}

impl LiveCount {
    /// `n` slots, all live.
    pub(super) fn all_live(n: usize) -> Self {
        let width = |i: usize| i - (i & (i + 1)) + 1;
        // A range never spans more slots than the tree has, and a queue of 2^32 tasks does not exist.
        let tree = (0..n)
            .map(|i| u32::try_from(width(i)).unwrap_or(u32::MAX))
            .collect();
        Self { tree }
    }

    /// Appends one live slot.
    pub(super) fn push_live(&mut self) {
        let i = self.tree.len();
        let in_range = self.before(i) - self.before(i & (i + 1));
        self.tree.push(in_range + 1);
    }

    /// Marks a live slot dead.
    pub(super) fn kill(&mut self, slot: usize) {
        let mut i = slot;
        while let Some(count) = self.tree.get_mut(i) {
            *count -= 1;
            i |= i + 1;
        }
    }

    /// Live slots among the first `end`.
    pub(super) fn before(&self, end: usize) -> u32 {
        let mut sum = 0;
        let mut end = end;
        while end > 0 {
            sum += self.tree[end - 1];
            end &= end - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_counting(start in 0usize..40, pushes in 0usize..40, kills in prop::collection::vec(0usize..80, 0..60)) {
            let mut count = LiveCount::all_live(start);
            let mut naive = vec![true; start];
            (0..pushes).for_each(|_| count.push_live());
            naive.resize(start + pushes, true);
            for slot in kills {
                if naive.get(slot) == Some(&true) {
                    naive[slot] = false;
                    count.kill(slot);
                }
            }
            for end in 0..=naive.len() {
                let live = naive[..end].iter().filter(|live| **live).count();
                prop_assert_eq!(count.before(end) as usize, live);
            }
        }
    }
}
