//! Lists in pages that nothing shifts: an entry's place is the order of its arrival. Pure.

use api_types::Lifecycle;

use crate::index::{Numbered, Version};

/// Which entries a list shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<Lifecycle>,
    /// Only those that arrived before this place: the `next` of the page before.
    pub before: Option<u64>,
}

/// One page, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Its entries.
    pub entries: Vec<T>,
    /// Where the next page begins; `None` on the last one. What is registered meanwhile is on no later page, and what is
    /// removed meanwhile shifts nothing.
    pub next: Option<u64>,
    /// The version of the whole list.
    pub version: Version,
}

impl<T: Clone> Page<T> {
    pub(crate) fn of(
        all: &[Numbered<T>],
        filter: Filter,
        limit: usize,
        version: Version,
        state: impl Fn(&T) -> Lifecycle,
    ) -> Self {
        let shown = |numbered: &&Numbered<T>| {
            filter.before.is_none_or(|before| numbered.seq < before)
                && filter.state.is_none_or(|wanted| state(&numbered.entry) == wanted)
        };
        let mut rest = all.iter().rev().filter(shown).peekable();
        let page: Vec<&Numbered<T>> = rest.by_ref().take(limit).collect();
        let more = rest.peek().is_some();
        Self {
            next: page.last().filter(|_| more).map(|last| last.seq),
            entries: page.into_iter().map(|numbered| numbered.entry.clone()).collect(),
            version,
        }
    }
}
