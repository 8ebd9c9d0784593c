//! The last lines of an engine, bounded in lines and in bytes. Owns nothing else; keeps what it is given,
//! unredacted.

use std::collections::VecDeque;

/// The bounds of a [`Ring`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLimits {
    /// Most lines.
    pub lines: usize,
    /// Most bytes of all lines together.
    pub bytes: usize,
}

/// A queue of lines that forgets its oldest.
#[derive(Debug)]
pub(super) struct Ring {
    limits: RingLimits,
    lines: VecDeque<Box<str>>,
    bytes: usize,
}

impl Ring {
    pub(super) fn new(limits: RingLimits) -> Self {
        Self {
            limits,
            lines: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Takes a line in; the oldest leave until both bounds hold. A line larger than the ring is not kept.
    pub(super) fn push(&mut self, line: Box<str>) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > self.limits.lines || self.bytes > self.limits.bytes {
            let Some(oldest) = self.lines.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
        }
    }

    /// The last `count` lines, oldest first.
    pub(super) fn tail(&self, count: usize) -> impl Iterator<Item = &str> {
        let skip = self.lines.len().saturating_sub(count);
        self.lines.iter().skip(skip).map(|line| &**line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_the_longest_suffix_that_fits(
            lines in proptest::collection::vec("[a-z]{0,20}", 0..60),
            max_lines in 1_usize..10,
            max_bytes in 1_usize..80,
        ) {
            let mut ring = Ring::new(RingLimits { lines: max_lines, bytes: max_bytes });
            for (at, line) in lines.iter().enumerate() {
                ring.push(line.clone().into());
                let seen = &lines[..=at];
                let fits = |start: usize| {
                    let kept = &seen[start..];
                    kept.len() <= max_lines && kept.iter().map(String::len).sum::<usize>() <= max_bytes
                };
                let start = (0..=seen.len()).find(|&start| fits(start)).unwrap();
                prop_assert_eq!(ring.tail(usize::MAX).collect::<Vec<_>>(), &seen[start..]);
            }
        }
    }

    #[test]
    fn a_tail_is_the_newest_lines_in_order() {
        let mut ring = Ring::new(RingLimits { lines: 9, bytes: 99 });
        ["a", "b", "c"]
            .into_iter()
            .for_each(|line| ring.push(line.into()));
        assert_eq!(ring.tail(2).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(ring.tail(0).count(), 0);
    }
}
