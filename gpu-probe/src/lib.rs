//! What this machine's GPUs are and how they fare: one trait, its NVML implementation, the sampler that keeps a hanging
//! driver away from whoever asks, and what errors mean. Reads only; no CUDA context is ever opened.
//!
//! - [`Sampler`]: for a daemon, a sample per interval.
//! - [`look_once`]: for a command, one sample.

mod condition;
mod nvml;
mod sampler;

use std::path::PathBuf;
use std::sync::Arc;

use api_types::pool::{DriverReport, GpuProcess, GpuReport};

pub use nvml::{NVML_LIBRARY, NvmlGpus};
pub use sampler::{Answer, Desk, GpuWatch, Sampler, SamplerOptions, look_once};

/// Where one learns about GPUs. It runs on a thread of its own: a call may block or never return.
pub trait Gpus: Send + 'static {
    /// Answers one question after the other until nobody asks any more: with everything about every GPU, or with a
    /// [`DriverError`] when the driver as a whole does not answer. One broken card is a [`DeviceFault`] instead.
    fn serve(&mut self, desk: &Desk);
}

/// One complete answer of the driver.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuInventory {
    /// Versions.
    pub driver: DriverReport,
    /// The cards that answer.
    pub gpus: Vec<GpuReport>,
    /// The MIG instances on them; a mask may name one instead of a card.
    pub mig: Vec<MigInstance>,
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
        cards.chain(self.mig.iter().map(|instance| instance.uuid.as_str()))
    }

    /// The card of that UUID, or the one that the MIG instance of that UUID is on.
    #[must_use]
    pub fn card(&self, uuid: &str) -> Option<&GpuReport> {
        let instance = self.mig.iter().find(|instance| instance.uuid == uuid);
        let card = instance.map_or(uuid, |instance| &instance.parent);
        self.gpus.iter().find(|gpu| gpu.uuid == card)
    }

    /// Bytes that these processes hold on all cards together; `None` where the driver does not tell.
    #[must_use]
    pub fn held_by(&self, ours: impl Fn(u32) -> bool) -> Option<u64> {
        let processes = self.holders().map(|(_, process)| process);
        let mut own = processes
            .filter(|process| ours(process.pid))
            .map(|process| process.used_bytes);
        own.try_fold(0_u64, |sum, used| Some(sum.saturating_add(used?)))
    }

    /// Every program on every card and instance. A driver lists a program of an instance there, not with the card.
    pub fn holders(&self) -> impl Iterator<Item = (&str, &GpuProcess)> {
        let cards = self.gpus.iter().map(|gpu| (gpu.uuid.as_str(), &gpu.processes));
        let instances = self
            .mig
            .iter()
            .map(|instance| (instance.uuid.as_str(), &instance.processes));
        cards
            .chain(instances)
            .flat_map(|(uuid, processes)| processes.iter().map(move |process| (uuid, process)))
    }
}

/// A part of a card that looks like a card of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigInstance {
    /// Its UUID.
    pub uuid: String,
    /// The card's.
    pub parent: String,
    /// Bytes free.
    pub memory_free_bytes: u64,
    /// The programs that hold memory there.
    pub processes: Vec<GpuProcess>,
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

/// Why cards do not answer that the driver counts, in one line; `None` where all do.
#[must_use]
pub fn faults_text(faults: &[DeviceFault]) -> Option<String> {
    if faults.is_empty() {
        return None;
    }
    let each = faults
        .iter()
        .map(|fault| format!("GPU {}: {}", fault.index, fault.error));
    Some(each.collect::<Vec<_>>().join("; "))
}
