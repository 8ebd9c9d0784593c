//! How a pool's engines are started, as data: by a program of this machine, or in a container. There is no third way, and
//! a pool has one. What follows from it is decided in the modules that start, watch and end engines.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api_types::container::{ImageRef, MountPath};
use config_schema::{Container, Launcher as Configured, Runtime};
use container_runtime::{Backend, Choice, Limits};
use serde::Serialize;

/// Bytes.
pub const MIB: u64 = 1 << 20;

/// What a pool's configuration says.
#[derive(Debug, Clone)]
pub enum Launcher {
    /// A program: an absolute path, or a bare name.
    Program(PathBuf),
    /// A container.
    Container(Arc<ContainerPlan>),
}

/// A container, but for what differs from start to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerPlan {
    /// The image.
    pub image: ImageRef,
    /// Which runtime.
    pub runtime: Runtime,
    /// The program inside, where it is not the image's own.
    pub entrypoint: Option<MountPath>,
    /// From here to there, for reading, beside the model.
    pub mounts: Vec<(MountPath, MountPath)>,
    /// What it may use.
    pub limits: Limits,
}

impl Launcher {
    /// Of a configured pool.
    #[must_use]
    pub fn of(configured: Configured<'_>) -> Self {
        match configured {
            Configured::Program(program) => Self::Program(program.to_owned()),
            Configured::Container(container) => Self::Container(Arc::new(ContainerPlan::of(container))),
        }
    }

    /// Differs for launchers that start different engines.
    #[must_use]
    pub fn identity(&self) -> Vec<u8> {
        match self {
            Self::Program(program) => program.as_os_str().as_bytes().to_vec(),
            // A plan is made of texts and numbers, which JSON can hold; no program's path begins with its brace.
            Self::Container(plan) => serde_json::to_vec(&**plan).unwrap_or_default(),
        }
    }
}

impl ContainerPlan {
    fn of(container: &Container) -> Self {
        let mounts = container.mounts.iter();
        Self {
            image: container.image.clone(),
            runtime: container.runtime,
            entrypoint: container.entrypoint.clone(),
            mounts: mounts
                .map(|mount| (mount.source.clone(), mount.target.clone()))
                .collect(),
            limits: Limits {
                memory_bytes: container
                    .memory_mib
                    .map_or_else(machine_memory, |mib| mib.get() as u64 * MIB),
                shm_bytes: container.shm_mib.get() as u64 * MIB,
                tmp_bytes: container.tmp_mib.get() as u64 * MIB,
                pids: container.pids.get_u32(),
            },
        }
    }

    /// Which runtime will do.
    #[must_use]
    pub const fn choice(&self) -> Choice {
        match self.runtime {
            Runtime::Auto => Choice::Auto,
            Runtime::Podman => Choice::Only(Backend::Podman),
            Runtime::Docker => Choice::Only(Backend::Docker),
        }
    }
}

/// All memory of this machine, bytes. Where the kernel does not tell, no limit that a container could reach.
fn machine_memory() -> u64 {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    memory_total(&table).unwrap_or(1 << 50)
}

/// `MemTotal:       32768000 kB`.
fn memory_total(table: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// Where a container sees the model.
const MODEL_FOLDER: &str = "/llama-orch/models";

/// The files of a model on this machine and inside a container; the first is the one that the engine is given. A model
/// in parts is named by its first part, and all of them are beside it.
///
/// # Errors
/// One of them cannot be mounted.
pub fn model_mounts(
    model: &Path,
) -> Result<Vec<(MountPath, MountPath)>, api_types::container::MountPathError> {
    let mount = |source: PathBuf| {
        let name = source.file_name().unwrap_or_default();
        let target = MountPath::new(Path::new(MODEL_FOLDER).join(name))?;
        Ok((MountPath::new(source)?, target))
    };
    parts(model).into_iter().map(mount).collect()
}

/// Models have tens of parts; each is a mount.
const MAX_PARTS: u32 = 512;

/// `name-00001-of-00003.gguf` has two more.
fn parts(model: &Path) -> Vec<PathBuf> {
    let all = || {
        let name = model.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let stem = rest.strip_suffix("-00001")?;
        let fits = count.len() == 5 && count.bytes().all(|b| b.is_ascii_digit());
        let count: u32 = count.parse().ok()?;
        let count = (fits && count <= MAX_PARTS).then_some(count)?;
        let part = |index| model.with_file_name(format!("{stem}-{index:05}-of-{count:05}.gguf"));
        Some((1..=count).map(part).collect())
    };
    all().unwrap_or_else(|| vec![model.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_in_parts_is_mounted_whole() {
        let targets = |model: &str| -> Vec<String> {
            let mounts = model_mounts(Path::new(model)).unwrap();
            mounts.into_iter().map(|(_, target)| target.to_string()).collect()
        };
        assert_eq!(targets("/m/tiny.gguf"), ["/llama-orch/models/tiny.gguf"]);
        assert_eq!(
            targets("/m/big-00001-of-00003.gguf"),
            [
                "/llama-orch/models/big-00001-of-00003.gguf",
                "/llama-orch/models/big-00002-of-00003.gguf",
                "/llama-orch/models/big-00003-of-00003.gguf"
            ]
        );
        for one in [
            "/m/big-00002-of-00003.gguf",
            "/m/x-of-00003.gguf",
            "/m/x-00001-of-3.gguf",
        ] {
            assert_eq!(targets(one).len(), 1, "{one}");
        }
        assert!(model_mounts(Path::new("/a,b/m.gguf")).is_err());
    }

    #[test]
    fn the_kernel_tells_this_machines_memory() {
        assert_eq!(
            memory_total("MemTotal:       32768000 kB\nMemFree: 1 kB\n"),
            Some(32_768_000 << 10)
        );
        assert!(machine_memory() < 1 << 50);
    }

    #[test]
    fn a_container_is_another_launcher_than_any_program() {
        let program = Launcher::Program("/opt/llama-server".into());
        let contained = |mib| {
            let text = format!("{{\"image\": \"localhost/llama:1\", \"memory_mib\": {mib}}}");
            let container: Container = serde_json::from_str(&text).unwrap();
            Launcher::of(Configured::Container(&container)).identity()
        };
        assert_ne!(program.identity(), contained(64));
        assert_ne!(contained(64), contained(65));
        assert_eq!(contained(64), contained(64));
    }
}
