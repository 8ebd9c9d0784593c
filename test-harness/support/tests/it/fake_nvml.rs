//! The fake NVML library, loaded the way the product loads the real one.
//!
//! The library takes its file from the environment, and a test cannot set its own: so each test here
//! runs in a child process of this test binary, with the variable set.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use test_harness_support::fake_nvml::{
    Call, Ecc, FILE_VARIABLE, FakeNvml, Mig, Process, Status, library_path, reference_driver,
};

/// Runs `body` in a child process that has the variable set, and in nobody else.
fn in_child(name: &str, body: impl FnOnce(FakeNvml)) {
    #[expect(clippy::disallowed_methods, reason = "tells the child from the parent")]
    let file = std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
    if let Some(file) = file {
        return body(FakeNvml::reference_box(file).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("it::fake_nvml::{name}"), "--nocapture"])
        .env(FILE_VARIABLE, folder.path().join("nvml.json"))
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed in its child process");
}

fn load() -> Result<Nvml, NvmlError> {
    Nvml::builder()
        .lib_path(library_path().unwrap().as_os_str())
        .init()
}

#[test]
fn everything_can_be_read() {
    in_child("everything_can_be_read", |mut fake| {
        fake.update(|driver| {
            driver.gpus[0].processes = vec![
                Process {
                    pid: 7,
                    used: Some(1 << 30),
                },
                Process { pid: 8, used: None },
            ];
            driver.gpus[0].utilization.gpu = 55;
            driver.gpus[1].mig = Mig::Enabled;
            driver.gpus[1].ecc = Some(Ecc {
                enabled: true,
                corrected: 3,
                uncorrected: 1,
            });
        })
        .unwrap();
        let nvml = load().unwrap();
        assert_eq!(nvml.sys_driver_version().unwrap(), "580.00.00-fake");
        assert_eq!(nvml.sys_nvml_version().unwrap(), "13.580.00.00-fake");
        assert_eq!(nvml.sys_cuda_driver_version().unwrap(), 13_000);
        assert_eq!(nvml.device_count().unwrap(), 2);
        let gpu = nvml.device_by_index(0).unwrap();
        assert_eq!(gpu.name().unwrap(), "NVIDIA GeForce RTX 3090 (fake)");
        let uuid = gpu.uuid().unwrap();
        assert!(uuid.starts_with("GPU-fake0000-"), "{uuid}");
        assert_eq!(nvml.device_by_uuid(uuid.as_str()).unwrap().index().unwrap(), 0);
        let pci = gpu.pci_info().unwrap();
        assert_eq!(
            (pci.bus_id.as_str(), pci.bus, pci.domain),
            ("00000000:01:00.0", 1, 0)
        );
        assert_eq!(
            nvml.device_by_pci_bus_id(pci.bus_id.as_str())
                .unwrap()
                .uuid()
                .unwrap(),
            uuid
        );
        assert_eq!(gpu.minor_number().unwrap(), 0);
        let memory = gpu.memory_info().unwrap();
        assert_eq!((memory.total, memory.used), (24 << 30, 1 << 30));
        assert_eq!(memory.total, memory.used + memory.free + memory.reserved);
        let capability = gpu.cuda_compute_capability().unwrap();
        assert_eq!((capability.major, capability.minor), (8, 6));
        assert_eq!(gpu.utilization_rates().unwrap().gpu, 55);
        assert_eq!(gpu.temperature(TemperatureSensor::Gpu).unwrap(), 38);
        assert_eq!(gpu.power_usage().unwrap(), 21_000);
        let processes = gpu.running_compute_processes().unwrap();
        assert_eq!(processes.len(), 2);
        assert!(matches!(processes[0].used_gpu_memory, UsedGpuMemory::Used(bytes) if bytes == 1 << 30));
        assert!(matches!(processes[1].used_gpu_memory, UsedGpuMemory::Unavailable));
        assert!(matches!(gpu.mig_mode(), Err(NvmlError::NotSupported)));
        assert!(matches!(gpu.is_ecc_enabled(), Err(NvmlError::NotSupported)));
        let second = nvml.device_by_index(1).unwrap();
        assert_eq!(second.mig_mode().unwrap().current, 1);
        assert!(second.is_ecc_enabled().unwrap().currently_enabled);
        assert_eq!(second.running_compute_processes().unwrap().len(), 0);
        nvml.shutdown().unwrap();
    });
}

