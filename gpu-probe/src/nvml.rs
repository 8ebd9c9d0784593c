//! NVML through nvml-wrapper: opens the library from a configurable path, reads every card, and listens for Xid errors.
//! Owns the only handle to the driver; after an error the library is opened anew for the next question.

use std::path::{Path, PathBuf};

use api_types::pool::{DriverReport, GpuProcess, GpuReport, GpuThrottle};
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, EventSet, Nvml, cuda_driver_version_major, cuda_driver_version_minor};
use tokio::time::Instant;

use super::condition::Conditions;
use super::{Desk, DeviceFault, DriverError, GpuInventory, Gpus, MigInstance};

/// What the dynamic linker is asked for where no path is configured.
pub const NVML_LIBRARY: &str = "libnvidia-ml.so.1";

/// The GPUs that `libnvidia-ml` shows.
pub struct NvmlGpus {
    library: PathBuf,
    conditions: Conditions,
}

impl NvmlGpus {
    /// Nothing is opened before the first question.
    #[must_use]
    pub fn new(library: PathBuf) -> Self {
        Self {
            library,
            conditions: Conditions::default(),
        }
    }
}

impl Gpus for NvmlGpus {
    fn serve(&mut self, desk: &Desk) {
        while desk.asked() {
            let ended = match open(&self.library) {
                Ok(nvml) => Session::new(&nvml, &mut self.conditions).serve(desk),
                Err(error) => Some(error),
            };
            // Without an error, nobody asks any more.
            let Some(error) = ended else { return };
            desk.answer(Err(error));
        }
    }
}

/// An opened library. One error of the driver ends it: its handles may be worth nothing any more.
struct Session<'a> {
    nvml: &'a Nvml,
    conditions: &'a mut Conditions,
    /// Of the cards that tell their Xid errors.
    events: Vec<EventSet<'a>>,
}

impl<'a> Session<'a> {
    fn new(nvml: &'a Nvml, conditions: &'a mut Conditions) -> Self {
        Self {
            nvml,
            conditions,
            events: xid_events(nvml),
        }
    }

    /// Answers the question that has been asked and all that follow; `None` when nobody asks any more.
    fn serve(mut self, desk: &Desk) -> Option<DriverError> {
        loop {
            let inventory = match self.sample() {
                Ok(inventory) => inventory,
                Err(error) => return Some(error),
            };
            if !desk.answer(Ok(inventory)) || !desk.asked() {
                return None;
            }
        }
    }

    fn sample(&mut self) -> Result<GpuInventory, DriverError> {
        let mut inventory = inventory(self.nvml)?;
        self.hear()?;
        let now = Instant::now();
        for card in &mut inventory.gpus {
            self.conditions.judge(card, now);
        }
        Ok(inventory)
    }

    /// Takes in the errors that were reported since the last look, without waiting for more.
    fn hear(&mut self) -> Result<(), DriverError> {
        for events in &self.events {
            hear(events, self.conditions)?;
        }
        Ok(())
    }
}

fn hear(events: &EventSet<'_>, conditions: &mut Conditions) -> Result<(), DriverError> {
    for _ in 0..MOST_EVENTS {
        let event = match events.wait(0) {
            Ok(event) => event,
            // A card that is lost tells it when it is asked for itself.
            Err(NvmlError::Timeout | NvmlError::GpuLost) => return Ok(()),
            Err(error) => return Err(driver_error("nvmlEventSetWait", error)),
        };
        let xid = match event.event_data {
            Some(XidError::Value(xid)) => xid,
            Some(XidError::Unknown) => UNKNOWN_XID,
            None => continue,
        };
        if let Ok(uuid) = event.device.uuid() {
            conditions.xid(&uuid, xid);
        }
    }
    Ok(())
}

/// A card that reports errors without end is judged by the first of them.
const MOST_EVENTS: u32 = 64;

/// What NVML writes for an error it cannot name.
const UNKNOWN_XID: u64 = 999;

/// One set per card, since a card that refuses takes its set along. Cards without such events are left out.
fn xid_events(nvml: &Nvml) -> Vec<EventSet<'_>> {
    let cards = 0..nvml.device_count().unwrap_or(0);
    cards
        .filter_map(|index| xid_events_of(nvml, index).ok())
        .collect()
}

