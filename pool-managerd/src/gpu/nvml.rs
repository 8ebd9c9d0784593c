//! NVML through nvml-wrapper: opens the library from a configurable path and reads every card. Owns the only
//! handle to the driver; after an error the library is opened anew by the next sample.

use std::path::{Path, PathBuf};

use api_types::pool::{DriverReport, GpuReport};
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::{DeviceFault, DriverError, GpuInventory, Gpus};

/// The GPUs that `libnvidia-ml` shows.
pub struct NvmlGpus {
    library: PathBuf,
    nvml: Option<Nvml>,
}

impl NvmlGpus {
    /// Nothing is opened before the first sample.
    #[must_use]
    pub const fn new(library: PathBuf) -> Self {
        Self { library, nvml: None }
    }
}

impl Gpus for NvmlGpus {
    fn sample(&mut self) -> Result<GpuInventory, DriverError> {
        let nvml = match self.nvml.take() {
            Some(open) => open,
            None => open(&self.library)?,
        };
        let inventory = inventory(&nvml)?;
        self.nvml = Some(nvml);
        Ok(inventory)
    }
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

fn look_at(nvml: &Nvml, index: u32) -> Result<(GpuReport, Vec<String>), CallError> {
    let device = nvml
        .device_by_index(index)
        .map_err(|error| ("nvmlDeviceGetHandleByIndex", error))?;
    Ok((card(&device)?, mig_instances(&device)))
}

/// Cards without MIG refuse the first call; the places of a card with MIG may be partly empty.
fn mig_instances(device: &Device<'_>) -> Vec<String> {
    let places = device.mig_device_count().unwrap_or(0);
    let instances = (0..places).filter_map(|place| device.mig_device_by_index(place).ok());
    instances.filter_map(|instance| instance.uuid().ok()).collect()
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
        power_mw: optional(device.power_usage()).map_err(named("nvmlDeviceGetPowerUsage"))?,
    })
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
        let mut gpus = NvmlGpus::new("/nonexistent/libnvidia-ml.so.1".into());
        let error = gpus.sample().unwrap_err();
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
