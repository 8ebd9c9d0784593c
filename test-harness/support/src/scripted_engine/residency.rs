//! Makes the scripted engine visible to the fake NVML: what a real engine holds by its CUDA context, this one says it
//! holds. Touches one file beside the control file; without a control file nobody can see it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fake_nvml::spec::FILE_VARIABLE;

use super::script::Residency;
use crate::fake_nvml::hold;

/// What the driver keeps for any program with a context.
const CONTEXT_BYTES: u64 = 300 << 20;

const MASK_VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// Says what is held from now on by this process: the model, spread evenly, once it is `loaded`.
pub(super) fn declare(residency: &Residency, model: Option<&Path>, loaded: bool) -> io::Result<()> {
    let Some(control) = variable(FILE_VARIABLE).map(PathBuf::from) else {
        return Ok(());
    };
    let mask: Vec<String> = variable(MASK_VARIABLE)
        .map(|mask| mask.split(',').map(str::to_owned).collect())
        .unwrap_or_default();
    let (uuids, weights) = match residency {
        Residency::Honest => (mask, loaded),
        Residency::ContextOnly => (mask, false),
        Residency::On(uuids) => (uuids.clone(), loaded),
        Residency::Absent => return Ok(()),
    };
    let bytes = model
        .filter(|_| weights)
        .map_or(Ok(0), |path| fs::metadata(path).map(|meta| meta.len()))?;
    let share = bytes.div_ceil(uuids.len().max(1) as u64);
    let pid = std::process::id();
    let held = uuids.into_iter().map(|uuid| (uuid, CONTEXT_BYTES + share));
    hold(&control, pid, held.collect())
}

#[expect(
    clippy::disallowed_methods,
    reason = "an engine's environment is what its supervisor sets"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
