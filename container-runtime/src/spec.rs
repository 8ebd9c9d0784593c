//! What a container shall be, checked when it is made: GPUs, mounts, ports, limits, environment. Pure. There is no way
//! to say more than this, so nothing that a configuration contains can loosen the sandbox.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use api_types::container::{MountPath, MountPathError};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::image::LocalImage;
use crate::owner::Owner;

/// Published ports are reachable from here alone.
pub const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Most bytes of all variables together. They go through a pipe to the client, which reads it whole.
const MAX_ENVIRONMENT_BYTES: usize = 64 << 10;

/// The NVIDIA hooks give a container the devices that this variable names.
const RESERVED: [&str; 1] = ["NVIDIA_VISIBLE_DEVICES"];

/// Why a container cannot be described so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No engine runs without a GPU.
    #[error("the device mask is empty: no engine runs without a GPU")]
    NoDevice,
    /// Not as the driver writes them.
    #[error("{0:?} is no device UUID: GPU- or MIG- and letters and digits in groups")]
    Device(String),
    /// Twice the same.
    #[error("the device {0} is in the mask twice")]
    DeviceTwice(DeviceUuid),
    /// No path that a mount can carry.
    #[error(transparent)]
    Path(#[from] MountPathError),
    /// Mounting over the image's root would hide it.
    #[error("nothing can be mounted at / of a container")]
    MountAtRoot,
    /// A variable's name.
    #[error("{0:?} is no name of an environment variable")]
    VariableName(String),
    /// It would decide which GPUs are seen, which the mask does.
    #[error("the environment variable {0} is not for a configuration: the device mask decides")]
    VariableReserved(String),
    /// A variable's value goes in one line.
    #[error("the environment variable {0} has a line break or a zero byte")]
    VariableValue(String),
    /// All variables together.
    #[error("the environment has {found} bytes, at most {MAX_ENVIRONMENT_BYTES} are allowed")]
    EnvironmentTooLarge {
        /// Its size.
        found: usize,
    },
    /// Arguments end at a zero byte.
    #[error("the engine's argument {0} has a zero byte")]
    Argument(usize),
    /// A limit of nothing.
    #[error("{0} must not be 0")]
    Zero(&'static str),
}

/// A GPU or a part of one, by the driver's UUID. Indexes drift, so none is accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceUuid(Box<str>);

impl DeviceUuid {
    /// Reads `GPU-…` or `MIG-…`.
    ///
    /// # Errors
    /// [`SpecError::Device`] for anything else.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let digits = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-"));
        let fits = digits.is_some_and(|digits| {
            (1..=96).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(SpecError::Device(text.to_owned()))
        }
    }

    /// As the driver writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The GPUs that a container sees: at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMask(Vec<DeviceUuid>);

impl DeviceMask {
    /// Makes a mask of UUIDs.
    ///
    /// # Errors
    /// None, one that is no UUID, or one twice.
    pub fn parse<T: AsRef<str>>(uuids: impl IntoIterator<Item = T>) -> Result<Self, SpecError> {
        let mut mask: Vec<DeviceUuid> = Vec::new();
        for uuid in uuids {
            let uuid = DeviceUuid::parse(uuid.as_ref())?;
            if mask.contains(&uuid) {
                return Err(SpecError::DeviceTwice(uuid));
            }
            mask.push(uuid);
        }
        if mask.is_empty() {
            return Err(SpecError::NoDevice);
        }
        Ok(Self(mask))
    }

    /// The devices, in the given order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &DeviceUuid> {
        self.0.iter()
    }
}

/// A file or folder of this machine inside the container, for reading only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    source: MountPath,
    target: MountPath,
}

impl Mount {
    /// `source` on this machine appears as `target`.
    ///
    /// # Errors
    /// A path that is relative, goes through `..`, or has a character that no mount option can carry.
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Result<Self, SpecError> {
        let (source, target) = (MountPath::new(source)?, MountPath::new(target)?);
        if target.as_path() == Path::new("/") {
            return Err(SpecError::MountAtRoot);
        }
        Ok(Self { source, target })
    }

    /// The path on this machine.
    #[must_use]
    pub fn source(&self) -> &Path {
        self.source.as_path()
    }

    /// The option of `--mount`; [`MountPath`] has seen to it that no path can add another.
    pub(crate) fn option(&self) -> String {
        let Self { source, target } = self;
        format!("type=bind,source={source},target={target},readonly")
    }
}

