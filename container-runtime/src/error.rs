//! Everything that can go wrong between us and a runtime, typed, and what helps. Owns the table from a runtime's
//! words to a cause; touches nothing.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use api_types::container::Digest;

use crate::facts::Backend;
use crate::version::Version;

/// What a call to a program was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Asking a runtime about itself.
    Info,
    /// Fetching an image.
    Pull,
    /// Looking at a local image.
    InspectImage,
    /// Creating and starting a container.
    Run,
    /// Asking a container to end, then ending it.
    Stop,
    /// Ending a container.
    Kill,
    /// Looking at a container.
    Inspect,
    /// Removing a container and its anonymous volumes.
    Remove,
    /// Listing containers by label.
    List,
    /// Reading what a container wrote.
    Logs,
    /// Asking the NVIDIA Container Toolkit for its version.
    Toolkit,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Pull => "pull",
            Self::InspectImage => "image inspect",
            Self::Run => "run",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Inspect => "container inspect",
            Self::Remove => "rm",
            Self::List => "ps",
            Self::Logs => "logs",
            Self::Toolkit => "--version",
        })
    }
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is in none of the folders of the search path.
    #[error("{program} is not on the search path")]
    Missing {
        /// Its name.
        program: &'static str,
    },
    /// The build leaves this backend out.
    #[error("this build has no {0} backend")]
    NotBuilt(Backend),
    /// The runtime cannot do what is needed of it.
    #[error("{backend} {found} is too old, {needed} is needed")]
    TooOld {
        /// Which runtime.
        backend: Backend,
        /// What is installed.
        found: Version,
        /// The oldest that will do.
        needed: Version,
    },
    /// The containers would run on another machine, so that neither their ports nor their processes are ours.
    #[error("{backend} runs containers on another machine ({place})")]
    NotLocal {
        /// Which runtime.
        backend: Backend,
        /// Where it says they run.
        place: String,
    },
    /// The program cannot be started.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// Its path.
        program: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The program did not end in time and was killed.
    #[error("{program} {action} gave no answer within {} s and was killed", after.as_secs_f32())]
    TimedOut {
        /// Its name.
        program: &'static str,
        /// What it was asked.
        action: Action,
        /// The deadline.
        after: Duration,
    },
    /// The program wrote more than its answer can be.
    #[error("{program} {action} wrote more than {limit} bytes")]
    TooMuchOutput {
        /// Its name.
        program: &'static str,
        /// What it was asked.
        action: Action,
        /// The bound, bytes.
        limit: usize,
    },
    /// The program ended well, but what it wrote is no answer.
    #[error("{program} {action} answered with something else ({problem}): {excerpt}")]
    Junk {
        /// Its name.
        program: &'static str,
        /// What it was asked.
        action: Action,
        /// What is wrong with it.
        problem: String,
        /// The beginning of what it wrote, without credentials.
        excerpt: String,
    },
    /// Docker's daemon, or Podman's service, cannot be reached.
    #[error("{program} cannot reach its daemon: {stderr}")]
    Unreachable {
        /// The client's name.
        program: &'static str,
        /// What it said, without credentials.
        stderr: String,
    },
    /// The program said no.
    #[error(transparent)]
    Failed(Box<Failure>),
    /// What was pulled is not what was asked for.
    #[error("{image} is not what was pulled: the runtime holds {}", list(found))]
    DigestMismatch {
        /// The image as asked for.
        image: String,
        /// The digests that the runtime names for it.
        found: Vec<Digest>,
    },
}

fn list(digests: &[Digest]) -> String {
    let texts: Vec<String> = digests.iter().map(Digest::to_string).collect();
    if texts.is_empty() {
        "no digest".to_owned()
    } else {
        texts.join(", ")
    }
}

/// A program's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its name.
    pub program: &'static str,
    /// What it was asked.
    pub action: Action,
    /// How it ended.
    pub exit: Exit,
    /// What its words mean, where we know them.
    pub cause: Option<Cause>,
    /// The end of what it wrote to standard error: bounded, without control characters and credentials.
    pub stderr: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            program,
            action,
            exit,
            stderr,
            ..
        } = self;
        write!(f, "{program} {action} failed ({exit})")?;
        if stderr.is_empty() {
            return Ok(());
        }
        write!(f, ": {stderr}")
    }
}

impl std::error::Error for Failure {}

/// How a program ended that did not end well. Podman and Docker keep three codes for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// 125: the runtime itself failed; nothing was executed.
    Runtime,
    /// 126: the container's program cannot be executed (Podman also says so of a device that it cannot resolve).
    CannotExecute,
    /// 127: the container's program is not in the image.
    NotFound,
    /// Any other code.
    Code(i32),
    /// A signal.
    Signal(i32),
}

