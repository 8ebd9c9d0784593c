//! Exported calls about one device. Thin: unpack, ask the driver, put.

use std::ffi::{c_char, c_uint, c_ulonglong};

use crate::Status;
use crate::driver::device_call;
use crate::ffi::{
    Handle, Int, MemoryV1, MemoryV2, Out, PciInfo, ProcessInfoV1, ProcessInfoV2, UtilizationRates, on_off,
    put_list,
};
use crate::spec::{Call, Mig};

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(device: Handle, uuid: Out<c_char>, length: c_uint) -> Status {
    device_call(device, Call::Uuid, |gpu, _| uuid.put_text(length, &gpu.uuid)).into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(device: Handle, name: Out<c_char>, length: c_uint) -> Status {
    device_call(device, Call::Name, |gpu, _| name.put_text(length, &gpu.name)).into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetIndex(device: Handle, out: Out<c_uint>) -> Status {
    device_call(device, Call::Index, |_, index| {
        out.put(c_uint::try_from(index).map_err(|_| Status::Unknown)?)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMinorNumber(device: Handle, minor: Out<c_uint>) -> Status {
    device_call(device, Call::MinorNumber, |gpu, _| minor.put(gpu.minor_number)).into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(device: Handle, pci: Out<PciInfo>) -> Status {
    device_call(device, Call::PciInfo, |gpu, _| {
        pci.put(PciInfo::parse(&gpu.pci_bus_id)?)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(device: Handle, memory: Out<MemoryV1>) -> Status {
    device_call(device, Call::MemoryInfo, |gpu, _| memory.put(gpu.into())).into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, memory: Out<MemoryV2>) -> Status {
    device_call(device, Call::MemoryInfo, |gpu, _| memory.put(gpu.into())).into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCudaComputeCapability(device: Handle, major: Out<Int>, minor: Out<Int>) -> Status {
    device_call(device, Call::CudaComputeCapability, |gpu, _| {
        major.put(gpu.compute_capability.0)?;
        minor.put(gpu.compute_capability.1)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUtilizationRates(device: Handle, out: Out<UtilizationRates>) -> Status {
    device_call(device, Call::UtilizationRates, |gpu, _| {
        let rates = gpu.utilization;
        out.put(UtilizationRates {
            gpu: rates.gpu,
            memory: rates.memory,
        })
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(device: Handle, _sensor: c_uint, out: Out<c_uint>) -> Status {
    device_call(device, Call::Temperature, |gpu, _| out.put(gpu.temperature_c)).into()
}

/// `NVML_TEMPERATURE_THRESHOLD_SLOWDOWN`.
const SLOWDOWN: c_uint = 1;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureThreshold(
    device: Handle,
    threshold: c_uint,
    out: Out<c_uint>,
) -> Status {
    device_call(device, Call::TemperatureThreshold, |gpu, _| {
        let told = gpu.slowdown_c.filter(|_| threshold == SLOWDOWN);
        out.put(told.ok_or(Status::NotSupported)?)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(device: Handle, reasons: Out<c_ulonglong>) -> Status {
    device_call(device, Call::ThrottleReasons, |gpu, _| {
        reasons.put(gpu.throttle_reasons)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerUsage(device: Handle, milliwatts: Out<c_uint>) -> Status {
    device_call(device, Call::PowerUsage, |gpu, _| milliwatts.put(gpu.power_mw)).into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(device: Handle, current: Out<c_uint>, pending: Out<c_uint>) -> Status {
    device_call(device, Call::MigMode, |gpu, _| {
        let mode = match gpu.mig {
            Mig::NotSupported => return Err(Status::NotSupported),
            Mig::Disabled => on_off(false),
            Mig::Enabled => on_off(true),
        };
        current.put(mode)?;
        pending.put(mode)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses(
    device: Handle,
    count: Out<c_uint>,
    infos: Out<ProcessInfoV1>,
) -> Status {
    device_call(device, Call::ComputeRunningProcesses, |gpu, _| {
        put_list(&count, &infos, gpu.processes.iter().map(Into::into).collect())
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v2(
    device: Handle,
    count: Out<c_uint>,
    infos: Out<ProcessInfoV2>,
) -> Status {
    device_call(device, Call::ComputeRunningProcesses, |gpu, _| {
        put_list(&count, &infos, gpu.processes.iter().map(Into::into).collect())
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Handle,
    count: Out<c_uint>,
    infos: Out<ProcessInfoV2>,
) -> Status {
    nvmlDeviceGetComputeRunningProcesses_v2(device, count, infos)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEccMode(device: Handle, current: Out<c_uint>, pending: Out<c_uint>) -> Status {
    device_call(device, Call::EccMode, |gpu, _| {
        let ecc = gpu.ecc.ok_or(Status::NotSupported)?;
        current.put(on_off(ecc.enabled))?;
        pending.put(on_off(ecc.enabled))
    })
    .into()
}

/// `error_type` 0 is corrected, 1 uncorrected; both counter types are one counter here.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Handle,
    error_type: c_uint,
    _counter_type: c_uint,
    count: Out<c_ulonglong>,
) -> Status {
    device_call(device, Call::TotalEccErrors, |gpu, _| {
        let ecc = gpu.ecc.ok_or(Status::NotSupported)?;
        count.put(if error_type == 0 {
            ecc.corrected
        } else {
            ecc.uncorrected
        })
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedEventTypes(device: Handle, types: Out<c_ulonglong>) -> Status {
    device_call(device, Call::SupportedEventTypes, |gpu, _| {
        types.put(gpu.event_bits())
    })
    .into()
}
