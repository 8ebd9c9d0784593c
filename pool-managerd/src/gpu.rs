//! What the node's GPUs are and how they fare: one trait, its NVML implementation, and the sampler that keeps
//! a hanging driver away from the daemon. Reads only; no CUDA context is ever opened.

mod nvml;
mod sampler;

use std::path::PathBuf;
use std::sync::Arc;

use api_types::link::NodeReport;
use api_types::pool::{DriverReport, GpuReport};

pub use nvml::NvmlGpus;
pub use sampler::{Sampler, SamplerOptions};

/// Where the daemon learns about GPUs. A call may block or never return: it is made on a thread of its own.
pub trait Gpus: Send + 'static {
    /// Everything about every GPU, now.
    ///
    /// # Errors
    /// [`DriverError`] when the driver as a whole does not answer; one broken card is a [`DeviceFault`]
    /// instead.
    fn sample(&mut self) -> Result<GpuInventory, DriverError>;
}

/// One complete answer of the driver.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuInventory {
    /// Versions.
    pub driver: DriverReport,
    /// The cards that answer.
    pub gpus: Vec<GpuReport>,
    /// UUIDs of the MIG instances on them; a mask may name one instead of a card.
    pub mig: Vec<String>,
    /// The cards that do not.
    pub faults: Vec<DeviceFault>,
}

impl GpuInventory {
    /// Whether a card or MIG instance of that UUID answers.
    #[must_use]
    pub fn has(&self, uuid: &str) -> bool {
        self.uuids().any(|present| present == uuid)
    }

    /// The UUIDs a mask may name.
    pub fn uuids(&self) -> impl Iterator<Item = &str> {
        let cards = self.gpus.iter().map(|gpu| gpu.uuid.as_str());
        cards.chain(self.mig.iter().map(String::as_str))
    }
}

/// A card that NVML counts but cannot describe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFault {
    /// NVML index.
    pub index: u32,
    /// Which call failed and what it said.
    pub error: String,
}

/// The latest sample, or why there is none.
pub type GpuState = Result<Arc<GpuInventory>, DriverError>;

/// Why the driver does not answer. `Display` is the diagnosis, [`DriverError::hint`] the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The first probe is still running.
    #[error("NVML has not answered yet")]
    Pending,
    /// The library cannot be opened.
    #[error("the NVML library {} cannot be loaded: {detail}", path.display())]
    LibraryMissing {
        /// What was opened.
        path: PathBuf,
        /// The dynamic linker's words.
        detail: String,
    },
    /// The library is from a driver that is too old.
    #[error("the NVML library lacks a function: {detail}")]
    LibraryTooOld {
        /// Which one.
        detail: String,
    },
    /// The kernel module is not there.
    #[error("the NVIDIA kernel driver is not loaded")]
    DriverNotLoaded,
    /// Library and kernel module differ.
    #[error("the NVML library and the loaded kernel driver have different versions")]
    VersionMismatch,
    /// The device nodes may not be opened.
    #[error("no permission to talk to the NVIDIA driver")]
    NoPermission,
    /// A probe did not return.
    #[error("NVML did not answer within {deadline_ms} ms")]
    Unresponsive {
        /// How long was waited.
        deadline_ms: u64,
    },
    /// The probe thread is gone.
    #[error("the NVML probe thread has ended")]
    ProbeDied,
    /// Another call failed.
    #[error("NVML call {call} failed: {detail}")]
    Call {
        /// The call.
        call: &'static str,
        /// NVML's words.
        detail: String,
    },
}

impl DriverError {
    /// What an operator can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Pending => "wait for the first probe",
            Self::LibraryMissing { .. } => {
                "install the NVIDIA driver (libnvidia-ml.so.1), or set pool_managerd.nvml_library to its path"
            }
            Self::LibraryTooOld { .. } => "install NVIDIA driver 510 or newer",
            Self::DriverNotLoaded => "load the nvidia kernel module (modprobe nvidia) and check dmesg",
            Self::VersionMismatch => {
                "the driver was upgraded under the running kernel module: reload the module or reboot"
            }
            Self::NoPermission => "give pool-managerd's user access to /dev/nvidia*",
            Self::Unresponsive { .. } => {
                "a GPU or the driver hangs: check dmesg for Xid lines; reset or reboot"
            }
            Self::ProbeDied => "restart pool-managerd and report the log before this line",
            Self::Call { .. } => "check dmesg and run nvidia-smi",
        }
    }
}

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

fn faults_text(faults: &[DeviceFault]) -> Option<String> {
    if faults.is_empty() {
        return None;
    }
    let each = faults
        .iter()
        .map(|fault| format!("GPU {}: {}", fault.index, fault.error));
    Some(each.collect::<Vec<_>>().join("; "))
}
