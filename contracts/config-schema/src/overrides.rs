//! What the command line says. Free of any command-line library: the daemons fill it from theirs.

use std::path::PathBuf;

use toml::Value;

/// Values given by flags; they win over everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) flags: Vec<Flag>,
}

#[derive(Debug, Clone)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: Value,
}

impl Overrides {
    /// The configuration file of `--config`, which must then exist.
    #[must_use]
    pub fn config_file(mut self, path: Option<PathBuf>) -> Self {
        self.config_file = path;
        self
    }

    /// A key that a flag sets, where it was given. A key that does not exist is reported by
    /// [`load`](crate::load) with the flag's name.
    #[must_use]
    pub fn set(mut self, flag: &'static str, key: &'static str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value.map(Into::into) {
            self.flags.push(Flag {
                name: flag,
                key,
                value,
            });
        }
        self
    }
}