/// A container's port that this machine's loopback reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublishedPort {
    /// On 127.0.0.1.
    pub host: u16,
    /// Inside the container.
    pub container: u16,
}

impl PublishedPort {
    pub(crate) fn option(self) -> String {
        format!("{LOOPBACK}:{}:{}/tcp", self.host, self.container)
    }
}

/// What a container may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory including what lies in its temporary files, bytes; swap is not added.
    pub memory_bytes: u64,
    /// Shared memory, bytes.
    pub shm_bytes: u64,
    /// Temporary files, bytes.
    pub tmp_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
}

impl Limits {
    fn check(&self) -> Result<(), SpecError> {
        let values = [
            ("the memory limit", self.memory_bytes),
            ("the shared memory limit", self.shm_bytes),
            ("the limit on temporary files", self.tmp_bytes),
            ("the process limit", self.pids.into()),
        ];
        match values.into_iter().find(|&(_, value)| value == 0) {
            Some((name, _)) => Err(SpecError::Zero(name)),
            None => Ok(()),
        }
    }
}

/// The variables of a container's program. All of them reach the client through a pipe, none through its arguments,
/// its own environment or a file.
#[derive(Debug, Clone, Default)]
pub struct ContainerEnvironment(Vec<(String, SecretString)>);

impl ContainerEnvironment {
    /// Checks names and values.
    ///
    /// # Errors
    /// A name that is none, a value of more than one line, or too much of all.
    pub fn new(variables: impl IntoIterator<Item = (String, SecretString)>) -> Result<Self, SpecError> {
        let variables: Vec<(String, SecretString)> = variables.into_iter().collect();
        let mut bytes = 0;
        for (name, value) in &variables {
            check_name(name)?;
            let value = value.expose_secret();
            if value.contains(['\n', '\r', '\0']) {
                return Err(SpecError::VariableValue(name.clone()));
            }
            bytes += name.len() + value.len() + 2;
        }
        if bytes > MAX_ENVIRONMENT_BYTES {
            return Err(SpecError::EnvironmentTooLarge { found: bytes });
        }
        Ok(Self(variables))
    }

    /// As `--env-file` reads it.
    pub(crate) fn file(&self) -> SecretString {
        let mut text = String::new();
        for (name, value) in &self.0 {
            text.push_str(name);
            text.push('=');
            text.push_str(value.expose_secret());
            text.push('\n');
        }
        text.into()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &SecretString> {
        self.0.iter().map(|(_, value)| value)
    }
}

fn check_name(name: &str) -> Result<(), SpecError> {
    let fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !fits {
        return Err(SpecError::VariableName(name.to_owned()));
    }
    if RESERVED.contains(&name) {
        return Err(SpecError::VariableReserved(name.to_owned()));
    }
    Ok(())
}

/// All of it. Make it with [`ContainerSpec::new`], which checks what the parts have not.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    pub(crate) owner: Owner,
    pub(crate) image: LocalImage,
    pub(crate) devices: DeviceMask,
    pub(crate) limits: Limits,
    pub(crate) entrypoint: Option<MountPath>,
    pub(crate) args: Vec<String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) ports: Vec<PublishedPort>,
    pub(crate) environment: ContainerEnvironment,
    pub(crate) user: Option<(u32, u32)>,
}

impl ContainerSpec {
    /// A container of `image` for `owner` that sees `devices`.
    ///
    /// # Errors
    /// A limit of 0.
    pub fn new(
        owner: Owner,
        image: LocalImage,
        devices: DeviceMask,
        limits: Limits,
    ) -> Result<Self, SpecError> {
        limits.check()?;
        Ok(Self {
            owner,
            image,
            devices,
            limits,
            entrypoint: None,
            args: Vec::new(),
            mounts: Vec::new(),
            ports: Vec::new(),
            environment: ContainerEnvironment::default(),
            user: None,
        })
    }

    /// Other limits.
    ///
    /// # Errors
    /// One of 0.
    pub fn limits(mut self, limits: Limits) -> Result<Self, SpecError> {
        limits.check()?;
        self.limits = limits;
        Ok(self)
    }

    /// Runs this program of the image instead of its own.
    ///
    /// # Errors
    /// A path that is none.
    pub fn entrypoint(mut self, program: impl Into<PathBuf>) -> Result<Self, SpecError> {
        self.entrypoint = Some(MountPath::new(program)?);
        Ok(self)
    }

