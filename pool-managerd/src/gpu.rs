//! What the node's GPUs are and how they fare, as `gpu-probe` samples them; how that is reported, and the proof that an
//! engine is where it must be.

pub mod residency;

use api_types::link::NodeReport;
use gpu_probe::faults_text;

pub use gpu_probe::{
    DeviceFault, DriverError, GpuInventory, GpuState, GpuWatch, Gpus, MigInstance, NVML_LIBRARY, NvmlGpus,
    Sampler, SamplerOptions,
};

/// Writes the state into a report: the driver and its cards, or the diagnosis with its hint.
pub fn describe(state: &GpuState, report: &mut NodeReport) {
    match state {
        Ok(inventory) => {
            report.driver = Some(inventory.driver.clone());
            report.gpus.clone_from(&inventory.gpus);
            report.driver_error = faults_text(&inventory.faults);
        }
        Err(error) => report.driver_error = Some(format!("{error}; {}", error.hint())),
    }
}
