//! The control file: what the pretended driver and its GPUs say. Pure data; unknown keys are refused
//! so that a misspelt fault cannot pass as "no fault".

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Status;

/// The environment variable that names the control file.
pub const FILE_VARIABLE: &str = "FAKE_NVML_FILE";

/// Faults of calls, by call: which return an error at once, and which do not return at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// The call returns this status instead of an answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fail: BTreeMap<Call, Status>,
    /// The call blocks until it is taken out of this set (or the process ends).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub hang: BTreeSet<Call>,
}

/// One logical NVML call; all versions of a symbol (`_v2`, `_v3`) are one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is named after the NVML function it stands for")]
pub enum Call {
    Init,
    Shutdown,
    DriverVersion,
    NvmlVersion,
    CudaDriverVersion,
    DeviceCount,
    DeviceHandle,
    Uuid,
    Name,
    Index,
    MinorNumber,
    PciInfo,
    MemoryInfo,
    CudaComputeCapability,
    UtilizationRates,
    Temperature,
    TemperatureThreshold,
    ThrottleReasons,
    PowerUsage,
    MigMode,
    ComputeRunningProcesses,
    EccMode,
    TotalEccErrors,
    SupportedEventTypes,
    EventSetCreate,
    RegisterEvents,
    EventSetWait,
}

/// The whole control file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// `nvmlSystemGetDriverVersion`.
    pub driver_version: String,
    /// `nvmlSystemGetNVMLVersion`.
    pub nvml_version: String,
    /// `nvmlSystemGetCudaDriverVersion`: major × 1000 + minor × 10.
    pub cuda_driver_version: i32,
    /// In enumeration order: a GPU's index is its place here.
    pub gpus: Vec<Gpu>,
    /// Faults of calls about no device, or about every device.
    #[serde(default)]
    pub faults: Faults,
    /// Events that happened, oldest first.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Its identity, stable over reordering (`GPU-…`).
    pub uuid: String,
    /// The product name.
    pub name: String,
    /// `DDDDDDDD:BB:DD.F`, hexadecimal.
    pub pci_bus_id: String,
    /// The number in `/dev/nvidiaN`.
    pub minor_number: u32,
    /// CUDA compute capability: major, minor.
    pub compute_capability: (i32, i32),
    /// Device memory; what processes use comes on top of it.
    pub memory: Memory,
    /// Programs with a compute context.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// Busy share, percent.
    #[serde(default)]
    pub utilization: Utilization,
    /// Degrees Celsius.
    pub temperature_c: u32,
    /// From where on it slows itself down, degrees Celsius; absent: it does not tell.
    #[serde(default)]
    pub slowdown_c: Option<u32>,
    /// `nvmlClocksThrottleReason…` bits.
    #[serde(default)]
    pub throttle_reasons: u64,
    /// Milliwatts.
    pub power_mw: u32,
    /// Multi-instance mode.
    #[serde(default)]
    pub mig: Mig,
    /// Absent: the device has no ECC (GeForce).
    #[serde(default)]
    pub ecc: Option<Ecc>,
    /// The device fell off the bus: every call about it says so.
    #[serde(default)]
    pub lost: bool,
    /// Faults of calls about this device.
    #[serde(default)]
    pub faults: Faults,
}

/// Device memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Physical size.
    pub total: u64,
    /// Kept by the driver and firmware.
    pub reserved: u64,
    /// In use by nothing in the process list (a desktop, or memory that never came back).
    #[serde(default)]
    pub used_by_others: u64,
}

/// A program with a compute context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Bytes in use; absent when the driver cannot tell.
    pub used: Option<u64>,
}

/// Busy share of the last sample period, percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Utilization {
    /// Time with a kernel running.
    pub gpu: u32,
    /// Time with memory read or written.
    pub memory: u32,
}

/// Multi-instance mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mig {
    /// The device cannot be split.
    #[default]
    NotSupported,
    /// It can, and is not.
    Disabled,
    /// It is split.
    Enabled,
}

/// Error correction and what it counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ecc {
    /// Whether it is on.
    pub enabled: bool,
    /// Errors corrected since start.
    #[serde(default)]
    pub corrected: u64,
    /// Errors that could not be corrected.
    #[serde(default)]
    pub uncorrected: u64,
}

/// Something that happened to a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Larger than every earlier one: an event set delivers what came after its creation.
    pub id: u64,
    /// Which GPU.
    pub gpu_uuid: String,
    /// What.
    pub kind: EventKind,
    /// The Xid for [`EventKind::Xid`], else 0.
    #[serde(default)]
    pub value: u64,
}

/// Kinds of events (`nvmlEventType…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A corrected memory error.
    SingleBitEcc,
    /// A memory error that could not be corrected.
    DoubleBitEcc,
    /// The performance state changed.
    Pstate,
    /// A critical Xid.
    Xid,
    /// The clock changed.
    Clock,
}

impl EventKind {
    /// The bit in `nvmlEventType…` masks.
    pub(crate) fn bit(self) -> u64 {
        match self {
            Self::SingleBitEcc => 1,
            Self::DoubleBitEcc => 2,
            Self::Pstate => 4,
            Self::Xid => 8,
            Self::Clock => 16,
        }
    }
}

impl Gpu {
    /// Bytes in use: by listed processes and by others.
    pub fn used(&self) -> u64 {
        let listed: u64 = self.processes.iter().filter_map(|p| p.used).sum();
        listed.saturating_add(self.memory.used_by_others)
    }

    /// Bytes free; zero when the file claims more use than there is.
    pub fn free(&self) -> u64 {
        let taken = self.memory.reserved.saturating_add(self.used());
        self.memory.total.saturating_sub(taken)
    }

    /// The event kinds that this device can report.
    pub(crate) fn event_bits(&self) -> u64 {
        let all_devices = [EventKind::Pstate, EventKind::Xid, EventKind::Clock];
        let with_ecc = [EventKind::SingleBitEcc, EventKind::DoubleBitEcc];
        let ecc = self.ecc.iter().flat_map(|_| with_ecc);
        all_devices
            .into_iter()
            .chain(ecc)
            .fold(0, |bits, kind| bits | kind.bit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_GPU: &str = r#"{
        "driver_version": "580.01-fake", "nvml_version": "13.580.01-fake",
        "cuda_driver_version": 13000,
        "gpus": [{
            "uuid": "GPU-fake0000", "name": "fake", "pci_bus_id": "00000000:01:00.0",
            "minor_number": 0, "compute_capability": [8, 6],
            "memory": {"total": 1000, "reserved": 100, "used_by_others": 50},
            "processes": [{"pid": 7, "used": 200}, {"pid": 8, "used": null}],
            "temperature_c": 40, "power_mw": 30000,
            "faults": {"fail": {"temperature": "not_supported"}, "hang": ["memory_info"]}
        }]
    }"#;

    #[test]
    fn memory_adds_up() {
        let driver: Driver = serde_json::from_str(ONE_GPU).unwrap();
        assert_eq!((driver.gpus[0].used(), driver.gpus[0].free()), (250, 650));
    }

    #[test]
    fn a_misspelt_fault_is_refused() {
        let bad = ONE_GPU.replace("memory_info", "memroy_info");
        assert!(
            serde_json::from_str::<Driver>(&bad)
                .unwrap_err()
                .to_string()
                .contains("memroy_info")
        );
    }

    #[test]
    fn writing_and_reading_agree() {
        let driver: Driver = serde_json::from_str(ONE_GPU).unwrap();
        let text = serde_json::to_string(&driver).unwrap();
        assert_eq!(serde_json::from_str::<Driver>(&text).unwrap(), driver);
    }
}