    /// The program's arguments, as they are.
    ///
    /// # Errors
    /// One with a zero byte.
    pub fn args(mut self, args: impl IntoIterator<Item = String>) -> Result<Self, SpecError> {
        self.args = args.into_iter().collect();
        match self.args.iter().position(|arg| arg.contains('\0')) {
            Some(at) => Err(SpecError::Argument(at)),
            None => Ok(self),
        }
    }

    /// Files and folders that it may read.
    #[must_use]
    pub fn mounts(mut self, mounts: impl IntoIterator<Item = Mount>) -> Self {
        self.mounts = mounts.into_iter().collect();
        self
    }

    /// Ports that the loopback reaches.
    ///
    /// # Errors
    /// Port 0.
    pub fn ports(mut self, ports: impl IntoIterator<Item = PublishedPort>) -> Result<Self, SpecError> {
        self.ports = ports.into_iter().collect();
        let zero = self
            .ports
            .iter()
            .any(|port| port.host == 0 || port.container == 0);
        if zero {
            Err(SpecError::Zero("a port"))
        } else {
            Ok(self)
        }
    }

    /// The program's environment, beside the image's.
    #[must_use]
    pub fn environment(mut self, environment: ContainerEnvironment) -> Self {
        self.environment = environment;
        self
    }

    /// User and group inside the container; without it those of the image.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUID: &str = "GPU-6f1f0d8e-0000-0000-0000-000000000000";

    /// REQ-CONTAINER-MASK.
    #[test]
    fn a_mask_has_uuids_at_least_one_and_none_twice() {
        assert_eq!(DeviceMask::parse([UUID, "MIG-1"]).unwrap().iter().len(), 2);
        assert_eq!(DeviceMask::parse::<&str>([]), Err(SpecError::NoDevice));
        assert!(matches!(
            DeviceMask::parse([UUID, UUID]),
            Err(SpecError::DeviceTwice(_))
        ));
        for text in [
            "0",
            "all",
            "",
            "GPU-",
            "GPU-é",
            "GPU-1,GPU-2",
            "GPU-1\"",
            "nvidia.com/gpu=all",
            "gpu-1",
        ] {
            assert_eq!(
                DeviceMask::parse([text]),
                Err(SpecError::Device(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_mount_is_for_reading_and_adds_no_option() {
        let mount = Mount::read_only("/models/a b.gguf", "/models/x").unwrap();
        assert_eq!(
            mount.option(),
            "type=bind,source=/models/a b.gguf,target=/models/x,readonly"
        );
        for (source, target) in [
            ("models", "/x"),
            ("/a/../b", "/x"),
            ("/a", "x"),
            ("/a", "/"),
            ("/a,readonly=false", "/x"),
            ("/a", "/x,rw"),
            ("/a:b", "/x"),
            ("/a\nb", "/x"),
        ] {
            assert!(Mount::read_only(source, target).is_err(), "{source} {target}");
        }
    }

    #[test]
    fn a_variable_is_one_line() {
        let new = |name: &str, value: &str| {
            ContainerEnvironment::new([(name.to_owned(), SecretString::from(value))])
        };
        let file = new("KEY", "a=b #c \"d\"").unwrap().file();
        assert_eq!(file.expose_secret(), "KEY=a=b #c \"d\"\n");
        for (name, value) in [
            ("", "x"),
            ("1A", "x"),
            ("A-B", "x"),
            ("A*", "x"),
            ("#A", "x"),
            ("A", "x\ny"),
            ("NVIDIA_VISIBLE_DEVICES", "all"),
        ] {
            assert!(new(name, value).is_err(), "{name} {value:?}");
        }
        let large = new("A", &"x".repeat(MAX_ENVIRONMENT_BYTES));
        assert!(matches!(large, Err(SpecError::EnvironmentTooLarge { .. })));
    }

    proptest! {
        #[test]
        fn every_variable_is_a_line_of_its_own(name in ".{0,8}", value in ".{0,20}") {
            if let Ok(environment) = ContainerEnvironment::new([(name.clone(), value.clone().into())]) {
                let file = environment.file();
                prop_assert_eq!(file.expose_secret(), format!("{name}={value}\n"));
                prop_assert_eq!(file.expose_secret().lines().count(), 1);
            }
        }

        #[test]
        fn an_accepted_path_is_one_option(path in "/[a-z,:=\"\\\\ ./]{0,20}") {
            if let Ok(mount) = Mount::read_only(path, "/x") {
                prop_assert_eq!(mount.option().split(',').count(), 4);
            }
        }
    }
}
