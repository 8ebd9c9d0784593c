//! Where a value comes from and what can be wrong with it.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a file, counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Position {
    /// The position of a byte offset of a text.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// Computed from something else, e.g. the host name.
    Derived(&'static str),
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Where in it; absent for a problem of the whole file.
        position: Option<Position>,
    },
    /// An environment variable.
    Env(&'static str),
    /// A command-line flag.
    Flag(&'static str),
}

impl Origin {
    pub(crate) fn file(path: &Path) -> Self {
        Self::File {
            path: path.to_owned(),
            position: None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived(source) => write!(f, "from {source}"),
            Self::File {
                path,
                position: Some(Position { line, column }),
            } => write!(f, "{}:{line}:{column}", path.display()),
            Self::File { path, position: None } => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the offending value comes from.
    pub origin: Origin,
    /// Its key, e.g. `http.max_headers`; empty where the problem is not one key's.
    pub key: String,
    /// The rule it breaks, with the numbers.
    pub rule: String,
}

impl Problem {
    pub(crate) fn new(origin: Origin, key: impl Into<String>, rule: impl Into<String>) -> Self {
        Self {
            origin,
            key: key.into(),
            rule: rule.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.rule)
    }
}

/// Everything that is wrong with the configuration, at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The problems, in the order of their keys.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not usable")?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = "a = 1\nß = €x";
        let at = |needle: &str| Position::of(text, text.find(needle).unwrap());
        assert_eq!(at("a"), Position { line: 1, column: 1 });
        assert_eq!(at("x"), Position { line: 2, column: 6 });
        assert_eq!(Position::of(text, 999), Position { line: 2, column: 7 });
    }
}
