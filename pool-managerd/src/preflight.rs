//! What must hold before an engine is started (GPU-only, without a switch). Pure: everything it judges is
//! data that somebody else has gathered.

use api_types::pool::UnreadyCause;

use crate::facts::Presence;
use crate::gpu::GpuState;
use crate::trouble::Unready;

/// Checks the GPUs, then the model, then the engine.
///
/// # Errors
/// The first thing that is missing, with what to do about it.
pub fn check(gpus: &GpuState, mask: &[String], model: &Presence, engine: &Presence) -> Result<(), Unready> {
    devices(gpus, mask)?;
    file(model, UnreadyCause::ModelMissing, "put the model file there")?;
    file(
        engine,
        UnreadyCause::EngineMissing,
        "install the engine, or set the pool's binary",
    )
}

fn devices(gpus: &GpuState, mask: &[String]) -> Result<(), Unready> {
    let inventory = gpus.as_ref().map_err(|error| {
        Unready::new(
            UnreadyCause::DriverUnavailable,
            format!("{error}; {}", error.hint()),
        )
    })?;
    let missing: Vec<&str> = mask
        .iter()
        .map(String::as_str)
        .filter(|uuid| !inventory.has(uuid))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let present = inventory.uuids().collect::<Vec<_>>().join(", ");
    let hint = format!(
        "{} is not among this node's devices ({present}); correct the pool's devices, or check dmesg for a lost GPU",
        missing.join(", ")
    );
    Err(Unready::new(UnreadyCause::DeviceMissing, hint))
}

fn file(presence: &Presence, cause: UnreadyCause, cure: &str) -> Result<(), Unready> {
    match presence {
        Presence::Present { .. } => Ok(()),
        Presence::Missing(why) => Err(Unready::new(cause, format!("{why}; {cure}"))),
        Presence::Unknown => Err(Unready::new(cause, "the file has not been looked at yet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::FileIdentity;
    use crate::gpu::{DriverError, GpuInventory};
    use api_types::pool::{DriverReport, GpuReport};
    use std::sync::Arc;

    fn gpus(uuids: &[&str]) -> GpuState {
        let gpu = |uuid: &&str| GpuReport {
            uuid: (*uuid).to_owned(),
            index: 0,
            name: "test".into(),
            compute_capability: "8.6".into(),
            memory_total_bytes: 1,
            memory_free_bytes: 1,
            memory_used_bytes: 0,
            utilization_percent: None,
            temperature_c: None,
            power_mw: None,
        };
        Ok(Arc::new(GpuInventory {
            driver: DriverReport {
                driver_version: "1".into(),
                cuda_version: "1.0".into(),
            },
            gpus: uuids.iter().map(gpu).collect(),
            mig: vec!["MIG-1".into()],
            faults: Vec::new(),
        }))
    }

    fn present() -> Presence {
        Presence::Present {
            path: "/x".into(),
            identity: FileIdentity::default(),
        }
    }

    fn mask(uuids: &[&str]) -> Vec<String> {
        uuids.iter().map(|uuid| (*uuid).to_owned()).collect()
    }

    #[test]
    fn every_device_of_the_mask_must_be_there() {
        let ok = |names: &[&str]| check(&gpus(&["GPU-a", "GPU-b"]), &mask(names), &present(), &present());
        assert_eq!(ok(&["GPU-a"]), Ok(()));
        assert_eq!(ok(&["GPU-b", "GPU-a", "MIG-1"]), Ok(()));
        let why = ok(&["GPU-a", "GPU-c"]).unwrap_err();
        assert_eq!(why.cause, UnreadyCause::DeviceMissing);
        assert!(
            why.hint.starts_with("GPU-c is not among") && why.hint.contains("GPU-b"),
            "{}",
            why.hint
        );
    }

    #[test]
    fn what_is_missing_is_named_first_things_first() {
        let missing = || Presence::Missing("/m.gguf cannot be read: not found".into());
        let cases = [
            (
                Err(DriverError::DriverNotLoaded),
                missing(),
                missing(),
                UnreadyCause::DriverUnavailable,
                "modprobe",
            ),
            (
                gpus(&["GPU-a"]),
                missing(),
                missing(),
                UnreadyCause::ModelMissing,
                "/m.gguf cannot be read",
            ),
            (
                gpus(&["GPU-a"]),
                present(),
                missing(),
                UnreadyCause::EngineMissing,
                "install the engine",
            ),
            (
                gpus(&["GPU-a"]),
                Presence::Unknown,
                present(),
                UnreadyCause::ModelMissing,
                "not been looked at",
            ),
        ];
        for (state, model, engine, cause, words) in cases {
            let why = check(&state, &mask(&["GPU-a"]), &model, &engine).unwrap_err();
            assert_eq!(why.cause, cause);
            assert!(why.hint.contains(words), "{}", why.hint);
        }
    }
}
