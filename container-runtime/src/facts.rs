//! What a runtime says of itself, in our words. Pure data; reading a runtime's own words is its dialect's part.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::version::Version;

/// The two runtimes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Podman: no daemon, rootless where we are.
    Podman,
    /// Docker.
    Docker,
}

impl Backend {
    /// The program's name.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// A runtime that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Which of the two.
    pub backend: Backend,
    /// The client's path.
    pub program: PathBuf,
    /// Podman's version; for Docker the daemon's.
    pub version: Version,
    /// Whether containers have no more rights on this machine than an ordinary user.
    pub rootless: bool,
    /// The program that makes containers, by name: crun, runc, …
    pub oci_runtime: String,
    /// Who makes cgroups: `systemd` or `cgroupfs`.
    pub cgroup_manager: String,
    /// The version of cgroups that the runtime uses.
    pub cgroups: CgroupVersion,
    /// Whether memory can be limited.
    pub limits_memory: bool,
    /// Whether the number of processes can be limited.
    pub limits_pids: bool,
    /// Whether SELinux labels are enforced.
    pub selinux: bool,
    /// How published ports reach a container.
    pub network: Network,
}

/// Which cgroups a runtime uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CgroupVersion {
    /// The old ones, also where both are mounted.
    V1,
    /// The unified ones.
    V2,
}

/// What stands between a container and this machine's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// pasta: a network of its own per container, in user space.
    Pasta,
    /// slirp4netns: the same, older.
    Slirp4netns,
    /// A bridge that the runtime's containers share.
    Bridge,
}
