//! NVML's return codes: the numbers and meanings of `nvmlReturn_t`. Touches nothing.

use std::ffi::CStr;

use serde::{Deserialize, Serialize};

/// What an NVML call returns (`nvmlReturn_t`). Only the codes that this library can return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Status {
    /// The call worked.
    Success = 0,
    /// `nvmlInit` was not called.
    Uninitialized = 1,
    /// A null pointer, an unknown handle, an index out of range.
    InvalidArgument = 2,
    /// This device cannot tell (GeForce and ECC, for example).
    NotSupported = 3,
    /// The user may not ask.
    NoPermission = 4,
    /// No device has that name.
    NotFound = 6,
    /// The caller's buffer is too small.
    InsufficientSize = 7,
    /// The kernel module is not loaded.
    DriverNotLoaded = 9,
    /// No event arrived in time.
    Timeout = 10,
    /// The kernel found an interrupt issue with a device.
    IrqIssue = 11,
    /// The device's infoROM is corrupted.
    CorruptedInforom = 14,
    /// The device fell off the bus.
    GpuIsLost = 15,
    /// The device needs a reset.
    ResetRequired = 16,
    /// The operating system blocked the call.
    OperatingSystem = 17,
    /// The driver was upgraded under a running kernel module.
    LibRmVersionMismatch = 18,
    /// The device is in use.
    InUse = 19,
    /// Out of memory.
    Memory = 20,
    /// Nothing to report.
    NoData = 21,
    /// An internal driver error.
    Unknown = 999,
}

impl Status {
    /// The text of `nvmlErrorString`; every text says that it is not the real library's.
    pub(crate) fn text(self) -> &'static CStr {
        match self {
            Self::Success => c"fake NVML: success",
            Self::Uninitialized => c"fake NVML: uninitialized",
            Self::InvalidArgument => c"fake NVML: invalid argument",
            Self::NotSupported => c"fake NVML: not supported",
            Self::NoPermission => c"fake NVML: insufficient permissions",
            Self::NotFound => c"fake NVML: not found",
            Self::InsufficientSize => c"fake NVML: insufficient size",
            Self::DriverNotLoaded => c"fake NVML: driver not loaded",
            Self::Timeout => c"fake NVML: timeout",
            Self::IrqIssue => c"fake NVML: interrupt request issue",
            Self::CorruptedInforom => c"fake NVML: corrupted infoROM",
            Self::GpuIsLost => c"fake NVML: GPU is lost",
            Self::ResetRequired => c"fake NVML: GPU requires reset",
            Self::OperatingSystem => c"fake NVML: blocked by the operating system",
            Self::LibRmVersionMismatch => c"fake NVML: driver/library version mismatch",
            Self::InUse => c"fake NVML: in use by another client",
            Self::Memory => c"fake NVML: insufficient memory",
            Self::NoData => c"fake NVML: no data",
            Self::Unknown => c"fake NVML: unknown error",
        }
    }

    /// The code whose number is `number`; [`Status::Unknown`] for numbers that are none of ours.
    pub(crate) fn from_number(number: u32) -> Self {
        Self::ALL
            .into_iter()
            .find(|status| *status as u32 == number)
            .unwrap_or(Self::Unknown)
    }

    const ALL: [Self; 19] = [
        Self::Success,
        Self::Uninitialized,
        Self::InvalidArgument,
        Self::NotSupported,
        Self::NoPermission,
        Self::NotFound,
        Self::InsufficientSize,
        Self::DriverNotLoaded,
        Self::Timeout,
        Self::IrqIssue,
        Self::CorruptedInforom,
        Self::GpuIsLost,
        Self::ResetRequired,
        Self::OperatingSystem,
        Self::LibRmVersionMismatch,
        Self::InUse,
        Self::Memory,
        Self::NoData,
        Self::Unknown,
    ];
}

impl From<Result<(), Status>> for Status {
    fn from(result: Result<(), Status>) -> Self {
        result.err().unwrap_or(Self::Success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_leads_back_to_its_status() {
        for status in Status::ALL {
            assert_eq!(Status::from_number(status as u32), status);
        }
        assert_eq!(Status::from_number(12345), Status::Unknown);
    }
}
