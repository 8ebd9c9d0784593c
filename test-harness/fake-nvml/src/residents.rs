//! Programs that say of themselves that they hold memory on GPUs: a pretended engine writes a file into the folder beside
//! the control file, and is listed as long as it lives. A real driver learns of a program by its CUDA context.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::spec::{Gpu, Process};

/// What one program holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resident {
    /// When the program was started, clock ticks since boot: its number may be another program's later.
    pub started_ticks: u64,
    /// Bytes by GPU UUID.
    pub held: BTreeMap<String, u64>,
}

/// The folder of the control file's residents; each file in it is named by a process id.
#[must_use]
pub fn folder(control_file: &Path) -> PathBuf {
    let mut name = control_file.as_os_str().to_owned();
    name.push(".residents");
    PathBuf::from(name)
}

/// The start of a running process, clock ticks since boot.
#[must_use]
pub fn started_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let running = !matches!(fields.next()?, "Z" | "X");
    running.then(|| fields.nth(18)?.parse().ok()).flatten()
}

/// The GPU with its residents among its processes.
pub(crate) fn with_residents(gpu: &Gpu, control_file: &Path) -> Gpu {
    let mut gpu = gpu.clone();
    let entries = fs::read_dir(folder(control_file)).into_iter().flatten().flatten();
    for entry in entries {
        gpu.processes.extend(process(&entry.path(), &gpu.uuid));
    }
    gpu
}

/// None of a file that is half written, or of a program that has ended.
fn process(path: &Path, uuid: &str) -> Option<Process> {
    let pid = path.file_name()?.to_str()?.parse().ok()?;
    let resident: Resident = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let used = *resident.held.get(uuid)?;
    (started_ticks(pid) == Some(resident.started_ticks)).then_some(Process {
        pid,
        used: Some(used),
    })
}
