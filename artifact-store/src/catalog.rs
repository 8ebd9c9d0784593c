//! The index of one room, in memory: by arrival, id, tag and age. About half a KiB per artifact.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api_types::{ArtifactId, ArtifactKind, ArtifactTag};

use crate::meta::Meta;

/// Which artifacts to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only with this tag.
    pub tag: Option<ArtifactTag>,
    /// Only of this kind.
    pub kind: Option<ArtifactKind>,
    /// Only those that arrived before this place in the order.
    pub before: Option<u64>,
}

/// The artifacts of one room; `P` tells where the content lies.
#[derive(Debug)]
pub(crate) struct Catalog<P> {
    entries: BTreeMap<u64, (Meta, P)>,
    ids: HashMap<ArtifactId, u64>,
    tags: HashMap<ArtifactTag, BTreeSet<u64>>,
    /// From when on the age counts, and which.
    ages: BTreeSet<(u64, u64)>,
}

impl<P> Default for Catalog<P> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            ids: HashMap::new(),
            tags: HashMap::new(),
            ages: BTreeSet::new(),
        }
    }
}

impl<P> Catalog<P> {
    /// Adds an artifact; one with the same id or place makes way.
    pub(crate) fn insert(&mut self, meta: Meta, place: P) {
        if let Some(&seq) = self.ids.get(&meta.info.id) {
            self.remove(seq);
        }
        self.remove(meta.seq);
        for tag in &meta.info.tags {
            self.tags.entry(tag.clone()).or_default().insert(meta.seq);
        }
        self.ids.insert(meta.info.id, meta.seq);
        self.ages.insert((meta.kept_from_ms, meta.seq));
        self.entries.insert(meta.seq, (meta, place));
    }

    pub(crate) fn remove(&mut self, seq: u64) -> Option<(Meta, P)> {
        let (meta, place) = self.entries.remove(&seq)?;
        for tag in &meta.info.tags {
            if let Some(with_it) = self.tags.get_mut(tag) {
                with_it.remove(&seq);
                if with_it.is_empty() {
                    self.tags.remove(tag);
                }
            }
        }
        self.ids.remove(&meta.info.id);
        self.ages.remove(&(meta.kept_from_ms, seq));
        Some((meta, place))
    }

    pub(crate) fn get(&self, id: &ArtifactId) -> Option<&(Meta, P)> {
        self.entries.get(self.ids.get(id)?)
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.entries.contains_key(&seq)
    }

    /// The first `limit` that pass, newest first.
    pub(crate) fn list(&self, filter: &Filter, limit: usize) -> Vec<Meta> {
        let before = filter.before.unwrap_or(u64::MAX);
        let passes = |meta: &&Meta| filter.kind.is_none_or(|kind| meta.info.kind == kind);
        let Some(tag) = &filter.tag else {
            let all = self.entries.range(..before).rev();
            return all
                .map(|(_, (meta, _))| meta)
                .filter(passes)
                .take(limit)
                .cloned()
                .collect();
        };
        let tagged = self.tags.get(tag).into_iter();
        let tagged = tagged.flat_map(|seqs| seqs.range(..before).rev());
        let known = tagged.filter_map(|seq| self.entries.get(seq));
        known
            .map(|(meta, _)| meta)
            .filter(passes)
            .take(limit)
            .cloned()
            .collect()
    }

    /// Whose age counts from the earliest moment.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.ages.first().map(|&(_, seq)| seq)
    }

    /// Whose age counts from `until_ms` or earlier.
    pub(crate) fn kept_until(&self, until_ms: u64) -> Vec<u64> {
        let old = self.ages.range(..=(until_ms, u64::MAX));
        old.map(|&(_, seq)| seq).collect()
    }

    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.entries.last_key_value().map(|(&seq, _)| seq)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