impl Exit {
    pub(crate) const fn of_code(code: i32) -> Self {
        match code {
            125 => Self::Runtime,
            126 => Self::CannotExecute,
            127 => Self::NotFound,
            code => Self::Code(code),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime => f.write_str("the runtime's own error, 125"),
            Self::CannotExecute => f.write_str("the program cannot be executed, 126"),
            Self::NotFound => f.write_str("the program is not in the image, 127"),
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What is behind a refusal, as far as its words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// There is no such container, or no longer.
    NoSuchContainer,
    /// The container does not run.
    NotRunning,
    /// Another call removes it already.
    RemovalInProgress,
    /// The runtime does not know a GPU of the mask, or has no way to give one.
    DeviceUnknown,
    /// The port on this machine is another program's.
    PortTaken,
    /// A container of this name is there.
    NameTaken,
    /// Neither this machine nor the registry has the image.
    ImageUnknown,
    /// The registry sent something else than the digest names.
    DigestMismatch,
    /// The registry wants credentials, or others.
    Unauthorized,
    /// The registry cannot be reached.
    RegistryUnreachable,
    /// The disk is full.
    NoSpace,
    /// crun on a machine with cgroups of both versions.
    HybridCgroups,
    /// A limit above what this machine grants.
    RlimitRefused,
    /// The daemon cannot be reached.
    DaemonUnreachable,
}

/// Lower-case words of Podman, Docker, runc, crun and their libraries; the first that is found decides, so the
/// narrower stand first.
const WORDS: [(&str, Cause); 34] = [
    ("cannot connect to the docker daemon", Cause::DaemonUnreachable),
    ("is the docker daemon running", Cause::DaemonUnreachable),
    ("cannot connect to podman", Cause::DaemonUnreachable),
    ("no space left on device", Cause::NoSpace),
    ("disk quota exceeded", Cause::NoSpace),
    ("unresolvable cdi devices", Cause::DeviceUnknown),
    ("could not select device driver", Cause::DeviceUnknown),
    ("unknown device", Cause::DeviceUnknown),
    ("cgroups in hybrid mode", Cause::HybridCgroups),
    ("error setting rlimit", Cause::RlimitRefused),
    ("address already in use", Cause::PortTaken),
    ("port is already allocated", Cause::PortTaken),
    ("removal of container", Cause::RemovalInProgress),
    ("no such container", Cause::NoSuchContainer),
    ("no container with name or id", Cause::NoSuchContainer),
    ("container does not exist", Cause::NoSuchContainer),
    ("can only kill running containers", Cause::NotRunning),
    ("is not running", Cause::NotRunning),
    ("does not match provided manifest digest", Cause::DigestMismatch),
    (
        "failed precondition: unexpected commit digest",
        Cause::DigestMismatch,
    ),
    ("manifest verification failed", Cause::DigestMismatch),
    ("unauthorized", Cause::Unauthorized),
    ("authentication required", Cause::Unauthorized),
    ("requested access to the resource is denied", Cause::Unauthorized),
    ("image not known", Cause::ImageUnknown),
    ("no such image", Cause::ImageUnknown),
    ("manifest unknown", Cause::ImageUnknown),
    ("name unknown", Cause::ImageUnknown),
    ("unable to find image", Cause::ImageUnknown),
    ("connection refused", Cause::RegistryUnreachable),
    ("no such host", Cause::RegistryUnreachable),
    ("i/o timeout", Cause::RegistryUnreachable),
    ("tls handshake", Cause::RegistryUnreachable),
    ("already in use", Cause::NameTaken),
];

impl Cause {
    pub(crate) fn of_words(stderr: &str) -> Option<Self> {
        let lower = stderr.to_ascii_lowercase();
        WORDS
            .iter()
            .find(|(words, _)| lower.contains(words))
            .map(|&(_, cause)| cause)
    }

    /// What helps.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::NoSuchContainer | Self::NotRunning | Self::RemovalInProgress => {
                "the container has ended or is being removed; look again"
            }
            Self::DeviceUnknown => {
                "install the NVIDIA Container Toolkit and run `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`"
            }
            Self::PortTaken => "another program took the port; the next start takes another one",
            Self::NameTaken => "a container of an earlier start is still there; it goes with the next sweep",
            Self::ImageUnknown => "check the image's name and digest, and that its registry has it",
            Self::DigestMismatch => "the registry or a proxy before it serves something else; do not use it",
            Self::Unauthorized => "log in to the registry with `podman login` or `docker login` as this user",
            Self::RegistryUnreachable => "check the registry's address and the network",
            Self::NoSpace => "free space where the runtime keeps its images and containers",
            Self::HybridCgroups => "install runc: crun does not start containers on hybrid cgroups",
            Self::RlimitRefused => "raise the limits of this service, LimitNOFILE and LimitNPROC",
            Self::DaemonUnreachable => {
                "start the daemon (`systemctl start docker`) and let this user reach its socket"
            }
        }
    }
}

