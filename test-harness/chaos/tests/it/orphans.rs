//! Looks for processes of engines that should be gone: every process of a start carries its mark, and the folder of a
//! replica tells which start is the latest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

const MARK: &[u8] = b"LLAMA_ORCH_ENGINE_START=";

/// Processes of this system's engines whose start is not the latest of any replica, as `pid (mark)`.
pub(crate) fn orphans(system: &Path) -> Vec<String> {
    let current = current_marks(system);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let marks = entries.filter_map(|entry| {
        Some((
            entry.file_name().to_str()?.to_owned(),
            mark(&entry.path(), system)?,
        ))
    });
    let orphans = marks.filter(|(_, mark)| !current.contains(mark));
    orphans.map(|(pid, mark)| format!("{pid} ({mark})")).collect()
}

/// None for a process that is no engine, or one of another system.
fn mark(process: &Path, system: &Path) -> Option<String> {
    let environment = fs::read(process.join("environ")).ok()?;
    let folder = system.to_str()?.as_bytes();
    let ours = environment.windows(folder.len()).any(|part| part == folder);
    let mark = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(MARK))?;
    ours.then(|| String::from_utf8_lossy(mark).into_owned())
}

fn current_marks(system: &Path) -> BTreeSet<String> {
    records(system)
        .iter()
        .filter_map(|path| {
            let record: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
            Some(record["start"]["mark"].as_str()?.to_owned())
        })
        .collect()
}

/// `…/engines/POOL/REPLICA/start.json`, wherever below the system's folder the state is.
fn records(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "start.json") {
                found.push(path);
            }
        }
    }
    found
}
