//! An engine's container: what it is started as, who its client is, and what its trouble means. Calls the runtime's client;
//! the sandbox is container-runtime's.

use std::ffi::OsString;

use api_types::container::{ImageRef, MountPath};
use api_types::pool::UnreadyCause;
use config_schema::Environment as ProcessEnvironment;
use container_runtime::{
    Backend, Cause, Choice, ContainerEnvironment, ContainerId, ContainerRuntime, ContainerSpec, Deadlines,
    DeviceMask, Environment, Error, Exit, Limits, LocalImage, Mount, NoRuntime, Owner, PublishedPort,
    Redaction, Setup, SpecError, detect,
};
use http_util::redact::redact;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::trouble::Unready;

/// What the runtime's client is called with. It may hold a proxy's password, and goes through pipes only.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Client {
    environment: Vec<(String, String)>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_tuple("Client").field(&names).finish()
    }
}

impl Client {
    /// With what a client needs of this process's environment.
    #[must_use]
    pub fn of(environment: &ProcessEnvironment) -> Self {
        let needed = Environment::looked_up(|name| environment.get(name));
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let pairs = needed.variables().map(|(name, value)| (text(name), text(value)));
        Self {
            environment: pairs.collect(),
        }
    }

    /// How a runtime is found.
    #[must_use]
    pub fn setup(&self, choice: Choice) -> Setup {
        Setup {
            choice,
            environment: Environment::of(self.environment.iter().cloned()),
            deadlines: Deadlines::default(),
            redaction: Redaction::new([], Some(redact)),
        }
    }

    /// The runtime, asked whether it is there.
    ///
    /// # Errors
    /// It is not, or will not do.
    pub async fn runtime(&self, backend: Backend) -> Result<ContainerRuntime, NoRuntime> {
        detect(&self.setup(Choice::Only(backend))).await
    }
}

/// One start in a container, as ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRun {
    /// The image.
    pub image: ImageRef,
    /// What was found under that name: another image is not run.
    pub image_id: String,
    /// The program inside, where it is not the image's own.
    pub entrypoint: Option<MountPath>,
    /// GPU UUIDs.
    pub devices: Vec<String>,
    /// From here to there, for reading.
    pub mounts: Vec<(MountPath, MountPath)>,
    /// What it may use.
    pub limits: Limits,
    /// On the loopback.
    pub host_port: u16,
    /// Inside.
    pub container_port: u16,
}

/// Why an engine was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotStarted {
    /// The class.
    pub cause: UnreadyCause,
    /// What was found, and what helps where that is known.
    pub why: String,
}

impl NotStarted {
    /// A class and what was found.
    #[must_use]
    pub fn new(cause: UnreadyCause, why: impl Into<String>) -> Self {
        Self {
            cause,
            why: why.into(),
        }
    }
}

/// The operating system's refusal.
impl From<std::io::Error> for NotStarted {
    fn from(error: std::io::Error) -> Self {
        Self::new(UnreadyCause::EngineExited, error.to_string())
    }
}

impl From<SpecError> for NotStarted {
    fn from(error: SpecError) -> Self {
        Self::new(UnreadyCause::EngineMissing, error.to_string())
    }
}

impl From<Error> for NotStarted {
    fn from(error: Error) -> Self {
        let Unready { cause, hint } = trouble(&error);
        Self::new(cause, hint)
    }
}

impl From<NoRuntime> for NotStarted {
    fn from(none: NoRuntime) -> Self {
        let Unready { cause, hint } = no_runtime(&none);
        Self::new(cause, hint)
    }
}

/// That there is no runtime.
#[must_use]
pub fn no_runtime(none: &NoRuntime) -> Unready {
    let hint = format!("{none}; {}", none.hint());
    Unready::new(UnreadyCause::ContainerRuntimeUnavailable, hint)
}

/// What a runtime's failure means for the pool, with what helps.
#[must_use]
pub fn trouble(error: &Error) -> Unready {
    Unready::new(cause(error), format!("{error}; {}", error.hint()))
}

