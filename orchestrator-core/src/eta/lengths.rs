//! How many tokens tasks generate, learned from those that ended by themselves.

use std::collections::{BTreeMap, VecDeque};

use api_types::{ModelId, Priority};

/// Outputs that are remembered per kind of task: enough for a tenth and a ninetieth percentile,
/// few enough to follow a change within a workday.
const KEPT: usize = 64;

/// A kind with fewer outputs than this is judged by all outputs of its model.
const ENOUGH: usize = 5;

/// Outputs of each model, by kind of task. Holds at most a few dozen kinds per model that ever
/// finished a run; models come from configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Lengths {
    models: BTreeMap<ModelId, OfModel>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct OfModel {
    all: Window,
    kinds: BTreeMap<Kind, Window>,
}

/// Tasks of one class with limits of the same size behave alike: a summary is not a chat line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    class: Priority,
    limit_octave: Option<u32>,
}

impl Kind {
    const fn of(class: Priority, max_out: Option<u32>) -> Self {
        Self {
            class,
            limit_octave: match max_out {
                Some(limit) => limit.checked_ilog2(),
                None => None,
            },
        }
    }
}

impl Lengths {
    pub(super) fn add(&mut self, model: &ModelId, class: Priority, max_out: Option<u32>, tokens: u32) {
        if !self.models.contains_key(model) {
            self.models.insert(model.clone(), OfModel::default());
        }
        if let Some(own) = self.models.get_mut(model) {
            own.all.add(tokens);
            own.kinds.entry(Kind::of(class, max_out)).or_default().add(tokens);
        }
    }

    /// Outputs of tasks of this kind; `None` before the first of the model.
    pub(super) fn of(&self, model: &ModelId, class: Priority, max_out: Option<u32>) -> Option<&Window> {
        let own = self.models.get(model)?;
        let kind = own.kinds.get(&Kind::of(class, max_out));
        Some(
            kind.filter(|window| window.sorted.len() >= ENOUGH)
                .unwrap_or(&own.all),
        )
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&ModelId) -> bool) {
        self.models.retain(|model, _| keep(model));
    }
}

/// The last outputs, tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Window {
    recent: VecDeque<u32>,
    sorted: Vec<u32>,
}

impl Window {
    fn add(&mut self, tokens: u32) {
        if self.recent.len() == KEPT
            && let Some(oldest) = self.recent.pop_front()
            && let Ok(at) = self.sorted.binary_search(&oldest)
        {
            self.sorted.remove(at);
        }
        self.recent.push_back(tokens);
        let at = self.sorted.partition_point(|known| *known < tokens);
        self.sorted.insert(at, tokens);
    }

    /// The output below which the share `quantile` of those lies that went beyond `above` tokens.
    /// One that has outrun all that were seen is as likely to end soon as to double.
    pub(super) fn beyond(&self, above: u32, quantile: f64) -> f64 {
        let from = self.sorted.partition_point(|known| *known <= above);
        let longer = &self.sorted[from..];
        let at = (quantile * longer.len() as f64) as usize;
        match longer.get(at.min(longer.len().saturating_sub(1))) {
            Some(tokens) => f64::from(*tokens),
            None => f64::from(above) * (1.0 + quantile),
        }
    }
}
