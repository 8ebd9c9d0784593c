//! The pretended driver: the control file as last read, the init count, and the rule by which every
//! call is answered (initialised? hanging? failing? lost?). Touches the control file and stderr.

use std::fs::{self, Metadata};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Status;
use crate::ffi::Handle;
use crate::residents::with_residents;
use crate::spec::{Call, Driver, FILE_VARIABLE, Faults, Gpu};

/// How often a hanging or waiting call looks at the control file again: short enough that a test
/// does not notice, long enough to cost nothing.
pub(crate) const POLL: Duration = Duration::from_millis(20);

static STATE: Mutex<State> = Mutex::new(State {
    inits: 0,
    file: None,
    uuids: Vec::new(),
});

struct State {
    /// `nvmlInit` calls not yet matched by `nvmlShutdown`.
    inits: u32,
    file: Option<LoadedFile>,
    /// The UUID behind each device handle given out; a handle outlives any reordering.
    uuids: Vec<String>,
}

struct LoadedFile {
    version: FileVersion,
    content: Result<Arc<Driver>, Status>,
}

/// Tells two states of the file apart. The inode changes with every atomic replacement, so two
/// writes within one tick of the clock differ too.
#[derive(PartialEq, Eq)]
struct FileVersion {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl From<&Metadata> for FileVersion {
    fn from(meta: &Metadata) -> Self {
        let modified = (meta.mtime(), meta.mtime_nsec());
        Self {
            inode: meta.ino(),
            modified,
            length: meta.len(),
        }
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a C library has no configuration but its environment"
)]
fn control_file() -> Result<PathBuf, Status> {
    std::env::var_os(FILE_VARIABLE)
        .map(PathBuf::from)
        .ok_or(Status::DriverNotLoaded)
}

/// The control file as it is now.
pub(crate) fn current() -> Result<Arc<Driver>, Status> {
    let path = control_file()?;
    let meta = fs::metadata(&path).map_err(|_| Status::DriverNotLoaded)?;
    let version = FileVersion::from(&meta);
    let mut state = state();
    if let Some(loaded) = state.file.as_ref().filter(|loaded| loaded.version == version) {
        return loaded.content.clone();
    }
    let content = load(&path);
    state.file = Some(LoadedFile {
        version,
        content: content.clone(),
    });
    content
}

/// A file that cannot be understood is an internal driver error, and says why once per version.
fn load(path: &Path) -> Result<Arc<Driver>, Status> {
    let bytes = fs::read(path).map_err(|_| Status::DriverNotLoaded)?;
    serde_json::from_slice(&bytes).map(Arc::new).map_err(|error| {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(std::io::stderr(), "fake NVML: {}: {error}", path.display());
        Status::Unknown
    })
}

/// `nvmlInit`: counted.
pub(crate) fn init() -> Result<(), Status> {
    unless_faulty(Call::Init, |driver| Some(&driver.faults))?;
    state().inits += 1;
    Ok(())
}

/// `nvmlShutdown`: counted.
pub(crate) fn shutdown() -> Result<(), Status> {
    call(Call::Shutdown, |_| Ok(()))?;
    state().inits -= 1;
    Ok(())
}

/// Answers a call about no device in particular.
pub(crate) fn call<T>(call: Call, answer: impl FnOnce(&Driver) -> Result<T, Status>) -> Result<T, Status> {
    initialised()?;
    let driver = unless_faulty(call, |driver| Some(&driver.faults))?;
    answer(&driver)
}

/// Answers a call about the device behind `handle`; the answer gets the device and its index.
pub(crate) fn device_call<T>(
    handle: Handle,
    call: Call,
    answer: impl FnOnce(&Gpu, usize) -> Result<T, Status>,
) -> Result<T, Status> {
    initialised()?;
    let uuid = uuid_of(handle)?;
    let driver = unless_faulty(call, |driver| Some(&driver.faults))?;
    find(&driver, &uuid)?;
    let driver = unless_faulty(call, |driver| {
        find(driver, &uuid).ok().map(|(_, gpu)| &gpu.faults)
    })?;
    let (index, gpu) = find(&driver, &uuid)?;
    answer(&with_residents(gpu, &control_file()?), index)
}

fn initialised() -> Result<(), Status> {
    if state().inits == 0 {
        Err(Status::Uninitialized)
    } else {
        Ok(())
    }
}

/// Waits while `call` hangs, then fails if it should fail, else gives the file's content.
fn unless_faulty(call: Call, faults: impl Fn(&Driver) -> Option<&Faults>) -> Result<Arc<Driver>, Status> {
    loop {
        let driver = current()?;
        let Some(faults) = faults(&driver) else {
            return Ok(driver);
        };
        if !faults.hang.contains(&call) {
            return faults
                .fail
                .get(&call)
                .map_or_else(|| Ok(Arc::clone(&driver)), |status| Err(*status));
        }
        std::thread::sleep(POLL);
    }
}

/// A device that is no longer in the file has been lost, like one that is marked so.
fn find<'a>(driver: &'a Driver, uuid: &str) -> Result<(usize, &'a Gpu), Status> {
    let mut gpus = driver.gpus.iter().enumerate();
    gpus.find(|(_, gpu)| gpu.uuid == uuid && !gpu.lost)
        .ok_or(Status::GpuIsLost)
}

/// The handle for a GPU, the same one every time.
pub(crate) fn handle_for(uuid: &str) -> Handle {
    let mut state = state();
    let known = state.uuids.iter().position(|known| known == uuid);
    let index = known.unwrap_or_else(|| {
        state.uuids.push(uuid.to_owned());
        state.uuids.len() - 1
    });
    Handle::of(index)
}

/// The UUID behind a handle.
pub(crate) fn uuid_of(handle: Handle) -> Result<String, Status> {
    let index = handle.index().ok_or(Status::InvalidArgument)?;
    state().uuids.get(index).cloned().ok_or(Status::InvalidArgument)
}
