//! The last step before the engine: the process that becomes it. What must be set inside that process is set here,
//! where ordinary code runs, instead of between fork and exec.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use rustix::thread::set_no_new_privs;

use crate::procfs;

/// What a shell answers when it cannot run a program.
const CANNOT_EXECUTE: u8 = 127;

/// The line that a failed step leaves in the engine's log; the cause is told from these words.
pub const REFUSAL: &str = "the engine cannot be executed";

/// Arguments: the shim's process id, the control group to join or an empty text, the program and its arguments.
/// Returns only when the engine could not be executed.
pub(super) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let failed = become_engine(arguments).err();
    let why = failed.map_or_else(String::new, |error| format!(": {error}"));
    // The shim drains this into the engine's log; nobody else could be told.
    let _told_or_gone = writeln!(io::stderr(), "{REFUSAL}{why}");
    ExitCode::from(CANNOT_EXECUTE)
}

fn become_engine(mut arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let mut next = || arguments.next().ok_or(io::ErrorKind::InvalidInput);
    let (shim, group, program) = (next()?, next()?, next()?);
    die_with(&shim)?;
    if !group.is_empty() {
        // Without it the engine is found by its environment.
        let _joined_or_not = fs::write(Path::new(&group).join("cgroup.procs"), "0");
    }
    set_no_new_privs(true)?;
    setrlimit(Resource::Core, NO_CORE)?;
    Err(Command::new(program).args(arguments).exec())
}

/// A crashed engine's memory holds prompts, and is as large as its model.
const NO_CORE: Rlimit = Rlimit {
    current: Some(0),
    maximum: Some(0),
};

/// The kernel kills this process when the shim dies. The shim starts it from its only thread, since the signal
/// follows the thread, not the process.
fn die_with(shim: &OsString) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let shim = shim.to_str().and_then(|pid| procfs::raw(pid.parse().ok()?));
    if getppid() == shim {
        return Ok(());
    }
    Err(io::Error::other("its shim is gone"))
}
