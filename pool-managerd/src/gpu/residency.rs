//! The proof that an engine is on its GPUs (ORCH-3430): its processes hold memory on exactly the devices of its mask,
//! together at least what its weights need. Pure: a sample of the GPUs in, a verdict out.

use super::GpuInventory;

/// What a sample says of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Residency {
    /// It holds so many bytes on its mask; the driver may not tell how many.
    Proven(Option<u64>),
    /// It does not, and says where it is or what is missing.
    Violated(String),
}

/// What an engine must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The UUIDs of its mask.
    pub mask: Vec<String>,
    /// What its weights take at least, bytes; 0 when that is not known.
    pub weights: u64,
}

impl Claim {
    /// Judges a sample; `ours` tells the engine's processes from others.
    #[must_use]
    pub fn judge(&self, inventory: &GpuInventory, ours: impl Fn(u32) -> bool) -> Residency {
        let own: Vec<_> = inventory
            .holders()
            .filter(|(_, process)| ours(process.pid))
            .collect();
        let astray = own
            .iter()
            .find(|(uuid, _)| !self.mask.iter().any(|device| device == uuid));
        if let Some((uuid, process)) = astray {
            return Residency::Violated(format!(
                "process {} of the engine holds memory on {uuid}, which is not in the pool's mask ({})",
                process.pid,
                self.mask.join(", ")
            ));
        }
        let idle = self
            .mask
            .iter()
            .find(|device| !own.iter().any(|(uuid, _)| uuid == device));
        if let Some(device) = idle {
            return Residency::Violated(format!(
                "no process of the engine holds memory on {device}: it does not compute there"
            ));
        }
        match inventory.held_by(&ours) {
            Some(held) if held < self.weights => Residency::Violated(format!(
                "the engine holds {held} bytes on its GPUs, and the model's weights alone are {} bytes",
                self.weights
            )),
            held => Residency::Proven(held),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::MigInstance;
    use api_types::pool::{DriverReport, GpuProcess, GpuReport};

    const GIB: u64 = 1 << 30;

    fn process(pid: u32, used_bytes: Option<u64>) -> GpuProcess {
        GpuProcess {
            pid,
            used_bytes,
            pool_id: None,
            replica_id: None,
        }
    }

    fn inventory(cards: &[(&str, &[GpuProcess])]) -> GpuInventory {
        let card = |(uuid, processes): &(&str, &[GpuProcess])| GpuReport {
            uuid: (*uuid).to_owned(),
            processes: processes.to_vec(),
            ..GpuReport::default()
        };
        GpuInventory {
            driver: DriverReport {
                driver_version: "1".into(),
                cuda_version: "1".into(),
            },
            gpus: cards.iter().map(card).collect(),
            mig: vec![MigInstance {
                uuid: "MIG-1".into(),
                parent: "GPU-a".into(),
                memory_free_bytes: GIB,
                processes: vec![process(70, Some(GIB))],
            }],
            faults: Vec::new(),
        }
    }

    fn judge(mask: &[&str], inventory: &GpuInventory, pids: &[u32]) -> Residency {
        let claim = Claim {
            mask: mask.iter().map(|uuid| (*uuid).to_owned()).collect(),
            weights: 2 * GIB,
        };
        claim.judge(inventory, |pid| pids.contains(&pid))
    }

    fn refused(verdict: &Residency, words: &str) {
        assert!(
            matches!(verdict, Residency::Violated(why) if why.contains(words)),
            "{verdict:?}"
        );
    }

    #[test]
    fn exactly_the_mask_and_at_least_the_weights() {
        let two = inventory(&[
            ("GPU-a", &[process(7, Some(GIB)), process(1, Some(9 * GIB))]),
            ("GPU-b", &[process(8, Some(GIB))]),
        ]);
        assert_eq!(
            judge(&["GPU-a", "GPU-b"], &two, &[7, 8]),
            Residency::Proven(Some(2 * GIB))
        );
        refused(
            &judge(&["GPU-a"], &two, &[7, 8]),
            "GPU-b, which is not in the pool's mask (GPU-a)",
        );
        refused(
            &judge(&["GPU-a", "GPU-b"], &two, &[7]),
            "no process of the engine holds memory on GPU-b",
        );
        refused(&judge(&["GPU-a"], &two, &[7]), "holds 1073741824 bytes");
        refused(&judge(&["GPU-b"], &two, &[99]), "does not compute there");
    }

    /// A driver that lists processes without their memory proves where an engine is, not how much of it.
    #[test]
    fn memory_that_is_not_told_is_not_held_against_an_engine() {
        let untold = inventory(&[("GPU-a", &[process(7, None)])]);
        assert_eq!(judge(&["GPU-a"], &untold, &[7]), Residency::Proven(None));
    }

    #[test]
    fn an_instance_of_a_card_is_a_device_of_its_own() {
        let split = inventory(&[("GPU-a", &[])]);
        refused(&judge(&["MIG-1"], &split, &[70]), "holds 1073741824 bytes");
        refused(&judge(&["GPU-a"], &split, &[70]), "MIG-1, which is not");
    }
}
