//! The border to C: caller's pointers as types that can only be written through checks, and the
//! C structs of NVML's header that this library fills. All pointer reads and writes of the crate
//! are here. Touches the caller's memory and nothing else.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong};

use crate::Status;
use crate::spec::{Gpu, Process};

/// A place in the caller's memory for one `T` (or the first of several).
///
/// It has no constructor: only a C caller can make one, by passing a pointer, and NVML's contract
/// obliges that caller to pass null or memory that is valid for the documented size.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Writes the answer.
    pub(crate) fn put(&self, value: T) -> Result<(), Status> {
        if self.0.is_null() {
            return Err(Status::InvalidArgument);
        }
        // SAFETY: not null, and by the caller's contract (see the type) valid for one `T`.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Writes `items` from the place on; the caller has checked that they fit.
    fn put_all(&self, items: Vec<T>) -> Result<(), Status> {
        if self.0.is_null() && !items.is_empty() {
            return Err(Status::InvalidArgument);
        }
        for (index, item) in items.into_iter().enumerate() {
            // SAFETY: not null, and the caller announced room for at least `items.len()` elements.
            unsafe { self.0.add(index).write(item) };
        }
        Ok(())
    }
}

impl Out<c_uint> {
    /// The number that the caller left in the place (the capacity of a list).
    fn get(&self) -> Result<c_uint, Status> {
        if self.0.is_null() {
            return Err(Status::InvalidArgument);
        }
        // SAFETY: not null, and by the caller's contract an initialised number.
        Ok(unsafe { self.0.read() })
    }
}

impl Out<c_char> {
    /// Writes `text` and its terminator into a buffer of `length` bytes.
    pub(crate) fn put_text(&self, length: c_uint, text: &str) -> Result<(), Status> {
        if text.len() >= length as usize {
            return Err(Status::InsufficientSize);
        }
        let bytes = text.bytes().chain([0]).map(|byte| byte as c_char);
        self.put_all(bytes.collect())
    }
}

/// NVML's list protocol: `count` comes in as the capacity and goes out as the length.
pub(crate) fn put_list<T>(count: &Out<c_uint>, first: &Out<T>, items: Vec<T>) -> Result<(), Status> {
    let capacity = count.get()? as usize;
    count.put(c_uint::try_from(items.len()).unwrap_or(c_uint::MAX))?;
    if items.len() > capacity {
        return Err(Status::InsufficientSize);
    }
    first.put_all(items)
}

/// A C string of the caller.
#[repr(transparent)]
pub(crate) struct TextIn(*const c_char);

impl TextIn {
    /// The text, when there is one and it is UTF-8.
    pub(crate) fn get(&self) -> Result<&str, Status> {
        if self.0.is_null() {
            return Err(Status::InvalidArgument);
        }
        // SAFETY: not null, and by NVML's contract a terminated string that lives through the call.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map_err(|_| Status::InvalidArgument)
    }
}

/// `nvmlDevice_t` and `nvmlEventSet_t`: opaque to the caller, a number to us, never dereferenced.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Handle(*const u8);

impl Handle {
    /// The handle of entry `index` of a table; never null.
    pub(crate) fn of(index: usize) -> Self {
        Self(std::ptr::without_provenance(index + 1))
    }

    /// The entry that the handle stands for; `None` for null.
    pub(crate) fn index(self) -> Option<usize> {
        self.0.addr().checked_sub(1)
    }
}

