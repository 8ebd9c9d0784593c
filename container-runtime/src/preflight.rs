//! What must hold before an engine is started in a container: a runtime that will do, the NVIDIA Container Toolkit, CDI
//! specifications that name our GPUs and fit the driver, a free port, readable paths. Every finding says what helps.

mod cdi;
mod machine;
mod toolkit;

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::detect::{NoRuntime, Setup, detect};
use crate::error::Error;
use crate::facts::Backend;
use crate::runtime::ContainerRuntime;
use crate::spec::{DeviceMask, DeviceUuid};
use crate::version::Version;

pub use cdi::CDI_DIRS;

/// The first without CVE-2025-23266, through which a container leaves its sandbox.
pub const OLDEST_TOOLKIT: Version = Version(1, 17, 8);

/// What one start needs.
#[derive(Debug, Clone)]
pub struct Needs {
    /// The GPUs.
    pub devices: DeviceMask,
    /// The driver's version as NVML tells it; without it freshness is judged by files alone.
    pub driver: Option<String>,
    /// The loopback port to be published, where it is known already.
    pub port: Option<u16>,
    /// Files and folders to be mounted.
    pub paths: Vec<PathBuf>,
    /// Where CDI specifications are, the later folder winning: [`CDI_DIRS`] unless the runtime is told otherwise.
    pub cdi_dirs: Vec<PathBuf>,
}

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Finding {
    /// Whether it forbids the start.
    pub severity: Severity,
    /// What.
    pub problem: Problem,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Works, but less well protected than it could be.
    Warning,
    /// No start.
    Refusal,
}

/// The kinds of findings.
#[derive(Debug)]
pub enum Problem {
    /// There is no runtime: missing, too old, hanging, elsewhere.
    NoRuntime(NoRuntime),
    /// Containers have the rights of root on this machine.
    Rootful(Backend),
    /// crun does not start containers on this machine, and there is no runc.
    RuncMissing,
    /// Neither memory nor processes, or one of them, can be limited.
    NoLimits {
        /// Which.
        what: &'static str,
    },
    /// The NVIDIA Container Toolkit is not installed.
    ToolkitMissing,
    /// It is, and does not tell its version.
    ToolkitBroken(Error),
    /// It has holes that are known.
    ToolkitTooOld(Version),
    /// Docker gives a container its GPUs by a hook that is not installed.
    HookMissing,
    /// No specification for NVIDIA's devices in any of the folders.
    CdiMissing {
        /// Where it was looked for.
        dirs: Vec<PathBuf>,
    },
    /// A specification that cannot be read.
    CdiUnreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A specification made for another driver.
    CdiStale {
        /// Which.
        path: PathBuf,
        /// The version it was made for.
        made_for: String,
        /// The version that runs.
        driver: String,
    },
    /// A specification names a file that is not there: the driver was changed since.
    CdiFileMissing {
        /// Which.
        path: PathBuf,
        /// The file.
        file: PathBuf,
    },
    /// A device node that this user cannot open.
    DeviceClosed {
        /// The node.
        node: PathBuf,
        /// What the operating system says.
        why: String,
    },
    /// No specification names the GPU.
    DeviceUnknown {
        /// The GPU.
        device: DeviceUuid,
        /// What is named, by UUID.
        known: Vec<String>,
    },
    /// Looking at the paths takes longer than it may.
    FilesHang {
        /// The deadline.
        after: Duration,
    },
    /// The port is another program's, or not for us.
    PortTaken {
        /// The port.
        port: u16,
        /// What the operating system says.
        why: String,
    },
    /// A path that is to be mounted is not there or cannot be read.
    PathUnreadable {
        /// The path.
        path: PathBuf,
        /// What the operating system says.
        why: String,
    },
}

/// What was found, and with what.
#[derive(Debug)]
pub struct Preflight {
    /// The runtime, if there is one.
    pub runtime: Option<ContainerRuntime>,
    /// The findings, refusals first.
    pub findings: Vec<Finding>,
}

impl Preflight {
    /// The first finding that forbids the start.
    #[must_use]
    pub fn refusal(&self) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.severity == Severity::Refusal)
    }
}

/// Finds the runtime and checks everything.
pub async fn preflight(setup: &Setup, needs: &Needs) -> Preflight {
    match detect(setup).await {
        Ok(runtime) => {
            let findings = check(&runtime, needs).await;
            Preflight {
                runtime: Some(runtime),
                findings,
            }
        }
        Err(none) => Preflight {
            runtime: None,
            findings: vec![refusal(Problem::NoRuntime(none))],
        },
    }
}

/// Checks everything but the runtime itself; the findings, refusals first.
pub async fn check(runtime: &ContainerRuntime, needs: &Needs) -> Vec<Finding> {
    let mut findings = of_runtime(runtime);
    findings.extend(toolkit::check(runtime).await);
    findings.extend(of_files(runtime, needs).await);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// On a thread of its own: a path may lie on a file system that hangs.
async fn of_files(runtime: &ContainerRuntime, needs: &Needs) -> Vec<Finding> {
    let deadline = runtime.query_deadline();
    let (answer, answered) = oneshot::channel();
    let (runtime, needs) = (runtime.clone(), needs.clone());
    thread::spawn(move || {
        let mut findings = match runtime.facts().backend {
            Backend::Podman => cdi::check(&needs),
            Backend::Docker => toolkit::check_hook(&runtime).into_iter().collect(),
        };
        findings.extend(machine::check(&needs));
        // Nobody waits any more when the deadline has passed.
        let _heard_or_not = answer.send(findings);
    });
    match timeout(deadline, answered).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(_)) | Err(_) => vec![refusal(Problem::FilesHang { after: deadline })],
    }
}

