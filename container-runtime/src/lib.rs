//! Engines in containers: finds Podman or Docker, checks what a start needs, pulls images by digest, and runs, stops,
//! looks at and removes containers, by the runtimes' command lines. Starts their client programs; knows neither pools
//! nor engines nor HTTP.

mod cli;
mod container;
mod detect;
mod dialect;
mod error;
mod facts;
mod host;
mod image;
mod logs;
mod owner;
mod preflight;
mod redaction;
mod runtime;
mod search;
mod spec;
mod text;
mod version;

pub use api_types::container::{Digest, ImageError, ImageRef, MountPath, MountPathError};
pub use container::{Container, ContainerId, Ending, State};
pub use detect::{Choice, Deadlines, NoRuntime, Setup, detect};
pub use error::{Action, Cause, Error, Exit, Failure};
pub use facts::{Backend, CgroupVersion, Facts, Network};
pub use host::{Adaptation, CgroupLayout, Host};
pub use image::{ImageWarning, LocalImage};
pub use logs::{Logs, Since};
pub use owner::{Home, Owner};
pub use preflight::{
    CDI_DIRS, Finding, Needs, OLDEST_TOOLKIT, Preflight, Problem, Severity, check, preflight,
};
pub use redaction::{MARK, Pattern, Redaction};
pub use runtime::{ContainerRuntime, Swept};
pub use search::{Environment, SearchPath};
pub use spec::{
    ContainerEnvironment, ContainerSpec, DeviceMask, DeviceUuid, LOOPBACK, Limits, Mount, PublishedPort,
    SpecError,
};
pub use text::printable;
pub use version::Version;