/// `nvmlMemory_t`.
#[repr(C)]
pub(crate) struct MemoryV1 {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

impl From<&Gpu> for MemoryV1 {
    /// Version 1 counts the reserved bytes as used.
    fn from(gpu: &Gpu) -> Self {
        let (total, free) = (gpu.memory.total, gpu.free());
        Self {
            total,
            free,
            used: total - free,
        }
    }
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
pub(crate) struct MemoryV2 {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

impl From<&Gpu> for MemoryV2 {
    /// Version 2 keeps reserved apart: total = reserved + used + free.
    fn from(gpu: &Gpu) -> Self {
        let (total, reserved, free) = (gpu.memory.total, gpu.memory.reserved, gpu.free());
        let used = total.saturating_sub(reserved).saturating_sub(free);
        // NVML_STRUCT_VERSION(Memory, 2): the size, and the version in the top byte.
        let version = size_of::<Self>() as c_uint | (2 << 24);
        Self {
            version,
            total,
            reserved,
            free,
            used,
        }
    }
}

/// `nvmlProcessInfo_v1_t`.
#[repr(C)]
pub(crate) struct ProcessInfoV1 {
    pid: c_uint,
    used_gpu_memory: c_ulonglong,
}

impl From<&Process> for ProcessInfoV1 {
    fn from(process: &Process) -> Self {
        Self {
            pid: process.pid,
            used_gpu_memory: process.used.unwrap_or(NOT_AVAILABLE),
        }
    }
}

/// `nvmlProcessInfo_v2_t`, which version 3 of the call uses too.
#[repr(C)]
pub(crate) struct ProcessInfoV2 {
    pid: c_uint,
    used_gpu_memory: c_ulonglong,
    gpu_instance_id: c_uint,
    compute_instance_id: c_uint,
}

impl From<&Process> for ProcessInfoV2 {
    fn from(process: &Process) -> Self {
        Self {
            pid: process.pid,
            used_gpu_memory: process.used.unwrap_or(NOT_AVAILABLE),
            gpu_instance_id: NO_INSTANCE,
            compute_instance_id: NO_INSTANCE,
        }
    }
}

/// `NVML_VALUE_NOT_AVAILABLE` in a 64-bit field.
const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;
/// What instance ids hold when the device is not split.
pub(crate) const NO_INSTANCE: c_uint = c_uint::MAX;

/// `nvmlPciInfo_t`.
#[repr(C)]
pub(crate) struct PciInfo {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_sub_system_id: c_uint,
    bus_id: [c_char; 32],
}

impl PciInfo {
    /// Takes `DDDDDDDD:BB:DD.F` apart; the ids of vendor and board are zero, which no real one has.
    pub(crate) fn parse(bus_id: &str) -> Result<Self, Status> {
        let mut parts = bus_id
            .split([':', '.'])
            .map(|part| c_uint::from_str_radix(part, 16));
        let mut number = || parts.next().and_then(Result::ok).ok_or(Status::Unknown);
        let (domain, bus, device) = (number()?, number()?, number()?);
        Ok(Self {
            bus_id_legacy: fixed_text(&format!("{domain:04X}:{bus:02X}:{device:02X}.0")),
            domain,
            bus,
            device,
            pci_device_id: 0,
            pci_sub_system_id: 0,
            bus_id: fixed_text(bus_id),
        })
    }
}

/// `text` in a fixed buffer, cut so that a terminator remains.
fn fixed_text<const N: usize>(text: &str) -> [c_char; N] {
    let mut buffer = [0; N];
    for (place, byte) in buffer.iter_mut().take(N - 1).zip(text.bytes()) {
        *place = byte as c_char;
    }
    buffer
}

/// `nvmlUtilization_t`.
#[repr(C)]
pub(crate) struct UtilizationRates {
    pub(crate) gpu: c_uint,
    pub(crate) memory: c_uint,
}

/// `nvmlEventData_t`.
#[repr(C)]
pub(crate) struct EventData {
    pub(crate) device: Handle,
    pub(crate) event_type: c_ulonglong,
    pub(crate) event_data: c_ulonglong,
    pub(crate) gpu_instance_id: c_uint,
    pub(crate) compute_instance_id: c_uint,
}

/// `nvmlEnableState_t` and the MIG modes: 0 is off, 1 is on.
pub(crate) fn on_off(on: bool) -> c_uint {
    c_uint::from(on)
}

/// CUDA's major and minor are C ints.
pub(crate) type Int = c_int;
