//! The two command lines: what both understand stands here, what differs in a file each. Pure: arguments out, answers
//! in; running them is [`cli`](crate::cli)'s part.

use std::fmt;
use std::path::Path;

use crate::facts::{Backend, Facts};
use crate::host::Adaptation;
use crate::spec::{ContainerSpec, DeviceMask};
use crate::version::Version;

#[cfg(feature = "backend-docker")]
mod docker;
#[cfg(feature = "backend-podman")]
mod podman;

#[cfg(test)]
mod tests;

/// What a runtime answered when it was asked about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Itself.
    Facts(Facts),
    /// Its containers run on another machine.
    NotLocal(String),
    /// The client answered for itself alone.
    #[cfg(feature = "backend-docker")]
    NoDaemon(String),
}

/// What differs between the two.
pub(crate) trait Dialect: fmt::Debug + Send + Sync {
    /// Which of the two.
    fn backend(&self) -> Backend;
    /// The oldest version that can do what we need.
    fn oldest(&self) -> Version;
    /// Asks the runtime about itself.
    fn info(&self) -> &'static [&'static str];
    /// Reads the answer; the error says what is wrong with it.
    fn read_info(&self, stdout: &[u8], program: &Path) -> Result<Reading, String>;
    /// Flags before every command.
    fn before(&self, adaptation: &Adaptation) -> Vec<String>;
    /// The flags that give a container its GPUs, and no other.
    fn devices(&self, mask: &DeviceMask) -> Vec<String>;
    /// Flags of `run` that the other does not have, or has otherwise.
    fn run_flags(&self, facts: &Facts, adaptation: &Adaptation) -> Vec<String>;
    /// Ends and removes a container with its anonymous volumes, at once.
    fn remove(&self) -> &'static [&'static str];
}

/// The dialects of this build.
const ALL: &[&dyn Dialect] = &[
    #[cfg(feature = "backend-podman")]
    &podman::Podman,
    #[cfg(feature = "backend-docker")]
    &docker::Docker,
];

/// The dialect of a backend, if this build has it.
pub(crate) fn of(backend: Backend) -> Option<&'static dyn Dialect> {
    ALL.iter().copied().find(|dialect| dialect.backend() == backend)
}

/// `run`: the sandbox, the devices, the limits, the labels; then the image by its own digest and its arguments.
pub(crate) fn run(
    dialect: &dyn Dialect,
    facts: &Facts,
    adaptation: &Adaptation,
    spec: &ContainerSpec,
) -> Vec<String> {
    let mut args = dialect.before(adaptation);
    args.extend(["run", "--detach", "--pull", "never", "--no-healthcheck"].map(str::to_owned));
    let name = spec.owner.container_name();
    let mut option = |flag: &str, value: &str| args.extend([flag.to_owned(), value.to_owned()]);
    option("--name", &name);
    spec.owner
        .labels()
        .iter()
        .for_each(|label| option("--label", label));
    option("--cap-drop", "ALL");
    option("--security-opt", "no-new-privileges");
    option("--ulimit", "core=0:0");
    option(
        "--tmpfs",
        &format!("/tmp:rw,nosuid,nodev,mode=1777,size={}", spec.limits.tmp_bytes),
    );
    option("--shm-size", &spec.limits.shm_bytes.to_string());
    if facts.limits_memory {
        let memory = spec.limits.memory_bytes.to_string();
        option("--memory", &memory);
        option("--memory-swap", &memory);
    }
    if facts.limits_pids {
        option("--pids-limit", &spec.limits.pids.to_string());
    }
    option("--env-file", "/dev/stdin");
    spec.mounts
        .iter()
        .for_each(|mount| option("--mount", &mount.option()));
    spec.ports
        .iter()
        .for_each(|port| option("--publish", &port.option()));
    if let Some((uid, gid)) = spec.user {
        option("--user", &format!("{uid}:{gid}"));
    }
    if let Some(program) = &spec.entrypoint {
        option("--entrypoint", &program.to_string());
    }
    args.push("--read-only".to_owned());
    args.extend(dialect.devices(&spec.devices));
    args.extend(dialect.run_flags(facts, adaptation));
    args.push(spec.image.id.to_string());
    args.extend(spec.args.iter().cloned());
    args
}

fn strings<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(str::to_owned).into()
}
