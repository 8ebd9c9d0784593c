//! Which bytes of a file are there: sorted, apart from each other. Pure.

use serde::{Deserialize, Serialize};

/// Begin and end of runs of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Intervals(Vec<(u64, u64)>);

impl Intervals {
    /// Adds a run; what touches is joined.
    pub(crate) fn add(&mut self, begin: u64, end: u64) {
        if begin >= end {
            return;
        }
        let first = self.0.partition_point(|run| run.1 < begin);
        let last = self.0.partition_point(|run| run.0 <= end);
        let joined = self.0[first..last].iter().fold((begin, end), |joined, run| {
            (joined.0.min(run.0), joined.1.max(run.1))
        });
        self.0.splice(first..last, [joined]);
    }

    /// How far it is whole from the start on.
    pub(crate) fn frontier(&self) -> u64 {
        match self.0.first() {
            Some(&(0, end)) => end,
            _ => 0,
        }
    }

    /// Bytes in all.
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|(begin, end)| end - begin).sum()
    }

    /// The first run that is missing from `from` on and before `size`, cut to at most `piece`. One at a time: a size may be
    /// whatever somebody has announced.
    pub(crate) fn next_missing(&self, from: u64, size: u64, piece: u64) -> Option<(u64, u64)> {
        let behind = self.0.partition_point(|run| run.1 <= from);
        let (begin, until) = match self.0.get(behind) {
            Some(&(begin, end)) if begin <= from => (end, self.0.get(behind + 1).map(|run| run.0)),
            next => (from, next.map(|run| run.0)),
        };
        let end = until.unwrap_or(size).min(size).min(begin.saturating_add(piece));
        (begin < end).then_some((begin, end))
    }

    /// Whether the runs are sorted, apart and inside the file: what was read from a disk need not be.
    pub(crate) fn is_sound(&self, size: Option<u64>) -> bool {
        let apart = self.0.windows(2).all(|pair| pair[0].1 < pair[1].0);
        let inside = self
            .0
            .last()
            .is_none_or(|last| size.is_none_or(|size| last.1 <= size));
        apart && inside && self.0.iter().all(|run| run.0 < run.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_set_of_bytes(runs in proptest::collection::vec((0_u64..60, 0_u64..20), 0..12), piece in 1_u64..30) {
            let mut intervals = Intervals::default();
            let mut bytes = [false; 64];
            for (begin, length) in runs {
                let end = (begin + length).min(64);
                intervals.add(begin, end);
                bytes[begin as usize..end.max(begin) as usize].fill(true);
                prop_assert!(intervals.is_sound(Some(64)));
            }
            prop_assert_eq!(intervals.sum(), bytes.iter().filter(|there| **there).count() as u64);
            let whole = bytes.iter().position(|there| !there).unwrap_or(64);
            prop_assert_eq!(intervals.frontier(), whole as u64);
            let mut from = 0;
            while let Some((begin, end)) = intervals.next_missing(from, 64, piece) {
                prop_assert!(from <= begin && end - begin <= piece);
                from = end;
                for byte in &mut bytes[begin as usize..end as usize] {
                    prop_assert!(!*byte);
                    *byte = true;
                }
            }
            prop_assert!(bytes.iter().all(|there| *there));
        }
    }
}
