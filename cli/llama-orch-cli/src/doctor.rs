//! What `doctor` says of a machine: from what was seen of it to findings, each with what helps as lines to paste. Pure, but
//! for [`disk`] and [`ports`], which look for themselves.

pub(crate) mod containers;
pub(crate) mod disk;
pub(crate) mod distribution;
pub(crate) mod gpus;
pub(crate) mod pools;
pub(crate) mod ports;
pub(crate) mod system;

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing depends on it as this machine is configured.
    Note,
    /// Works, but less well than it could, or not for long.
    Warning,
    /// Something will not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at: a word.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    /// What was found.
    pub(crate) what: String,
    /// What helps: lines for a shell, or for the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) fix: Vec<String>,
}

impl Finding {
    pub(crate) fn new(check: &'static str, level: Level, what: impl Into<String>) -> Self {
        Self {
            check,
            level,
            what: what.into(),
            fix: Vec::new(),
        }
    }

    pub(crate) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, what)
    }

    pub(crate) fn problem(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Level::Problem, what)
    }

    /// With lines that help.
    #[must_use]
    pub(crate) fn fix(mut self, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.fix.extend(lines.into_iter().map(Into::into));
        self
    }
}