fn xid_events_of(nvml: &Nvml, index: u32) -> Result<EventSet<'_>, NvmlError> {
    let card = nvml.device_by_index(index)?;
    let set = nvml.create_event_set()?;
    card.register_events(EventTypes::CRITICAL_XID_ERROR, set)
        .map_err(|refused| refused.error)
}

fn open(library: &Path) -> Result<Nvml, DriverError> {
    Nvml::builder()
        .lib_path(library.as_os_str())
        .init()
        .map_err(|error| match error {
            NvmlError::LibloadingError(detail) => DriverError::LibraryMissing {
                path: library.to_owned(),
                detail: detail.to_string(),
            },
            other => driver_error("nvmlInit", other),
        })
}

fn inventory(nvml: &Nvml) -> Result<GpuInventory, DriverError> {
    let mut inventory = GpuInventory {
        driver: driver(nvml)?,
        gpus: Vec::new(),
        mig: Vec::new(),
        faults: Vec::new(),
    };
    for index in 0..call("nvmlDeviceGetCount", nvml.device_count())? {
        match look_at(nvml, index) {
            Ok((gpu, mig)) => {
                inventory.gpus.push(gpu);
                inventory.mig.extend(mig);
            }
            Err((call, error)) if concerns_the_driver(&error) => return Err(driver_error(call, error)),
            Err((call, error)) => inventory.faults.push(DeviceFault {
                index,
                error: format!("{call}: {error}"),
            }),
        }
    }
    Ok(inventory)
}

fn look_at(nvml: &Nvml, index: u32) -> Result<(GpuReport, Vec<MigInstance>), CallError> {
    let device = nvml
        .device_by_index(index)
        .map_err(|error| ("nvmlDeviceGetHandleByIndex", error))?;
    let mut card = card(&device)?;
    let instances = mig_instances(&device, &card.uuid);
    card.mig = instances.iter().map(|instance| instance.uuid.clone()).collect();
    Ok((card, instances))
}

/// Cards without MIG refuse the first call; the places of a card with MIG may be partly empty.
fn mig_instances(device: &Device<'_>, parent: &str) -> Vec<MigInstance> {
    let places = device.mig_device_count().unwrap_or(0);
    let instances = (0..places).filter_map(|place| device.mig_device_by_index(place).ok());
    let describe = |instance: Device<'_>| {
        Some(MigInstance {
            uuid: instance.uuid().ok()?,
            parent: parent.to_owned(),
            memory_free_bytes: instance.memory_info().ok()?.free,
            processes: processes(&instance).ok()?,
        })
    };
    instances.filter_map(describe).collect()
}

fn processes(device: &Device<'_>) -> Result<Vec<GpuProcess>, NvmlError> {
    let listed = optional(device.running_compute_processes())?.unwrap_or_default();
    let process = |info: ProcessInfo| GpuProcess {
        pid: info.pid,
        used_bytes: match info.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        },
        pool_id: None,
        replica_id: None,
    };
    Ok(listed.into_iter().map(process).collect())
}

fn driver(nvml: &Nvml) -> Result<DriverReport, DriverError> {
    let cuda = call("nvmlSystemGetCudaDriverVersion", nvml.sys_cuda_driver_version())?;
    Ok(DriverReport {
        driver_version: call("nvmlSystemGetDriverVersion", nvml.sys_driver_version())?,
        cuda_version: format!(
            "{}.{}",
            cuda_driver_version_major(cuda),
            cuda_driver_version_minor(cuda)
        ),
    })
}

