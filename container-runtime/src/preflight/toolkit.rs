//! The NVIDIA Container Toolkit: its version, and the hook through which Docker gives a container its GPUs.

use super::{Finding, OLDEST_TOOLKIT, Problem, refusal};
use crate::cli::{Call, Cli};
use crate::error::{Action, Error};
use crate::runtime::ContainerRuntime;
use crate::version::Version;

const TOOL: &str = "nvidia-ctk";

/// Docker's daemon looks for one of these, the second being its older name.
const HOOKS: [&str; 2] = ["nvidia-container-runtime-hook", "nvidia-container-toolkit"];

pub(super) async fn check(runtime: &ContainerRuntime) -> Option<Finding> {
    let path = runtime.cli().environment.search_path();
    let Some(program) = path.find_also_in_sbin(TOOL) else {
        return Some(refusal(Problem::ToolkitMissing));
    };
    let cli = Cli {
        name: TOOL,
        program,
        ..runtime.cli().clone()
    };
    match version(&cli, runtime).await {
        Err(error) => Some(refusal(Problem::ToolkitBroken(error))),
        Ok(version) if version < OLDEST_TOOLKIT => Some(refusal(Problem::ToolkitTooOld(version))),
        Ok(_) => None,
    }
}

async fn version(cli: &Cli, runtime: &ContainerRuntime) -> Result<Version, Error> {
    let call = Call {
        action: Action::Toolkit,
        args: vec!["--version".to_owned()],
        stdin: None,
        deadline: runtime.query_deadline(),
    };
    let stdout = cli.answer(call).await?;
    let version = Version::find(&String::from_utf8_lossy(&stdout));
    version.ok_or_else(|| cli.junk(Action::Toolkit, "no version", &stdout))
}

pub(super) fn check_hook(runtime: &ContainerRuntime) -> Option<Finding> {
    let path = runtime.cli().environment.search_path();
    let there = HOOKS.iter().any(|hook| path.find_also_in_sbin(hook).is_some());
    (!there).then(|| refusal(Problem::HookMissing))
}
