//! What the GPUs below the pools do, from the nodes' last reports: `gpu_utilization` and `vram_used_bytes`. Owns these
//! two families; a reading that no node stands for any more leaves no series behind.

use std::collections::BTreeMap;

use api_types::pool::GpuReport;
use prometheus::{IntGaugeVec, Opts, Registry};

const LABELS: [&str; 4] = ["engine", "engine_version", "pool_id", "device"];

/// Which series a reading belongs to: values of `engine`, `engine_version`, `pool_id`, `device`.
pub type Device = [String; 4];

/// What a node told of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Per cent; absent where the card does not tell it.
    utilization: Option<u32>,
    /// All programs together, bytes.
    used: u64,
}

impl From<&GpuReport> for Reading {
    fn from(gpu: &GpuReport) -> Self {
        Self {
            utilization: gpu.utilization_percent,
            used: gpu.memory_used_bytes,
        }
    }
}

/// The two families and what they show now.
#[derive(Debug)]
pub struct DeviceGauges {
    utilization: IntGaugeVec,
    used: IntGaugeVec,
    shown: BTreeMap<Device, Reading>,
}

impl DeviceGauges {
    /// Registers the families.
    ///
    /// # Errors
    /// When a family of the same name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = |name, help| {
            let family = IntGaugeVec::new(Opts::new(name, help), &LABELS)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        Ok(Self {
            utilization: family("gpu_utilization", "Busy share of a pool's GPU, per cent")?,
            used: family(
                "vram_used_bytes",
                "Memory in use on a pool's GPU, other programs' included",
            )?,
            shown: BTreeMap::new(),
        })
    }

    /// Shows these readings and no others.
    pub fn show(&mut self, readings: BTreeMap<Device, Reading>) {
        for (device, before) in &self.shown {
            let now = readings.get(device);
            if now.is_none() {
                forget(&self.used, device);
            }
            if before.utilization.is_some() && now.is_none_or(|reading| reading.utilization.is_none()) {
                forget(&self.utilization, device);
            }
        }
        for (device, reading) in &readings {
            let device: Vec<&str> = device.iter().map(String::as_str).collect();
            if let Some(percent) = reading.utilization {
                self.utilization.with_label_values(&device).set(percent.into());
            }
            self.used
                .with_label_values(&device)
                .set(i64::try_from(reading.used).unwrap_or(i64::MAX));
        }
        self.shown = readings;
    }
}

fn forget(family: &IntGaugeVec, device: &Device) {
    let device: Vec<&str> = device.iter().map(String::as_str).collect();
    // An error means that there is no such series, which is what is wanted.
    let _unknown = family.remove_label_values(&device);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(pool: &str) -> Device {
        ["llamacpp", "b1", pool, "GPU-0"].map(str::to_owned)
    }

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn a_reading_that_is_gone_leaves_no_series() {
        let registry = Registry::new();
        let mut gauges = DeviceGauges::new(&registry).unwrap();
        let reading = |utilization, used| Reading { utilization, used };
        gauges.show(BTreeMap::from([
            (device("a"), reading(Some(40), 1000)),
            (device("b"), reading(Some(50), 2000)),
        ]));
        assert!(
            text(&registry).contains(r#"pool_id="a"} 40"#),
            "{}",
            text(&registry)
        );
        gauges.show(BTreeMap::from([(device("b"), reading(None, 3000))]));
        let after = text(&registry);
        assert!(
            !after.contains(r#"pool_id="a""#) && !after.contains("gpu_utilization{"),
            "{after}"
        );
        assert!(after.contains(r#"pool_id="b"} 3000"#), "{after}");
    }
}