type CallError = (&'static str, NvmlError);

fn card(device: &Device<'_>) -> Result<GpuReport, CallError> {
    let named = |call: &'static str| move |error: NvmlError| (call, error);
    let capability = device
        .cuda_compute_capability()
        .map_err(named("nvmlDeviceGetCudaComputeCapability"))?;
    let memory = device
        .memory_info()
        .map_err(named("nvmlDeviceGetMemoryInfo_v2"))?;
    let utilization = optional(device.utilization_rates()).map_err(named("nvmlDeviceGetUtilizationRates"))?;
    Ok(GpuReport {
        uuid: device.uuid().map_err(named("nvmlDeviceGetUUID"))?,
        index: device.index().map_err(named("nvmlDeviceGetIndex"))?,
        name: device.name().map_err(named("nvmlDeviceGetName"))?,
        compute_capability: format!("{}.{}", capability.major, capability.minor),
        memory_total_bytes: memory.total,
        memory_free_bytes: memory.free,
        memory_used_bytes: memory.used,
        utilization_percent: utilization.map(|rates| rates.gpu),
        temperature_c: optional(device.temperature(TemperatureSensor::Gpu))
            .map_err(named("nvmlDeviceGetTemperature"))?,
        slowdown_c: optional(device.temperature_threshold(TemperatureThreshold::Slowdown))
            .map_err(named("nvmlDeviceGetTemperatureThreshold"))?,
        throttled: optional(device.current_throttle_reasons())
            .map_err(named("nvmlDeviceGetCurrentClocksThrottleReasons"))?
            .map(throttled)
            .unwrap_or_default(),
        power_mw: optional(device.power_usage()).map_err(named("nvmlDeviceGetPowerUsage"))?,
        ecc_corrected: ecc(device, MemoryError::Corrected)?,
        ecc_uncorrected: ecc(device, MemoryError::Uncorrected)?,
        processes: processes(device).map_err(named("nvmlDeviceGetComputeRunningProcesses"))?,
        ..GpuReport::default()
    })
}

/// An idle card, and one whose clocks were set by a person, is not throttled.
fn throttled(reasons: ThrottleReasons) -> Vec<GpuThrottle> {
    let known = [
        (ThrottleReasons::SW_POWER_CAP, GpuThrottle::PowerCap),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, GpuThrottle::SwThermal),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, GpuThrottle::HwThermal),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, GpuThrottle::PowerBrake),
        (ThrottleReasons::HW_SLOWDOWN, GpuThrottle::HwSlowdown),
    ];
    let present = known.into_iter().filter(|(reason, _)| reasons.contains(*reason));
    present.map(|(_, throttle)| throttle).collect()
}

/// Since the driver was loaded.
fn ecc(device: &Device<'_>, kind: MemoryError) -> Result<Option<u64>, CallError> {
    optional(device.total_ecc_errors(kind, EccCounter::Volatile))
        .map_err(|error| ("nvmlDeviceGetTotalEccErrors", error))
}

/// Consumer cards and MIG parents lack some readings; only a card that is lost or needs a reset is an error
/// here.
fn optional<T>(reading: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match reading {
        Ok(value) => Ok(Some(value)),
        Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => Err(error),
        Err(error) if concerns_the_driver(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Whether an error says something about the driver, not about one card.
const fn concerns_the_driver(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch
    )
}

fn call<T>(name: &'static str, result: Result<T, NvmlError>) -> Result<T, DriverError> {
    result.map_err(|error| driver_error(name, error))
}

fn driver_error(call: &'static str, error: NvmlError) -> DriverError {
    match error {
        NvmlError::DriverNotLoaded => DriverError::DriverNotLoaded,
        NvmlError::LibRmVersionMismatch => DriverError::VersionMismatch,
        NvmlError::NoPermission => DriverError::NoPermission,
        NvmlError::FailedToLoadSymbol(detail) => DriverError::LibraryTooOld { detail },
        other => DriverError::Call {
            call,
            detail: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_names_the_path_and_the_cure() {
        let error = open(Path::new("/nonexistent/libnvidia-ml.so.1")).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/libnvidia-ml.so.1"),
            "{error}"
        );
        assert!(error.hint().contains("nvml_library"), "{}", error.hint());
    }

    #[test]
    fn known_driver_errors_have_their_own_variant() {
        let of = |error| driver_error("nvmlInit", error);
        assert_eq!(of(NvmlError::DriverNotLoaded), DriverError::DriverNotLoaded);
        assert_eq!(of(NvmlError::LibRmVersionMismatch), DriverError::VersionMismatch);
        assert_eq!(of(NvmlError::NoPermission), DriverError::NoPermission);
        assert!(matches!(
            of(NvmlError::FailedToLoadSymbol("f".into())),
            DriverError::LibraryTooOld { .. }
        ));
        assert!(matches!(
            of(NvmlError::Unknown),
            DriverError::Call { call: "nvmlInit", .. }
        ));
    }

    #[test]
    fn a_lost_card_is_never_a_missing_reading() {
        assert!(optional::<u32>(Err(NvmlError::GpuLost)).is_err());
        assert!(matches!(optional::<u32>(Err(NvmlError::NotSupported)), Ok(None)));
        assert!(matches!(optional(Ok(7)), Ok(Some(7))));
    }
}