impl Error {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { program } => format!("install {program}, or correct the PATH of this service"),
            Self::NotBuilt(backend) => format!("use a build with the feature backend-{backend}"),
            Self::TooOld { backend, needed, .. } => {
                format!("update {backend} to {needed} or newer")
            }
            Self::NotLocal { .. } => {
                "use a runtime on this machine: GPUs, ports and processes must be ours to see".to_owned()
            }
            Self::Spawn { program, .. } => {
                format!("check that {} can be executed by this user", program.display())
            }
            Self::TimedOut { program, .. } => format!(
                "run `{program} info` by hand: a hung storage, a full disk or a stuck lock shows there"
            ),
            Self::TooMuchOutput { program, .. } | Self::Junk { program, .. } => {
                format!("check which {program} is first on the PATH of this service")
            }
            Self::Unreachable { .. } => Cause::DaemonUnreachable.hint().to_owned(),
            Self::Failed(failure) => match failure.cause {
                Some(cause) => cause.hint().to_owned(),
                None => failure.exit_hint().to_owned(),
            },
            Self::DigestMismatch { .. } => Cause::DigestMismatch.hint().to_owned(),
        }
    }

    /// Whether the same call may succeed later without anybody's help: a hung or restarting runtime, a registry out of
    /// reach, a port or a disk that is freed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Unreachable { .. } => true,
            Self::Failed(failure) => matches!(
                failure.cause,
                Some(
                    Cause::RegistryUnreachable
                        | Cause::DaemonUnreachable
                        | Cause::PortTaken
                        | Cause::NoSpace
                        | Cause::RemovalInProgress
                )
            ),
            Self::Missing { .. }
            | Self::NotBuilt(_)
            | Self::TooOld { .. }
            | Self::NotLocal { .. }
            | Self::Spawn { .. }
            | Self::TooMuchOutput { .. }
            | Self::Junk { .. }
            | Self::DigestMismatch { .. } => false,
        }
    }

    /// What is behind a refusal, where its words tell.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Failed(failure) => failure.cause,
            Self::Unreachable { .. } => Some(Cause::DaemonUnreachable),
            Self::DigestMismatch { .. } => Some(Cause::DigestMismatch),
            _ => None,
        }
    }
}

impl Failure {
    const fn exit_hint(&self) -> &'static str {
        match self.exit {
            Exit::Runtime => "the runtime's own words say why",
            Exit::CannotExecute => {
                "the image's program cannot be executed: another architecture, or no program"
            }
            Exit::NotFound => "the image has no such program: check the image and its entrypoint",
            Exit::Code(_) | Exit::Signal(_) => "the runtime's own words say why",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REQ-CONTAINER-FAULTS: the words of the real programs, as they print them.
    #[test]
    fn the_words_of_the_programs_have_causes() {
        for (stderr, cause) in [
            (
                "Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=GPU-x",
                Cause::DeviceUnknown,
            ),
            (
                "docker: Error response from daemon: could not select device driver \"\" with capabilities: [[gpu]].",
                Cause::DeviceUnknown,
            ),
            ("Error: localhost/none:1: image not known", Cause::ImageUnknown),
            (
                "Error: inspecting object: no such object: \"x\": no such container",
                Cause::NoSuchContainer,
            ),
            (
                "Error: no container with name or ID \"x\" found: no such container",
                Cause::NoSuchContainer,
            ),
            (
                "Error response from daemon: No such container: x",
                Cause::NoSuchContainer,
            ),
            (
                "Error: runc: runc create failed: unable to start container process: error during container init: error \
                 setting rlimits for ready process: error setting rlimit type 7: operation not permitted",
                Cause::RlimitRefused,
            ),
            (
                "Error: OCI runtime error: /usr/bin/crun: cgroups in hybrid mode not supported, drop all controllers",
                Cause::HybridCgroups,
            ),
            (
                "Error: rootlessport listen tcp 127.0.0.1:80: bind: address already in use",
                Cause::PortTaken,
            ),
            (
                "Error: creating container storage: the container name \"x\" is already in use by 1. You have to remove \
                 that container to be able to reuse that name: that name is already in use",
                Cause::NameTaken,
            ),
            (
                "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
                Cause::DaemonUnreachable,
            ),
            ("write /blob: no space left on device", Cause::NoSpace),
            (
                "pinging container registry x: Get \"https://x/v2/\": dial tcp: connection refused",
                Cause::RegistryUnreachable,
            ),
        ] {
            assert_eq!(Cause::of_words(stderr), Some(cause), "{stderr}");
        }
        assert_eq!(Cause::of_words("Error: something new"), None);
    }

    /// REQ-CONTAINER-FAULTS.
    #[test]
    fn the_three_codes_of_the_runtimes_are_told_apart() {
        assert_eq!(Exit::of_code(125), Exit::Runtime);
        assert_eq!(Exit::of_code(126), Exit::CannotExecute);
        assert_eq!(Exit::of_code(127), Exit::NotFound);
        assert_eq!(Exit::of_code(1), Exit::Code(1));
    }
}
