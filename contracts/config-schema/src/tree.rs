//! The merged tree: values of all sources, each with its origin, before it becomes a `Config`.

use std::collections::BTreeMap;

use serde_path_to_error::{Path, Segment};
use toml::Value;

use crate::error::Origin;

/// One value with its origin and the key it was written under. The key stays as written when an
/// earlier element of the same array is taken out.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) key: String,
    pub(crate) origin: Origin,
    pub(crate) content: Content,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Leaf(Value),
    Array(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Node {
    pub(crate) fn root() -> Self {
        Self {
            key: String::new(),
            origin: Origin::Default,
            content: Content::Table(BTreeMap::new()),
        }
    }

    /// Puts a value under a dotted key. Where a source has put something else than a table on the
    /// way, nothing happens: that something is reported when the tree is read.
    pub(crate) fn set(&mut self, key: &str, value: Value, origin: Origin) {
        let mut node = self;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            let path = join(&node.key, part);
            let Content::Table(table) = &mut node.content else {
                return;
            };
            let last = parts.peek().is_none();
            if last {
                table.insert(part.to_owned(), leaf(path, value, origin));
                return;
            }
            node = table.entry(part.to_owned()).or_insert_with(|| Self {
                key: path,
                origin: origin.clone(),
                content: Content::Table(BTreeMap::new()),
            });
        }
    }

    /// The node under a dotted key without array indexes.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        key.split('.').try_fold(self, |node, part| match &node.content {
            Content::Table(table) => table.get(part),
            Content::Leaf(_) | Content::Array(_) => None,
        })
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        key.split('.')
            .try_fold(self, |node, part| match &mut node.content {
                Content::Table(table) => table.get_mut(part),
                Content::Leaf(_) | Content::Array(_) => None,
            })
    }

    /// The tree without origins.
    pub(crate) fn to_value(&self) -> Value {
        match &self.content {
            Content::Leaf(value) => value.clone(),
            Content::Array(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Content::Table(table) => Value::Table(
                table
                    .iter()
                    .map(|(name, node)| (name.clone(), node.to_value()))
                    .collect(),
            ),
        }
    }

    /// Follows an error's path as far as it goes.
    fn deepest(&self, path: &[Step]) -> (&Self, usize) {
        let mut node = self;
        for (depth, step) in path.iter().enumerate() {
            match node.child(step) {
                Some(child) => node = child,
                None => return (node, depth),
            }
        }
        (node, path.len())
    }

    fn child(&self, step: &Step) -> Option<&Self> {
        match (&self.content, step) {
            (Content::Table(table), Step::Key(name)) => table.get(name),
            (Content::Array(items), Step::Index(index)) => items.get(*index),
            _ => None,
        }
    }

    fn child_mut(&mut self, step: &Step) -> Option<&mut Self> {
        match (&mut self.content, step) {
            (Content::Table(table), Step::Key(name)) => table.get_mut(name),
            (Content::Array(items), Step::Index(index)) => items.get_mut(*index),
            _ => None,
        }
    }

    /// Takes the node at an error's path out of the tree, so that the rest can be read and its
    /// problems found as well. Returns its key and origin; `None` when the whole tree is the problem.
    pub(crate) fn take(&mut self, path: &Path) -> Option<(String, Origin)> {
        let steps = steps(path);
        let (node, depth) = self.deepest(&steps);
        let found = (join_steps(&node.key, &steps[depth..]), node.origin.clone());
        let (last, way) = steps[..depth].split_last()?;
        let parent = way.iter().try_fold(self, |node, step| node.child_mut(step))?;
        match (&mut parent.content, last) {
            (Content::Table(table), Step::Key(name)) => drop(table.remove(name)),
            (Content::Array(items), Step::Index(index)) => drop(items.remove(*index)),
            _ => return None,
        }
        Some(found)
    }

    /// Key and origin of every leaf and array. A table has no origin: its unset keys are defaults.
    pub(crate) fn leaves(&self, visit: &mut impl FnMut(&str, &Origin)) {
        match &self.content {
            Content::Leaf(_) => visit(&self.key, &self.origin),
            Content::Array(items) => {
                visit(&self.key, &self.origin);
                items.iter().for_each(|item| item.leaves(visit));
            }
            Content::Table(table) => table.values().for_each(|node| node.leaves(visit)),
        }
    }
}

/// A step of a path that leads into a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

fn steps(path: &Path) -> Vec<Step> {
    path.iter()
        .map_while(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn join_steps(key: &str, steps: &[Step]) -> String {
    steps.iter().fold(key.to_owned(), |key, step| match step {
        Step::Key(name) => join(&key, name),
        Step::Index(index) => format!("{key}[{index}]"),
    })
}

pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}

/// Values that a flag, a variable or a derivation sets; an array of them has one origin.
fn leaf(key: String, value: Value, origin: Origin) -> Node {
    Node {
        key,
        origin,
        content: Content::Leaf(value),
    }
}
