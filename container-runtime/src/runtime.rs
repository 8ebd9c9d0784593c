//! A runtime that was found, and everything that is asked of it. Each call is one run of its client, with a deadline;
//! nothing is kept between calls.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api_types::container::ImageRef;

use crate::cli::{Call, Cli};
use crate::container::{Container, ContainerId, Ending, State, inspected, listed};
use crate::detect::Deadlines;
use crate::dialect::{self, Dialect};
use crate::error::{Action, Cause, Error};
use crate::facts::Facts;
use crate::host::Adaptation;
use crate::image::{self, Inspected, LocalImage};
use crate::logs::{Logs, Since};
use crate::owner::{self, Home, Owner};
use crate::spec::ContainerSpec;

mod exit;

/// A handle; clones are the same runtime.
#[derive(Debug, Clone)]
pub struct ContainerRuntime {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cli: Cli,
    dialect: &'static dyn Dialect,
    facts: Facts,
    adaptation: Adaptation,
    deadlines: Deadlines,
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Containers that are gone.
    pub removed: Vec<Container>,
    /// Containers that could not be removed, and why.
    pub left: Vec<(Container, Error)>,
}

impl ContainerRuntime {
    pub(crate) fn new(
        cli: Cli,
        dialect: &'static dyn Dialect,
        facts: Facts,
        adaptation: Adaptation,
        deadlines: Deadlines,
    ) -> Self {
        let shared = Shared {
            cli,
            dialect,
            facts,
            adaptation,
            deadlines,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What the runtime said of itself when it was found.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.shared.facts
    }

    /// What this machine makes necessary on its command line.
    #[must_use]
    pub fn adaptation(&self) -> &Adaptation {
        &self.shared.adaptation
    }

    pub(crate) fn cli(&self) -> &Cli {
        &self.shared.cli
    }

    pub(crate) fn query_deadline(&self) -> Duration {
        self.shared.deadlines.query
    }

    /// The image, fetched only if it is named by a digest that is not here yet, or by a tag, which may have moved.
    ///
    /// # Errors
    /// Those of [`ContainerRuntime::pull`].
    pub async fn ensure_image(&self, reference: &ImageRef) -> Result<LocalImage, Error> {
        if reference.digest().is_some()
            && let Some(image) = self.local_image(reference).await?
        {
            return Ok(image);
        }
        self.pull(reference).await
    }

    /// The image, if it is on this machine and is what its reference says.
    ///
    /// # Errors
    /// The runtime fails, or holds something else under this name.
    pub async fn local_image(&self, reference: &ImageRef) -> Result<Option<LocalImage>, Error> {
        let action = Action::InspectImage;
        let args = ["image", "inspect", &reference.asked()].map(str::to_owned);
        let stdout = match self.query(action, args.into()).await {
            Err(error) if error.cause() == Some(Cause::ImageUnknown) => return Ok(None),
            answer => answer?,
        };
        let found = image::inspected(reference, &stdout)
            .map_err(|problem| self.shared.cli.junk(action, problem, &stdout))?;
        match found {
            Inspected::Is(image) => Ok(Some(image)),
            Inspected::IsNot(found) => Err(Error::DigestMismatch {
                image: reference.to_string(),
                found,
            }),
        }
    }

    /// Fetches the image, then looks whether it is what was asked for.
    ///
    /// # Errors
    /// The registry does not have it, cannot be reached or refuses; what came has another digest; the runtime fails.
    pub async fn pull(&self, reference: &ImageRef) -> Result<LocalImage, Error> {
        let args = self.line(["pull", "--quiet", &reference.asked()]);
        let deadline = self.shared.deadlines.pull;
        let stdout = self.call(Action::Pull, args, deadline).await?;
        let pulled = self.local_image(reference).await?;
        pulled.ok_or_else(|| {
            let problem = "the image is not there after the pull";
            self.shared.cli.junk(Action::Pull, problem, &stdout)
        })
    }

    /// Creates and starts a container. When this fails nothing of it is left; when nobody waits for the answer any more,
    /// the container may be there, and a sweep finds it.
    ///
    /// # Errors
    /// The runtime refuses or hangs; a container of the same owner is there.
    pub async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId, Error> {
        let shared = &self.shared;
        let call = Call {
            action: Action::Run,
            args: dialect::run(shared.dialect, &shared.facts, &shared.adaptation, spec),
            stdin: Some(spec.environment.file()),
            deadline: shared.deadlines.change,
        };
        let cli = Cli {
            redaction: shared.cli.redaction.with(spec.environment.values()),
            ..shared.cli.clone()
        };
        match self.started(&cli, call).await {
            Err(error) if error.cause() != Some(Cause::NameTaken) => {
                // The first error is the one that tells; a remainder that cannot be removed is the next sweep's.
                let _removed_or_swept = self.remove_named(&spec.owner.container_name()).await;
                Err(error)
            }
            other => other,
        }
    }

    async fn started(&self, cli: &Cli, call: Call) -> Result<ContainerId, Error> {
        let stdout = cli.answer(call).await?;
        let text = std::str::from_utf8(&stdout).unwrap_or_default();
        let last = text.lines().next_back().unwrap_or_default().trim();
        ContainerId::parse(last).ok_or_else(|| cli.junk(Action::Run, "no container id", &stdout))
    }

    /// Looks at a container; `None` if there is no such one.
    ///
    /// # Errors
    /// The runtime fails.
    pub async fn inspect(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        let action = Action::Inspect;
        let args = ["container", "inspect", id.as_str()].map(str::to_owned);
        let stdout = match self.query(action, args.into()).await {
            Err(error) if error.cause() == Some(Cause::NoSuchContainer) => return Ok(None),
            answer => answer?,
        };
        let container =
            inspected(&stdout).map_err(|problem| self.shared.cli.junk(action, problem, &stdout))?;
        Ok(Some(container))
    }

    /// Waits for the end of a container's program, without asking the runtime meanwhile; `None` if the container is gone.
    /// Cancel safe.
    ///
    /// # Errors
    /// The runtime fails, or its containers' processes cannot be seen from here.
    pub async fn wait(&self, id: &ContainerId) -> Result<Option<Ending>, Error> {
        exit::wait(self, id).await
    }

    /// Asks a container's program to end, and ends it after `grace`; how it ended, or `None` if the container is gone.
    ///
    /// # Errors
    /// The runtime fails, or hangs also when it is told to kill.
    pub async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<Option<State>, Error> {
        // Both count whole seconds; half a second is not none.
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let args = self.line(["stop", "-t", &seconds.to_string(), id.as_str()]);
        let deadline = grace.saturating_add(self.shared.deadlines.change);
        match self.call(Action::Stop, args, deadline).await {
            Ok(_id) => {}
            Err(error) if is_over(&error) => {}
            Err(Error::TimedOut { .. }) => self.kill(id).await?,
            Err(error) => return Err(error),
        }
        Ok(self.inspect(id).await?.map(|container| container.state))
    }

    /// Ends a container's program at once. One that has ended already is no error.
    ///
    /// # Errors
    /// The runtime fails.
    pub async fn kill(&self, id: &ContainerId) -> Result<(), Error> {
        let args = self.line(["kill", "--signal", "KILL", id.as_str()]);
        over_or_done(self.call(Action::Kill, args, self.shared.deadlines.change).await)
    }

    /// Ends and removes a container with its anonymous volumes. One that is gone already is no error.
    ///
    /// # Errors
    /// The runtime fails.
    pub async fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        self.remove_named(id.as_str()).await
    }

