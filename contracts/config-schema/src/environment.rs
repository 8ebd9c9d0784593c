//! The process environment, read once. The only place in the workspace that reads environment
//! variables or the host name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use api_types::NodeId;

/// Kernel interface that holds the host name; no name service is asked.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// A copy of the environment.
#[derive(Clone, Default)]
pub struct Environment {
    vars: BTreeMap<String, OsString>,
    host_name: String,
}

/// What a variable holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variable<'a> {
    Unset,
    /// Set to nothing. Refused for every variable of ours: an empty secret or flag is nearly
    /// always a substitution that failed.
    Empty,
    NotUtf8,
    Text(&'a str),
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn from_process() -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        let host_name = std::fs::read_to_string(HOST_NAME_FILE).unwrap_or_default();
        Self {
            vars,
            host_name: host_name.trim().to_owned(),
        }
    }

    /// An environment of exactly these variables, with host name `test-host`.
    pub fn of<N: Into<String>, V: Into<OsString>>(vars: impl IntoIterator<Item = (N, V)>) -> Self {
        Self {
            vars: vars.into_iter().map(|(n, v)| (n.into(), v.into())).collect(),
            host_name: "test-host".to_owned(),
        }
    }

    /// The value of a variable that is not a setting of ours, e.g. `PATH`; `None` when it is
    /// unset, empty or not UTF-8.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.variable(name) {
            Variable::Text(text) => Some(text),
            Variable::Unset | Variable::Empty | Variable::NotUtf8 => None,
        }
    }

    pub(crate) fn variable(&self, name: &str) -> Variable<'_> {
        match self.vars.get(name).map(|value| value.to_str()) {
            None => Variable::Unset,
            Some(None) => Variable::NotUtf8,
            Some(Some("")) => Variable::Empty,
            Some(Some(text)) => Variable::Text(text),
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str)
    }

    /// The node's name unless it is told another: the host name.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        node_id_from(&self.host_name)
    }

    /// First of the state directories that this environment names.
    pub(crate) fn state_dir(&self) -> Option<(&'static str, PathBuf)> {
        // systemd joins several directories by a colon; the first is ours.
        let first = |list: &str| PathBuf::from(list.split(':').next().unwrap_or(list));
        let absolute = |name| self.get(name).filter(|path| path.starts_with('/'));
        let systemd = absolute("STATE_DIRECTORY").map(|list| ("STATE_DIRECTORY", first(list)));
        systemd
            .or_else(|| {
                absolute("XDG_STATE_HOME")
                    .map(|dir| ("XDG_STATE_HOME", PathBuf::from(dir).join("llama-orch")))
            })
            .or_else(|| {
                absolute("HOME").map(|dir| ("HOME", PathBuf::from(dir).join(".local/state/llama-orch")))
            })
    }

    /// Where a configuration file is looked for when nobody names one, best first.
    pub(crate) fn config_files(&self) -> Vec<PathBuf> {
        let absolute = |name| self.get(name).filter(|path| path.starts_with('/'));
        let user = absolute("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| absolute("HOME").map(|home| PathBuf::from(home).join(".config")));
        user.map(|dir| dir.join("llama-orch/config.toml"))
            .into_iter()
            .chain([PathBuf::from("/etc/llama-orch/config.toml")])
            .collect()
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.debug_struct("Environment")
            .field("names", &self.vars.keys())
            .field("host_name", &self.host_name)
            .finish()
    }
}

/// The host name as a node id; `node` when nothing of it can be kept.
#[expect(clippy::expect_used, reason = "an id made of allowed characters only")]
pub(crate) fn node_id_from(host_name: &str) -> NodeId {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            c
        } else {
            '-'
        }
    };
    let cleaned: String = host_name
        .chars()
        .map(allowed)
        .take(api_types::ids::MAX_ID_LEN)
        .collect();
    let cleaned = cleaned.trim_matches(['.', '-']);
    NodeId::new(if cleaned.is_empty() { "node" } else { cleaned }).expect("an id of allowed characters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn debug_shows_no_values() {
        let text = format!("{:?}", Environment::of([("AUTH_TOKEN", "hunter2")]));
        assert!(text.contains("AUTH_TOKEN") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn empty_is_told_from_unset() {
        let env = Environment::of([("A", ""), ("B", "x")]);
        assert_eq!(env.variable("A"), Variable::Empty);
        assert_eq!(env.variable("B"), Variable::Text("x"));
        assert_eq!(env.variable("C"), Variable::Unset);
    }

    #[test]
    fn this_process_has_a_path_and_a_host_name() {
        let env = Environment::from_process();
        assert!(env.get("PATH").is_some());
        assert!(!env.host_name.is_empty());
    }

    proptest! {
        #[test]
        fn every_host_name_gives_a_node_id(name in "\\PC{0,200}") {
            let _ = node_id_from(&name);
        }
    }
}