fn of_runtime(runtime: &ContainerRuntime) -> Vec<Finding> {
    let facts = runtime.facts();
    let mut findings = Vec::new();
    if !facts.rootless {
        findings.push(warning(Problem::Rootful(facts.backend)));
    }
    if runtime.adaptation().runc_is_missing {
        findings.push(refusal(Problem::RuncMissing));
    }
    let what = match (facts.limits_memory, facts.limits_pids) {
        (true, true) => None,
        (true, false) => Some("the number of processes"),
        (false, true) => Some("memory"),
        (false, false) => Some("memory and the number of processes"),
    };
    findings.extend(what.map(|what| warning(Problem::NoLimits { what })));
    findings
}

const fn refusal(problem: Problem) -> Finding {
    Finding {
        severity: Severity::Refusal,
        problem,
    }
}

const fn warning(problem: Problem) -> Finding {
    Finding {
        severity: Severity::Warning,
        problem,
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRuntime(none) => none.fmt(f),
            Self::Rootful(backend) => write!(f, "{backend} runs containers with the rights of root"),
            Self::RuncMissing => {
                f.write_str("crun starts no container on hybrid cgroups, and there is no runc")
            }
            Self::NoLimits { what } => {
                write!(f, "{what} cannot be limited: the cgroup controllers are not ours")
            }
            Self::ToolkitMissing => f.write_str("the NVIDIA Container Toolkit is not installed"),
            Self::ToolkitBroken(error) => write!(f, "the NVIDIA Container Toolkit does not answer: {error}"),
            Self::ToolkitTooOld(found) => write!(
                f,
                "the NVIDIA Container Toolkit {found} has known holes, {OLDEST_TOOLKIT} or newer is needed"
            ),
            Self::HookMissing => f.write_str("nvidia-container-runtime-hook is not installed"),
            Self::CdiMissing { dirs } => {
                write!(f, "no CDI specification for nvidia.com/gpu in {}", joined(dirs))
            }
            Self::CdiUnreadable { path, why } => {
                write!(
                    f,
                    "the CDI specification {} cannot be read: {why}",
                    path.display()
                )
            }
            Self::CdiStale {
                path,
                made_for,
                driver,
            } => write!(
                f,
                "the CDI specification {} was made for driver {made_for}, {driver} runs",
                path.display()
            ),
            Self::CdiFileMissing { path, file } => write!(
                f,
                "the CDI specification {} names {}, which is not there",
                path.display(),
                file.display()
            ),
            Self::DeviceClosed { node, why } => {
                write!(f, "this user cannot open {}: {why}", node.display())
            }
            Self::DeviceUnknown { device, known } if known.is_empty() => {
                write!(f, "no CDI specification names {device}, nor any GPU by UUID")
            }
            Self::DeviceUnknown { device, known } => {
                write!(
                    f,
                    "no CDI specification names {device}, only {}",
                    known.join(", ")
                )
            }
            Self::FilesHang { after } => write!(
                f,
                "looking at the paths to be mounted takes more than {} s",
                after.as_secs_f32()
            ),
            Self::PortTaken { port, why } => write!(f, "port {port} of the loopback cannot be taken: {why}"),
            Self::PathUnreadable { path, why } => write!(f, "{} cannot be read: {why}", path.display()),
        }
    }
}

fn joined(paths: &[PathBuf]) -> String {
    let texts: Vec<String> = paths
        .iter()
        .map(|path: &PathBuf| path.display().to_string())
        .collect();
    texts.join(", ")
}

impl Problem {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoRuntime(none) => none.hint(),
            Self::Rootful(_) => "run pool-managerd as an ordinary user, for whom containers are rootless".to_owned(),
            Self::RuncMissing => "install runc".to_owned(),
            Self::NoLimits { .. } => {
                "delegate the controllers: Delegate=cpu memory pids in the service's unit, on cgroups of version 2"
                    .to_owned()
            }
            Self::ToolkitMissing | Self::ToolkitBroken(_) | Self::HookMissing => {
                format!("install nvidia-container-toolkit {OLDEST_TOOLKIT} or newer")
            }
            Self::ToolkitTooOld(_) => {
                format!("update nvidia-container-toolkit to {OLDEST_TOOLKIT} or newer, then generate the specification again")
            }
            Self::CdiMissing { .. } | Self::CdiStale { .. } | Self::CdiFileMissing { .. } => generate(None),
            Self::CdiUnreadable { path, .. } => generate(Some(path)),
            Self::DeviceClosed { .. } => {
                "make the driver's device nodes readable and writable for this user (usually mode 0666)".to_owned()
            }
            Self::DeviceUnknown { .. } => {
                format!("correct the pool's devices, or {}", generate(None))
            }
            Self::FilesHang { .. } => "check the file system that they are on".to_owned(),
            Self::PortTaken { .. } => "free the port, or choose another one".to_owned(),
            Self::PathUnreadable { .. } => "correct the path, or let this user read it".to_owned(),
        }
    }
}

fn generate(path: Option<&Path>) -> String {
    let path = path.map_or_else(
        || "/etc/cdi/nvidia.yaml".to_owned(),
        |path| path.display().to_string(),
    );
    format!("run `nvidia-ctk cdi generate --output={path}` as root")
}

impl fmt::Display for Finding {
    /// The problem and what helps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.problem.hint())
    }
}
