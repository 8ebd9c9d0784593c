//! Control of the fake NVML library: writes the file that `libfake_nvml.so` answers from, and knows
//! where the library is. Touches that one file.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use test_harness_support::fake_nvml::{FakeNvml, library_path};
//! let mut nvml = FakeNvml::reference_box("/tmp/state/nvml.json")?;
//! // start a program with `nvml.env()` in its environment and `library_path()?` as its NVML …
//! nvml.update(|driver| driver.gpus[1].lost = true)?;
//! # drop(library_path()?);
//! # Ok(()) }
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fake_nvml::residents::{Resident, folder, started_ticks};

pub use fake_nvml::Status;
pub use fake_nvml::spec::{
    Call, Driver, Ecc, Event, EventKind, FILE_VARIABLE, Faults, Gpu, Memory, Mig, Process, Utilization,
};

use crate::binaries::{self, BuildError};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// A control file and what was last written to it.
#[derive(Debug)]
pub struct FakeNvml {
    path: PathBuf,
    driver: Driver,
}

impl FakeNvml {
    /// The reference box: a 24 GiB and a 12 GiB GPU, both idle.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn reference_box(path: impl Into<PathBuf>) -> io::Result<Self> {
        Self::create(path, reference_driver())
    }

    /// A control file with this content.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: impl Into<PathBuf>, driver: Driver) -> io::Result<Self> {
        let fake = Self {
            path: path.into(),
            driver,
        };
        fake.write()?;
        Ok(fake)
    }

    /// Changes the content; a program that has the library loaded sees all of the change or nothing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn update(&mut self, change: impl FnOnce(&mut Driver)) -> io::Result<()> {
        change(&mut self.driver);
        self.write()
    }

    /// What was last written.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The environment variable and value that make a program see this file.
    pub fn env(&self) -> (&'static str, &Path) {
        (FILE_VARIABLE, &self.path)
    }

    /// Lets `call` fail with `status`, for every GPU.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn fail(&mut self, call: Call, status: Status) -> io::Result<()> {
        self.update(|driver| {
            driver.faults.fail.insert(call, status);
        })
    }

    /// Reports an Xid on a GPU (panics never: an index that does not exist changes nothing).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn xid(&mut self, gpu_index: usize, xid: u64) -> io::Result<()> {
        self.update(|driver| {
            let Some(gpu) = driver.gpus.get(gpu_index) else {
                return;
            };
            let id = driver.events.iter().map(|event| event.id).max().unwrap_or(0) + 1;
            let gpu_uuid = gpu.uuid.clone();
            driver.events.push(Event {
                id,
                gpu_uuid,
                kind: EventKind::Xid,
                value: xid,
            });
        })
    }

    fn write(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, &self.driver)?;
        file.flush()?;
        file.persist(&self.path)?;
        Ok(())
    }
}

/// Says that a process holds memory on GPUs, bytes by UUID, from now on until it ends: what a real driver learns by a CUDA
/// context.
///
/// # Errors
/// There is no such process, or the file cannot be written.
pub fn hold(control_file: &Path, pid: u32, held: BTreeMap<String, u64>) -> io::Result<()> {
    let resident = Resident {
        started_ticks: started_ticks(pid).ok_or(io::ErrorKind::NotFound)?,
        held,
    };
    let folder = folder(control_file);
    fs::create_dir_all(&folder)?;
    let file = tempfile::NamedTempFile::new_in(&folder)?;
    serde_json::to_writer(&file, &resident)?;
    file.persist(folder.join(pid.to_string()))?;
    Ok(())
}

/// The driver of the reference box.
pub fn reference_driver() -> Driver {
    Driver {
        driver_version: "580.00.00-fake".to_owned(),
        nvml_version: "13.580.00.00-fake".to_owned(),
        cuda_driver_version: 13_000,
        gpus: vec![
            gpu(0, "NVIDIA GeForce RTX 3090 (fake)", 24 * GIB),
            gpu(1, "NVIDIA GeForce RTX 3060 (fake)", 12 * GIB),
        ],
        faults: Faults::default(),
        events: Vec::new(),
    }
}

/// An idle Ampere GPU: index, name, bytes of memory. Its UUID starts with `GPU-fake`.
pub fn gpu(index: u32, name: &str, memory_bytes: u64) -> Gpu {
    Gpu {
        uuid: format!("GPU-fake0000-0000-4000-8000-{index:012}"),
        name: name.to_owned(),
        pci_bus_id: format!("00000000:{:02X}:00.0", index + 1),
        minor_number: index,
        compute_capability: (8, 6),
        memory: Memory {
            total: memory_bytes,
            reserved: 256 * MIB,
            used_by_others: 0,
        },
        processes: Vec::new(),
        utilization: Utilization::default(),
        temperature_c: 38,
        slowdown_c: Some(90),
        throttle_reasons: 0,
        power_mw: 21_000,
        mig: Mig::NotSupported,
        ecc: None,
        lost: false,
        faults: Faults::default(),
    }
}

/// The built `libfake_nvml.so`. It comes out of the same build as this crate, so whatever links this
/// crate finds it.
///
/// # Errors
/// It is not where builds of this workspace put it.
pub fn library_path() -> Result<PathBuf, BuildError> {
    binaries::shared_library("libfake_nvml.so")
}
