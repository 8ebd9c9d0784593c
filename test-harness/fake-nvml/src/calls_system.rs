//! Exported calls about the system: init, versions, enumeration. Thin: unpack, ask the driver, put.

use std::ffi::{c_char, c_uint};

use crate::Status;
use crate::driver::{call, handle_for, init, shutdown};
use crate::ffi::{Handle, Int, Out, TextIn};
use crate::spec::{Call, Gpu};

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Status {
    init().into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Status {
    init().into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Status {
    shutdown().into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(number: c_uint) -> *const c_char {
    Status::from_number(number).text().as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(version: Out<c_char>, length: c_uint) -> Status {
    call(Call::DriverVersion, |driver| {
        version.put_text(length, &driver.driver_version)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetNVMLVersion(version: Out<c_char>, length: c_uint) -> Status {
    call(Call::NvmlVersion, |driver| {
        version.put_text(length, &driver.nvml_version)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion(version: Out<Int>) -> Status {
    call(Call::CudaDriverVersion, |driver| {
        version.put(driver.cuda_driver_version)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: Out<Int>) -> Status {
    nvmlSystemGetCudaDriverVersion(version)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(count: Out<c_uint>) -> Status {
    call(Call::DeviceCount, |driver| {
        count.put(c_uint::try_from(driver.gpus.len()).map_err(|_| Status::Unknown)?)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: Out<Handle>) -> Status {
    call(Call::DeviceHandle, |driver| {
        let gpu = driver.gpus.get(index as usize).ok_or(Status::InvalidArgument)?;
        put_handle(Some(gpu), &device)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(uuid: TextIn, device: Out<Handle>) -> Status {
    call(Call::DeviceHandle, |driver| {
        let wanted = uuid.get()?;
        put_handle(driver.gpus.iter().find(|gpu| gpu.uuid == wanted), &device)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: TextIn, device: Out<Handle>) -> Status {
    call(Call::DeviceHandle, |driver| {
        let wanted = bus_id.get()?;
        let mut gpus = driver.gpus.iter();
        put_handle(
            gpus.find(|gpu| gpu.pci_bus_id.eq_ignore_ascii_case(wanted)),
            &device,
        )
    })
    .into()
}

fn put_handle(gpu: Option<&Gpu>, device: &Out<Handle>) -> Result<(), Status> {
    let gpu = gpu.ok_or(Status::NotFound)?;
    if gpu.lost {
        return Err(Status::GpuIsLost);
    }
    device.put(handle_for(&gpu.uuid))
}
