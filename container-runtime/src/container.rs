//! Containers as they are: what `container inspect` says, in our words. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::owner::Owner;

/// A container's id: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(Box<str>);

impl ContainerId {
    /// Reads an id, as the runtimes print it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        fits.then(|| Self(text.into()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container that a runtime holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Whose it is; `None` if its labels are not ours.
    pub owner: Option<Owner>,
    /// What it does.
    pub state: State,
}

/// What a container does, or how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs; its first process has this number on this machine.
    Running {
        /// The number.
        pid: u32,
    },
    /// It has not run yet.
    Created,
    /// Its program ended.
    Ended(Ending),
    /// Anything else: paused, restarting, being removed.
    Other(String),
}

/// How a container's program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The exit code; 128 and the number for a signal.
    pub code: i32,
    /// Whether the runtime saw the kernel kill it for memory. Podman does not on cgroups of version 1, where a code of
    /// 137 that nobody asked for is the only sign.
    pub oom_killed: bool,
}

impl Ending {
    /// The signal that ended the program, where the code says so.
    #[must_use]
    pub const fn signal(self) -> Option<i32> {
        match self.code {
            129..=192 => Some(self.code - 128),
            _ => None,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal() {
            Some(signal) => write!(f, "signal {signal}")?,
            None => write!(f, "exit code {}", self.code)?,
        }
        f.write_str(if self.oom_killed { ", out of memory" } else { "" })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    id: String,
    name: String,
    state: RawState,
    config: RawConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawState {
    status: String,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    exit_code: i32,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl RawState {
    fn read(self) -> State {
        match self.status.as_str() {
            // Podman says "stopped" between the program's end and the end of its monitor.
            "exited" | "dead" | "stopped" => State::Ended(Ending {
                code: self.exit_code,
                oom_killed: self.oom_killed,
            }),
            "running" if self.pid > 0 => State::Running { pid: self.pid },
            "created" | "configured" | "initialized" => State::Created,
            _ => State::Other(self.status),
        }
    }
}

/// Reads the answer to `container inspect` of one container; the error says what is wrong with it.
pub(crate) fn inspected(stdout: &[u8]) -> Result<Container, String> {
    let all: Vec<Raw> = serde_json::from_slice(stdout).map_err(|error| error.to_string())?;
    let [raw]: [Raw; 1] = all
        .try_into()
        .map_err(|all: Vec<Raw>| format!("{} containers instead of one", all.len()))?;
    Ok(Container {
        id: ContainerId::parse(&raw.id).ok_or("the id is no id")?,
        name: raw.name.trim_start_matches('/').to_owned(),
        owner: Owner::of_labels(&raw.config.labels.unwrap_or_default()),
        state: raw.state.read(),
    })
}

/// Reads the answer to `ps --quiet --no-trunc`: an id per line.
pub(crate) fn listed(stdout: &[u8]) -> Result<Vec<ContainerId>, String> {
    let text = std::str::from_utf8(stdout).map_err(|error| error.to_string())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| ContainerId::parse(line).ok_or_else(|| "a line is no container id".to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(state: &str, labels: &str) -> Vec<u8> {
        let id = "a".repeat(64);
        format!(
            r#"[{{"Id":"{id}","Name":"/orch-x","State":{state},"Config":{{"Labels":{labels}}},"More":1}}]"#
        )
        .into_bytes()
    }

    fn state(json: &str) -> State {
        inspected(&answer(json, "null")).unwrap().state
    }

    /// REQ-CONTAINER-INSPECT.
    #[test]
    fn states_are_read() {
        let ended = |code, oom_killed| State::Ended(Ending { code, oom_killed });
        for (json, expected) in [
            (
                r#"{"Status":"running","Running":true,"Pid":7,"ExitCode":0}"#,
                State::Running { pid: 7 },
            ),
            (
                r#"{"Status":"exited","Pid":0,"ExitCode":1,"OOMKilled":false}"#,
                ended(1, false),
            ),
            (
                r#"{"Status":"exited","Pid":0,"ExitCode":137,"OOMKilled":true}"#,
                ended(137, true),
            ),
            (r#"{"Status":"stopped","ExitCode":143}"#, ended(143, false)),
            (r#"{"Status":"created"}"#, State::Created),
            (
                r#"{"Status":"paused","Pid":7}"#,
                State::Other("paused".to_owned()),
            ),
            (
                r#"{"Status":"running","Pid":0}"#,
                State::Other("running".to_owned()),
            ),
        ] {
            assert_eq!(state(json), expected, "{json}");
        }
        assert_eq!(
            Ending {
                code: 137,
                oom_killed: true
            }
            .to_string(),
            "signal 9, out of memory"
        );
        assert_eq!(
            Ending {
                code: 3,
                oom_killed: false
            }
            .to_string(),
            "exit code 3"
        );
    }

    #[test]
    fn labels_tell_the_owner() {
        let labels = r#"{"orch.home":"0123456789ab","orch.node":"n","orch.pool":"p","orch.replica":"r","orch.generation":"18446744073709551615"}"#;
        let container = inspected(&answer(r#"{"Status":"created"}"#, labels)).unwrap();
        assert_eq!(container.name, "orch-x");
        assert_eq!(container.owner.unwrap().generation, u64::MAX);
        let other = labels.replace("\"r\"", "\"../r\"");
        let container = inspected(&answer(r#"{"Status":"created"}"#, &other)).unwrap();
        assert_eq!(container.owner, None);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(junk: Vec<u8>) {
            prop_assert!(inspected(&junk).is_err());
            let _ids_or_not = listed(&junk);
        }
    }

    #[test]
    fn a_list_is_ids_and_nothing_else() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(listed(format!("{a}\n{b}\n").as_bytes()).unwrap().len(), 2);
        assert_eq!(listed(b"\n").unwrap(), []);
        assert!(listed(b"WARN: something\n").is_err());
    }
}
