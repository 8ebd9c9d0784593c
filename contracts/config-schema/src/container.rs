//! `[pool_managerd.pools.container]`: an engine that runs in a container.

use api_types::container::{ImageRef, MountPath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounded::Count;

/// An engine in a container of Podman or Docker. It sees the pool's GPUs and no others, its root and its mounts are for
/// reading only, it has no rights, and only the loopback reaches it. The model file is mounted by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The image by registry, path and digest: `registry/path@sha256:…`. A tag alone is accepted with a warning: it may
    /// name another image tomorrow, and is looked up again only when this daemon starts.
    pub image: ImageRef,
    /// Which runtime. Default `auto`: Podman, else Docker.
    #[serde(default)]
    pub runtime: Runtime,
    /// The engine's program inside the image, an absolute path. Default: the image's own entry point.
    #[serde(default)]
    pub entrypoint: Option<MountPath>,
    /// More files and folders of this machine, for reading only: adapters, templates, a projector.
    #[serde(default)]
    pub mounts: Vec<ContainerMount>,
    /// Memory of this machine that it may use, MiB. Default: all there is.
    #[serde(default)]
    pub memory_mib: Option<Count<64, 1_024, 16_777_216>>,
    /// Shared memory, MiB. Default 64.
    #[serde(default)]
    pub shm_mib: Count<1, 64, 1_048_576>,
    /// Temporary files in `/tmp`, which is also its home, MiB; they are memory. Default 512: kernels that the driver
    /// compiles are cached there.
    #[serde(default)]
    pub tmp_mib: Count<1, 512, 1_048_576>,
    /// Processes and threads. Default 4096.
    #[serde(default)]
    pub pids: Count<16, 4_096, 4_194_304>,
}

/// A container runtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Podman where there is one that will do, else Docker.
    #[default]
    Auto,
    /// Podman or none.
    Podman,
    /// Docker or none.
    Docker,
}

/// A file or folder of this machine inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerMount {
    /// Its path on this machine.
    pub source: MountPath,
    /// Its path inside.
    pub target: MountPath,
}