    /// Ends and removes the container of an owner, whatever its id is. That there is none is no error.
    ///
    /// # Errors
    /// The runtime fails.
    pub async fn remove_of(&self, owner: &Owner) -> Result<(), Error> {
        self.remove_named(&owner.container_name()).await
    }

    async fn remove_named(&self, name: &str) -> Result<(), Error> {
        let mut args = self.line([]);
        args.extend(self.shared.dialect.remove().iter().map(|&arg| arg.to_owned()));
        args.push(name.to_owned());
        over_or_done(
            self.call(Action::Remove, args, self.shared.deadlines.change)
                .await,
        )
    }

    /// What a container writes until its program ends; `None` if the container is gone. Between the two streams the order
    /// is not kept.
    ///
    /// # Errors
    /// The runtime fails.
    pub async fn logs(&self, id: &ContainerId, since: Since) -> Result<Option<Logs>, Error> {
        if self.inspect(id).await?.is_none() {
            return Ok(None);
        }
        let mut args = self.line(["logs", "--follow"]);
        if since == Since::Now {
            args.extend(["--tail", "0"].map(str::to_owned));
        }
        args.push(id.to_string());
        Logs::start(&self.shared.cli, &args).map(Some)
    }

    /// All containers of a manager, whatever they do.
    ///
    /// # Errors
    /// The runtime fails.
    pub async fn list(&self, home: &Home) -> Result<Vec<Container>, Error> {
        let filter = format!("label={}={home}", owner::HOME);
        let args = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter].map(str::to_owned);
        let stdout = self.query(Action::List, args.into()).await?;
        let ids = listed(&stdout).map_err(|problem| self.shared.cli.junk(Action::List, problem, &stdout))?;
        let mut containers = Vec::new();
        for id in &ids {
            containers.extend(self.inspect(id).await?);
        }
        Ok(containers)
    }

    /// Removes every container of a manager whose owner is not to be kept. The caller has no start in flight whose owner is
    /// not among `keep`.
    ///
    /// # Errors
    /// The runtime cannot list them; what cannot be removed is in the answer.
    pub async fn sweep(&self, home: &Home, keep: &BTreeSet<Owner>) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        for container in self.list(home).await? {
            if container.owner.as_ref().is_some_and(|owner| keep.contains(owner)) {
                continue;
            }
            match self.remove(&container.id).await {
                Ok(()) => swept.removed.push(container),
                Err(error) => swept.left.push((container, error)),
            }
        }
        Ok(swept)
    }

    async fn query(&self, action: Action, args: Vec<String>) -> Result<Vec<u8>, Error> {
        let mut line = self.line([]);
        line.extend(args);
        self.call(action, line, self.shared.deadlines.query).await
    }

    async fn call(&self, action: Action, args: Vec<String>, deadline: Duration) -> Result<Vec<u8>, Error> {
        let call = Call {
            action,
            args,
            stdin: None,
            deadline,
        };
        self.shared.cli.answer(call).await
    }

    /// A command line with what stands before every command.
    fn line<const N: usize>(&self, args: [&str; N]) -> Vec<String> {
        let mut line = self.shared.dialect.before(&self.shared.adaptation);
        line.extend(args.map(str::to_owned));
        line
    }
}

/// Whether what was to be ended or removed has ended or gone by itself.
fn is_over(error: &Error) -> bool {
    matches!(
        error.cause(),
        Some(Cause::NoSuchContainer | Cause::NotRunning | Cause::RemovalInProgress)
    )
}

fn over_or_done(answer: Result<Vec<u8>, Error>) -> Result<(), Error> {
    match answer {
        Err(error) if !is_over(&error) => Err(error),
        _ => Ok(()),
    }
}