#[test]
fn changes_are_seen_by_a_loaded_library() {
    in_child("changes_are_seen_by_a_loaded_library", |mut fake| {
        let nvml = load().unwrap();
        let gpu = nvml.device_by_index(1).unwrap();
        let uuid = gpu.uuid().unwrap();
        let free = gpu.memory_info().unwrap().free;
        fake.update(|driver| driver.gpus[1].memory.used_by_others = 1 << 30)
            .unwrap();
        assert_eq!(gpu.memory_info().unwrap().free, free - (1 << 30));
        fake.update(|driver| driver.gpus.reverse()).unwrap();
        assert_eq!(
            (gpu.uuid().unwrap(), gpu.index().unwrap()),
            (uuid, 0),
            "a handle follows the device"
        );
        fake.fail(Call::MemoryInfo, Status::NoPermission).unwrap();
        assert!(matches!(gpu.memory_info(), Err(NvmlError::NoPermission)));
        fake.update(|driver| driver.gpus[0].lost = true).unwrap();
        assert!(matches!(gpu.name(), Err(NvmlError::GpuLost)));
        assert!(nvml.device_by_index(1).is_ok(), "the other one is still there");
    });
}

#[test]
fn a_hanging_call_goes_on_when_the_file_says_so() {
    in_child("a_hanging_call_goes_on_when_the_file_says_so", |mut fake| {
        let nvml = load().unwrap();
        fake.update(|driver| {
            driver.gpus[0].faults.hang.insert(Call::Temperature);
        })
        .unwrap();
        std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::sync_channel(1);
            let nvml = &nvml;
            scope.spawn(move || {
                tell.send(
                    nvml.device_by_index(0)
                        .unwrap()
                        .temperature(TemperatureSensor::Gpu),
                )
                .unwrap();
            });
            assert!(
                told.recv_timeout(Duration::from_millis(200)).is_err(),
                "it answered"
            );
            assert!(
                nvml.device_by_index(1)
                    .unwrap()
                    .temperature(TemperatureSensor::Gpu)
                    .is_ok()
            );
            fake.update(|driver| driver.gpus[0].faults.hang.clear()).unwrap();
            assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap().unwrap(), 38);
        });
    });
}

#[test]
fn an_xid_reaches_who_registered_for_it() {
    in_child("an_xid_reaches_who_registered_for_it", |mut fake| {
        fake.xid(0, 13).unwrap();
        let nvml = load().unwrap();
        let gpu = nvml.device_by_index(0).unwrap();
        let set = nvml.create_event_set().unwrap();
        let set = gpu.register_events(EventTypes::CRITICAL_XID_ERROR, set).unwrap();
        assert!(
            matches!(set.wait(30), Err(NvmlError::Timeout)),
            "what happened before does not count"
        );
        fake.xid(1, 48).unwrap();
        assert!(
            matches!(set.wait(30), Err(NvmlError::Timeout)),
            "another GPU's does not either"
        );
        fake.xid(0, 79).unwrap();
        let event = set.wait(10_000).unwrap();
        assert!(
            matches!(event.event_data, Some(XidError::Value(79))),
            "{:?}",
            event.event_data
        );
        assert_eq!(event.device.uuid().unwrap(), gpu.uuid().unwrap());
        assert!(
            matches!(set.wait(30), Err(NvmlError::Timeout)),
            "each is delivered once"
        );
    });
}

#[test]
fn init_fails_as_told() {
    in_child("init_fails_as_told", |mut fake| {
        fake.fail(Call::Init, Status::LibRmVersionMismatch).unwrap();
        assert!(matches!(load(), Err(NvmlError::LibRmVersionMismatch)));
        std::fs::write(fake.env().1, "not a control file").unwrap();
        assert!(matches!(load(), Err(NvmlError::Unknown)));
        std::fs::remove_file(fake.env().1).unwrap();
        assert!(matches!(load(), Err(NvmlError::DriverNotLoaded)));
    });
}

#[test]
fn without_the_variable_there_is_no_driver() {
    assert!(matches!(load(), Err(NvmlError::DriverNotLoaded)));
    assert!(
        reference_driver()
            .gpus
            .iter()
            .all(|gpu| gpu.name.contains("fake"))
    );
}