fn cause(error: &Error) -> UnreadyCause {
    match error.cause() {
        Some(Cause::DeviceUnknown) => UnreadyCause::DeviceMissing,
        Some(Cause::PortTaken) => UnreadyCause::PortTaken,
        Some(
            Cause::ImageUnknown
            | Cause::DigestMismatch
            | Cause::Unauthorized
            | Cause::RegistryUnreachable
            | Cause::NoSpace,
        ) => UnreadyCause::EngineMissing,
        Some(
            Cause::NoSuchContainer
            | Cause::NotRunning
            | Cause::RemovalInProgress
            | Cause::NameTaken
            | Cause::HybridCgroups
            | Cause::RlimitRefused
            | Cause::DaemonUnreachable,
        ) => UnreadyCause::ContainerRuntimeUnavailable,
        None => match error {
            Error::Failed(failure) if matches!(failure.exit, Exit::CannotExecute | Exit::NotFound) => {
                UnreadyCause::EngineMissing
            }
            _ => UnreadyCause::ContainerRuntimeUnavailable,
        },
    }
}

impl ContainerRun {
    /// Starts the container of an owner. On an error nothing is left of it.
    ///
    /// # Errors
    /// The runtime's, or that the image is not the one that was ordered.
    pub async fn start(
        &self,
        runtime: &ContainerRuntime,
        owner: Owner,
        args: &[OsString],
        env: &[(String, String)],
    ) -> Result<ContainerId, NotStarted> {
        let spec = self.spec(self.image(runtime).await?, owner, args, env)?;
        Ok(runtime.run(&spec).await?)
    }

    async fn image(&self, runtime: &ContainerRuntime) -> Result<LocalImage, NotStarted> {
        let image = runtime.local_image(&self.image).await?;
        image
            .filter(|image| image.id.as_str() == self.image_id)
            .ok_or_else(|| {
                let why = format!(
                    "the image {} is not here any more; it is fetched again",
                    self.image
                );
                NotStarted::new(UnreadyCause::EngineMissing, why)
            })
    }

    fn spec(
        &self,
        image: LocalImage,
        owner: Owner,
        args: &[OsString],
        env: &[(String, String)],
    ) -> Result<ContainerSpec, NotStarted> {
        let args = args.iter().map(|arg| {
            let text = arg.to_str().map(str::to_owned);
            text.ok_or_else(|| NotStarted::new(UnreadyCause::EngineMissing, "an argument is no UTF-8"))
        });
        let mounts = self.mounts.iter();
        let mounts = mounts.map(|(source, target)| Mount::read_only(source.as_path(), target.as_path()));
        let env = env.iter();
        let env = env.map(|(name, value)| (name.clone(), SecretString::from(value.as_str())));
        let spec = ContainerSpec::new(owner, image, DeviceMask::parse(&self.devices)?, self.limits)?
            .args(args.collect::<Result<Vec<_>, _>>()?)?
            .mounts(mounts.collect::<Result<Vec<_>, _>>()?)
            .ports([PublishedPort {
                host: self.host_port,
                container: self.container_port,
            }])?
            .environment(ContainerEnvironment::new(env)?);
        Ok(match &self.entrypoint {
            Some(program) => spec.entrypoint(program.as_path())?,
            None => spec,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REQ-POOL-CONTAINER: a proxy's password is in no debug output, and what a client does not need is not kept.
    #[test]
    fn a_client_keeps_what_it_needs_and_shows_names_only() {
        let environment = ProcessEnvironment::of([
            ("PATH", "/usr/bin"),
            ("HTTPS_PROXY", "http://user:hunter2@proxy"),
            ("AUTH_TOKEN", "a-token"),
        ]);
        let client = Client::of(&environment);
        assert_eq!(format!("{client:?}"), "Client([\"HTTPS_PROXY\", \"PATH\"])");
        let variables: Vec<_> = client.environment.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(variables, ["HTTPS_PROXY", "PATH"]);
    }

    #[test]
    fn what_a_runtime_lacks_is_told_from_what_an_image_lacks() {
        let missing = Error::Missing { program: "podman" };
        let told = trouble(&missing);
        assert_eq!(told.cause, UnreadyCause::ContainerRuntimeUnavailable);
        assert!(told.hint.contains("install podman"), "{}", told.hint);
        let mismatch = Error::DigestMismatch {
            image: "localhost/x".into(),
            found: Vec::new(),
        };
        assert_eq!(trouble(&mismatch).cause, UnreadyCause::EngineMissing);
    }
}
