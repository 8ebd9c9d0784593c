//! Finding a runtime: Podman first, Docker if there is no Podman that will do. Asks each once, with a deadline.

use std::time::Duration;

use crate::cli::{Call, Cli};
use crate::dialect::{self, Dialect, Reading};
use crate::error::{Action, Error};
use crate::facts::{Backend, Facts};
use crate::host::{Adaptation, Host};
use crate::redaction::Redaction;
use crate::runtime::ContainerRuntime;
use crate::search::Environment;

/// Which runtime is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Podman, else Docker.
    #[default]
    Auto,
    /// This one or none.
    Only(Backend),
}

/// How long calls may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Questions: info, inspect, list, logs.
    pub query: Duration,
    /// Changes: run, kill, remove; beyond its grace also stop.
    pub change: Duration,
    /// Fetching an image.
    pub pull: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            query: Duration::from_secs(15),
            change: Duration::from_secs(60),
            pull: Duration::from_secs(30 * 60),
        }
    }
}

/// Everything that a runtime is found and used with.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Which one.
    pub choice: Choice,
    /// The variables of its client; `PATH` says where it is.
    pub environment: Environment,
    /// How long calls may take.
    pub deadlines: Deadlines,
    /// What no message and no line shows.
    pub redaction: Redaction,
}

/// Why there is no runtime: what was wrong with each that would have been used.
#[derive(Debug, thiserror::Error)]
#[error("there is no container runtime to use: {}", reasons(.0))]
pub struct NoRuntime(pub Vec<Error>);

fn reasons(errors: &[Error]) -> String {
    let texts: Vec<String> = errors.iter().map(Error::to_string).collect();
    texts.join("; ")
}

impl NoRuntime {
    /// What an operator can do about it: about the first, which is preferred.
    #[must_use]
    pub fn hint(&self) -> String {
        self.0.first().map(Error::hint).unwrap_or_default()
    }

    /// Whether one may be there later without anybody's help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.iter().any(Error::is_transient)
    }
}

/// Finds the runtime that `setup` asks for.
///
/// # Errors
/// None is there, or none of them will do.
pub async fn detect(setup: &Setup) -> Result<ContainerRuntime, NoRuntime> {
    let wanted = match setup.choice {
        Choice::Auto => vec![Backend::Podman, Backend::Docker],
        Choice::Only(backend) => vec![backend],
    };
    let mut errors = Vec::new();
    for backend in wanted {
        match probe(backend, setup).await {
            Ok(runtime) => return Ok(runtime),
            Err(error) => errors.push(error),
        }
    }
    Err(NoRuntime(errors))
}

async fn probe(backend: Backend, setup: &Setup) -> Result<ContainerRuntime, Error> {
    let dialect = dialect::of(backend).ok_or(Error::NotBuilt(backend))?;
    let path = setup.environment.search_path();
    let name = backend.program();
    let program = path.find(name).ok_or(Error::Missing { program: name })?;
    if backend == Backend::Docker
        && let Some(place) = remote_daemon(&setup.environment)
    {
        return Err(Error::NotLocal { backend, place });
    }
    let cli = Cli {
        name,
        program,
        environment: setup.environment.clone(),
        redaction: setup.redaction.clone(),
    };
    let facts = ask(dialect, &cli, setup.deadlines.query).await?;
    if facts.version < dialect.oldest() {
        return Err(Error::TooOld {
            backend,
            found: facts.version,
            needed: dialect.oldest(),
        });
    }
    let adaptation = Adaptation::of(&facts, &Host::look(&path));
    Ok(ContainerRuntime::new(
        cli,
        dialect,
        facts,
        adaptation,
        setup.deadlines,
    ))
}

async fn ask(dialect: &dyn Dialect, cli: &Cli, deadline: Duration) -> Result<Facts, Error> {
    let call = Call {
        action: Action::Info,
        args: dialect.info().iter().map(|&arg| arg.to_owned()).collect(),
        stdin: None,
        deadline,
    };
    let stdout = cli.answer(call).await?;
    let reading = dialect
        .read_info(&stdout, &cli.program)
        .map_err(|problem| cli.junk(Action::Info, problem, &stdout))?;
    match reading {
        Reading::Facts(facts) => Ok(facts),
        Reading::NotLocal(place) => Err(Error::NotLocal {
            backend: dialect.backend(),
            place,
        }),
        #[cfg(feature = "backend-docker")]
        Reading::NoDaemon(words) => Err(Error::Unreachable {
            program: cli.name,
            stderr: cli.redaction.apply(&words),
        }),
    }
}

/// Docker's client reaches its daemon through a socket of this machine, unless it is told otherwise.
fn remote_daemon(environment: &Environment) -> Option<String> {
    let mut variables = environment.variables();
    let (_, value) = variables.find(|(name, _)| *name == "DOCKER_HOST")?;
    let host = value.to_string_lossy();
    let scheme = host.split("://").next().unwrap_or_default();
    (scheme != "unix" && !host.is_empty()).then(|| format!("DOCKER_HOST says {scheme}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REQ-CONTAINER-DETECT.
    #[test]
    fn a_daemon_elsewhere_is_told_from_ours() {
        let of = |host: &str| remote_daemon(&Environment::of([("DOCKER_HOST", host)]));
        assert_eq!(of("unix:///run/user/1000/docker.sock"), None);
        assert_eq!(of(""), None);
        assert_eq!(remote_daemon(&Environment::default()), None);
        let remote = of("tcp://user:hunter2@10.0.0.1:2375").unwrap();
        assert_eq!(remote, "DOCKER_HOST says tcp");
    }
}
