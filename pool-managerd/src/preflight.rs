//! What must hold before an engine is started (GPU-only, without a switch): devices that are there, well and have room,
//! a model that is there and the right one, an engine. Pure: everything it judges is data that somebody else has gathered.

use std::collections::BTreeMap;

use api_types::pool::{GpuCondition, UnreadyCause};

use crate::facts::Presence;
use crate::gpu::{GpuInventory, GpuState};
use crate::source::EngineGate;
use crate::trouble::{Unready, cure};

/// What a start needs, and what is known of it.
#[derive(Debug)]
pub struct Gates<'a> {
    /// The latest look at the GPUs.
    pub gpus: &'a GpuState,
    /// The UUIDs of the pool's mask.
    pub mask: &'a [String],
    /// Bytes to be left free, by card.
    pub reserved: &'a BTreeMap<String, u64>,
    /// The model file.
    pub model: &'a Presence,
    /// What its digest must be, where the configuration says so.
    pub expected_digest: Option<&'a str>,
    /// What it is, once computed.
    pub digest: Option<&'a str>,
    /// What the engine is started from.
    pub engine: &'a EngineGate,
}

impl Gates<'_> {
    /// Checks the GPUs, then the model, then the engine, then whether there is room.
    ///
    /// # Errors
    /// The first thing that is missing, with what to do about it.
    pub fn check(&self) -> Result<(), Unready> {
        self.apart_from_room()?;
        match self.model {
            Presence::Present {
                weights: Some(needed),
                ..
            } => self.room_for(*needed),
            // What else an engine needs, it alone knows.
            _ => Ok(()),
        }
    }

    /// Checks all of it but the room.
    ///
    /// # Errors
    /// As [`Gates::check`].
    pub fn apart_from_room(&self) -> Result<(), Unready> {
        devices(self.gpus, self.mask)?;
        file(
            self.model,
            UnreadyCause::ModelMissing,
            "put the file there, or take it in with `llama-orch models pull` or `models add`",
        )?;
        self.verified()?;
        engine(self.engine)
    }

    /// The model is the one that the configuration means.
    fn verified(&self) -> Result<(), Unready> {
        match (self.expected_digest, self.digest) {
            (Some(_), None) => Err(Unready::new(
                UnreadyCause::Loading,
                "the model file's SHA-256 is being computed",
            )),
            (Some(expected), Some(digest)) if expected != digest => Err(Unready::new(
                UnreadyCause::BadModel,
                format!(
                    "the model file is {digest}, the pool's model_sha256 says {expected}; replace one of them"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// So many bytes fit beside what others hold and what is to be left free.
    ///
    /// # Errors
    /// What is needed, what is free, and who has the rest.
    pub fn room_for(&self, needed: u64) -> Result<(), Unready> {
        let inventory = devices(self.gpus, self.mask)?;
        let free: u64 = self
            .mask
            .iter()
            .filter_map(|uuid| self.free(inventory, uuid))
            .sum();
        if free >= needed {
            return Ok(());
        }
        let holders = self.mask.iter().filter_map(|uuid| holders(inventory, uuid));
        let hint = format!(
            "the model needs {needed} bytes, and {free} are free on {}{}; {}",
            self.mask.join(", "),
            holders.collect::<String>(),
            cure(UnreadyCause::VramInsufficient)
        );
        Err(Unready::new(UnreadyCause::VramInsufficient, hint))
    }

    fn free(&self, inventory: &GpuInventory, uuid: &str) -> Option<u64> {
        let instance = inventory.mig.iter().find(|instance| instance.uuid == uuid);
        let free = match instance {
            Some(instance) => instance.memory_free_bytes,
            None => inventory.card(uuid)?.memory_free_bytes,
        };
        Some(free.saturating_sub(self.reserved.get(uuid).copied().unwrap_or(0)))
    }
}

/// ` (GPU-a: process 17 holds 4 bytes)`.
fn holders(inventory: &GpuInventory, uuid: &str) -> Option<String> {
    let own = inventory.holders().filter(|(on, _)| *on == uuid);
    let each = own.map(|(_, process)| match process.used_bytes {
        Some(bytes) => format!("process {} holds {bytes} bytes", process.pid),
        None => format!("process {} holds memory", process.pid),
    });
    let each = each.collect::<Vec<_>>().join(", ");
    (!each.is_empty()).then(|| format!(" ({uuid}: {each})"))
}

fn devices<'a>(gpus: &'a GpuState, mask: &[String]) -> Result<&'a GpuInventory, Unready> {
    let inventory = gpus.as_ref().map_err(|error| {
        Unready::new(
            UnreadyCause::DriverUnavailable,
            format!("{error}; {}", error.hint()),
        )
    })?;
    present(inventory, mask)?;
    mask.iter().try_for_each(|uuid| well(inventory, uuid))?;
    Ok(inventory)
}

fn present(inventory: &GpuInventory, mask: &[String]) -> Result<(), Unready> {
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

fn well(inventory: &GpuInventory, uuid: &str) -> Result<(), Unready> {
    let Some(card) = inventory.card(uuid) else {
        return Ok(());
    };
    let cause = match card.condition {
        GpuCondition::Healthy => return Ok(()),
        GpuCondition::TooHot => UnreadyCause::GpuTooHot,
        GpuCondition::NeedsReset => UnreadyCause::GpuNeedsReset,
        GpuCondition::Unusable => UnreadyCause::GpuUnusable,
    };
    let what = card.condition_reason.as_deref().unwrap_or("it is not well");
    Err(Unready::new(
        cause,
        format!("{}: {what}; {}", card.uuid, cure(cause)),
    ))
}

fn file(presence: &Presence, cause: UnreadyCause, cure: &str) -> Result<(), Unready> {
    match presence {
        Presence::Present { .. } => Ok(()),
        Presence::Missing(why) => Err(Unready::new(cause, format!("{why}; {cure}"))),
        Presence::Coming(what) => Err(Unready::new(UnreadyCause::ModelFetching, what.as_str())),
        Presence::Unknown => Err(Unready::new(cause, "the file has not been looked at yet")),
    }
}

fn engine(gate: &EngineGate) -> Result<(), Unready> {
    match gate {
        EngineGate::Open => Ok(()),
        EngineGate::Closed(why) => Err(why.clone()),
        EngineGate::Unknown => Err(Unready::new(
            UnreadyCause::EngineMissing,
            "the engine has not been looked at yet",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::FileIdentity;
    use crate::gpu::{DriverError, MigInstance};
    use api_types::pool::{DriverReport, GpuProcess, GpuReport};
    use std::sync::Arc;

    fn gpus(uuids: &[&str]) -> GpuState {
        let gpu = |uuid: &&str| GpuReport {
            uuid: (*uuid).to_owned(),
            index: 0,
            name: "test".into(),
            compute_capability: "8.6".into(),
            memory_total_bytes: 105,
            memory_free_bytes: 100,
            memory_used_bytes: 5,
            processes: vec![GpuProcess {
                pid: 17,
                used_bytes: Some(5),
                pool_id: None,
                replica_id: None,
            }],
            ..GpuReport::default()
        };
        Ok(Arc::new(GpuInventory {
            driver: DriverReport {
                driver_version: "1".into(),
                cuda_version: "1.0".into(),
            },
            gpus: uuids.iter().map(gpu).collect(),
            mig: vec![MigInstance {
                uuid: "MIG-1".into(),
                parent: "GPU-a".into(),
                memory_free_bytes: 10,
                processes: Vec::new(),
            }],
            faults: Vec::new(),
        }))
    }

    fn present() -> Presence {
        weighing(None)
    }

    fn weighing(weights: Option<u64>) -> Presence {
        Presence::Present {
            path: "/x".into(),
            identity: FileIdentity::default(),
            weights,
        }
    }

    fn check(gpus: &GpuState, mask: &[&str], model: &Presence, engine: &EngineGate) -> Result<(), Unready> {
        let mask: Vec<String> = mask.iter().map(|uuid| (*uuid).to_owned()).collect();
        Gates {
            gpus,
            mask: &mask,
            reserved: &BTreeMap::from([("GPU-b".to_owned(), 30)]),
            model,
            expected_digest: None,
            digest: None,
            engine,
        }
        .check()
    }

    #[test]
    fn every_device_of_the_mask_must_be_there() {
        let ok = |names: &[&str]| check(&gpus(&["GPU-a", "GPU-b"]), names, &present(), &EngineGate::Open);
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
        let closed =
            || EngineGate::Closed(Unready::new(UnreadyCause::EngineMissing, "x; install the engine"));
        let cases = [
            (
                Err(DriverError::DriverNotLoaded),
                missing(),
                closed(),
                UnreadyCause::DriverUnavailable,
                "modprobe",
            ),
            (
                gpus(&["GPU-a"]),
                missing(),
                closed(),
                UnreadyCause::ModelMissing,
                "/m.gguf cannot be read",
            ),
            (
                gpus(&["GPU-a"]),
                present(),
                closed(),
                UnreadyCause::EngineMissing,
                "install the engine",
            ),
            (
                gpus(&["GPU-a"]),
                Presence::Unknown,
                EngineGate::Open,
                UnreadyCause::ModelMissing,
                "not been looked at",
            ),
            (
                gpus(&["GPU-a"]),
                present(),
                EngineGate::Unknown,
                UnreadyCause::EngineMissing,
                "not been looked at",
            ),
            (
                gpus(&["GPU-a"]),
                weighing(Some(101)),
                EngineGate::Open,
                UnreadyCause::VramInsufficient,
                "model needs 101 bytes, and 100 are free on GPU-a (GPU-a: process 17 holds 5 bytes)",
            ),
        ];
        for (state, model, engine, cause, words) in cases {
            let why = check(&state, &["GPU-a"], &model, &engine).unwrap_err();
            assert_eq!(why.cause, cause);
            assert!(why.hint.contains(words), "{}", why.hint);
        }
    }

    /// Of GPU-b 30 bytes are reserved; GPU-a has none to spare but its 100.
    #[test]
    fn what_is_reserved_is_not_room() {
        let both = gpus(&["GPU-a", "GPU-b"]);
        let fits =
            |mask: &[&str], weights| check(&both, mask, &weighing(Some(weights)), &EngineGate::Open).is_ok();
        assert!(fits(&["GPU-a"], 100) && fits(&["GPU-b"], 70) && fits(&["GPU-a", "GPU-b"], 170));
        assert!(!fits(&["GPU-b"], 71) && !fits(&["GPU-a", "GPU-b"], 171));
    }

    #[test]
    fn a_card_that_reported_errors_is_not_started_on() {
        let with = |condition, reason: &str| {
            let mut inventory = GpuInventory::clone(gpus(&["GPU-a"]).unwrap().as_ref());
            inventory.gpus[0].condition = condition;
            inventory.gpus[0].condition_reason = Some(reason.to_owned());
            check(
                &Ok(Arc::new(inventory)),
                &["GPU-a"],
                &present(),
                &EngineGate::Open,
            )
        };
        assert_eq!(with(GpuCondition::Healthy, ""), Ok(()));
        let hot = with(GpuCondition::TooHot, "91 °C").unwrap_err();
        assert_eq!(hot.cause, UnreadyCause::GpuTooHot);
        assert!(
            hot.hint.starts_with("GPU-a: 91 °C; it takes work again"),
            "{}",
            hot.hint
        );
        let reset = with(GpuCondition::NeedsReset, "memory errors").unwrap_err();
        assert_eq!(reset.cause, UnreadyCause::GpuNeedsReset);
        assert!(reset.hint.contains("memory errors"), "{}", reset.hint);
        let dead = with(GpuCondition::Unusable, "Xid 79").unwrap_err();
        assert_eq!(dead.cause, UnreadyCause::GpuUnusable);
        assert!(dead.hint.contains("Xid 79"), "{}", dead.hint);
    }

    #[test]
    fn a_model_with_a_digest_must_have_just_that() {
        let (gpus, mask) = (gpus(&["GPU-a"]), ["GPU-a".to_owned()]);
        let with = |digest| {
            let gates = Gates {
                gpus: &gpus,
                mask: &mask,
                reserved: &BTreeMap::new(),
                model: &present(),
                expected_digest: Some("sha256:aa"),
                digest,
                engine: &EngineGate::Open,
            };
            gates.check().map_err(|why| why.cause)
        };
        assert_eq!(with(Some("sha256:aa")), Ok(()));
        assert_eq!(with(None), Err(UnreadyCause::Loading));
        assert_eq!(with(Some("sha256:bb")), Err(UnreadyCause::BadModel));
    }
}
