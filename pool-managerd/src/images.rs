//! The images that pools run: whether a runtime is there, whether it can give a container its GPUs, and whether it holds the
//! image, which is fetched here. Calls the runtimes' clients; starts no engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api_types::pool::UnreadyCause;
use container_runtime::{
    Backend, CDI_DIRS, ContainerRuntime, DeviceMask, Digest, Finding, LocalImage, Needs, Problem, preflight,
};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::changes::Changes;
use crate::engine::container::{Client, no_runtime, trouble};
use crate::engine::launcher::ContainerPlan;
use crate::facts::EngineIdentity;
use crate::gpu::GpuState;
use crate::source::EngineGate;
use crate::story;
use crate::sweep::Sweeper;
use crate::trouble::Unready;

/// Between two looks at what is well: a new driver, a removed image.
const WELL: Duration = Duration::from_secs(60);

/// Between two looks at what is not: a person who helps sees the pool start soon.
const UNWELL: Duration = Duration::from_secs(5);

/// What is known of a pool's image, always the latest. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WatchedImage {
    plan: Arc<ContainerPlan>,
    state: watch::Receiver<ImageState>,
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundImage {
    /// Whose it is.
    pub backend: Backend,
    /// Its own id, by which it is run.
    pub id: Digest,
    /// By which it is fetched, where the runtime knows that.
    pub digest: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ImageState {
    Unknown,
    Waits(Unready),
    Found(FoundImage),
}

impl WatchedImage {
    /// How it is run.
    #[must_use]
    pub fn plan(&self) -> &ContainerPlan {
        &self.plan
    }

    /// The image.
    ///
    /// # Errors
    /// Why there is none.
    pub fn found(&self) -> Result<FoundImage, Unready> {
        match &*self.state.borrow() {
            ImageState::Found(found) => Ok(found.clone()),
            ImageState::Waits(why) => Err(why.clone()),
            ImageState::Unknown => Err(Unready::of(UnreadyCause::EnginePulling)),
        }
    }

    /// Whether an engine can be started from it.
    #[must_use]
    pub fn gate(&self) -> EngineGate {
        match &*self.state.borrow() {
            ImageState::Unknown => EngineGate::Unknown,
            ImageState::Waits(why) => EngineGate::Closed(why.clone()),
            ImageState::Found(_) => EngineGate::Open,
        }
    }

    /// Which image it is.
    #[must_use]
    pub fn identity(&self) -> Option<EngineIdentity> {
        let id = self.found().ok()?.id;
        let mut bytes = [0; 32];
        hex::decode_to_slice(id.as_str().strip_prefix("sha256:")?, &mut bytes).ok()?;
        Some(EngineIdentity::Image(bytes))
    }

    /// The digest by which it is fetched; without one its own id.
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        let found = self.found().ok()?;
        Some(found.digest.unwrap_or(found.id).to_string())
    }
}

/// Watches images. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Images {
    client: Client,
    sweeper: Sweeper,
    gpus: watch::Receiver<GpuState>,
    changes: Changes,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Images {
    /// Watches until `stop`, in `tasks`.
    #[must_use]
    pub const fn new(
        client: Client,
        sweeper: Sweeper,
        gpus: watch::Receiver<GpuState>,
        changes: Changes,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            client,
            sweeper,
            gpus,
            changes,
            tasks,
            stop,
        }
    }

    /// The image of a plan, for a pool with these GPUs, for as long as the daemon runs.
    #[must_use]
    pub fn watch(&self, plan: Arc<ContainerPlan>, devices: Vec<String>) -> WatchedImage {
        let (state, seen) = watch::channel(ImageState::Unknown);
        let watcher = Watcher {
            images: self.clone(),
            plan: Arc::clone(&plan),
            devices,
            state,
            asked_registry: false,
            warned: Vec::new(),
        };
        self.tasks.spawn(watcher.run());
        WatchedImage { plan, state: seen }
    }
}

struct Watcher {
    images: Images,
    plan: Arc<ContainerPlan>,
    devices: Vec<String>,
    state: watch::Sender<ImageState>,
    /// A tag is looked up once per run of the daemon: an engine that restarts at night is not to become another one.
    asked_registry: bool,
    warned: Vec<String>,
}

impl Watcher {
    async fn run(mut self) {
        let stop = self.images.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = async { loop { self.look_again().await; } } => {}
        }
    }

    async fn look_again(&mut self) {
        let state = match self.look().await {
            Ok(found) => ImageState::Found(found),
            Err(why) => ImageState::Waits(why),
        };
        let pause = match state {
            ImageState::Found(_) => WELL,
            ImageState::Unknown | ImageState::Waits(_) => UNWELL,
        };
        self.publish(state);
        sleep(pause).await;
    }

    fn publish(&self, state: ImageState) {
        let changed = self.state.send_if_modified(|before| {
            let differs = *before != state;
            *before = state;
            differs
        });
        if changed {
            self.images.changes.announce();
        }
    }

    async fn look(&mut self) -> Result<FoundImage, Unready> {
        let needs = self.needs()?;
        let setup = self.images.client.setup(self.plan.choice());
        let before = preflight(&setup, &needs).await;
        let (refusals, warnings): (Vec<_>, Vec<_>) = before
            .findings
            .iter()
            .partition(|finding| finding.severity == container_runtime::Severity::Refusal);
        self.warn(&warnings);
        if let Some(refusal) = refusals.first() {
            return Err(unready(refusal));
        }
        let Some(runtime) = before.runtime else {
            return Err(Unready::of(UnreadyCause::ContainerRuntimeUnavailable));
        };
        self.images.sweeper.swept(&runtime).await?;
        let image = self.image(&runtime).await?;
        Ok(FoundImage {
            backend: runtime.facts().backend,
            id: image.id,
            digest: image.digest,
        })
    }

    fn needs(&self) -> Result<Needs, Unready> {
        let driver = self.images.gpus.borrow().clone();
        let driver = driver
            .ok()
            .map(|inventory| inventory.driver.driver_version.clone());
        let devices = DeviceMask::parse(&self.devices)
            .map_err(|error| Unready::new(UnreadyCause::DeviceMissing, error.to_string()))?;
        let mounts = self.plan.mounts.iter();
        Ok(Needs {
            devices,
            driver,
            port: None,
            paths: mounts.map(|(source, _)| source.as_path().to_owned()).collect(),
            cdi_dirs: CDI_DIRS.map(PathBuf::from).into(),
        })
    }

    /// What is here under that name; else, and once for a tag, what the registry has.
    async fn image(&mut self, runtime: &ContainerRuntime) -> Result<LocalImage, Unready> {
        let reference = &self.plan.image;
        let local = runtime
            .local_image(reference)
            .await
            .map_err(|error| trouble(&error))?;
        let settled = reference.digest().is_some() || self.asked_registry;
        if let (true, Some(image)) = (settled, &local) {
            return Ok(image.clone());
        }
        self.publish(ImageState::Waits(Unready::new(
            UnreadyCause::EnginePulling,
            format!("pulling image {reference}"),
        )));
        story::pulling(&reference.to_string());
        let image = match (runtime.pull(reference).await, local) {
            (Ok(image), _) => image,
            // A registry that cannot be reached does not keep an engine from starting with what is here.
            (Err(error), Some(image)) if error.is_transient() => {
                story::not_pulled(&error);
                image
            }
            (Err(error), _) => return Err(trouble(&error)),
        };
        self.asked_registry = true;
        let warning = image.warning.iter().map(ToString::to_string);
        warning.for_each(|warning| story::container_warning(&warning));
        Ok(image)
    }

    /// Each once, and again when it has been away.
    fn warn(&mut self, findings: &[&Finding]) {
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        for text in texts.iter().filter(|text| !self.warned.contains(text)) {
            story::container_warning(text);
        }
        self.warned = texts;
    }
}

/// A finding that forbids the start, as cause and hint.
fn unready(finding: &Finding) -> Unready {
    let cause = match &finding.problem {
        Problem::NoRuntime(none) => return no_runtime(none),
        Problem::DeviceUnknown { .. } => UnreadyCause::DeviceMissing,
        Problem::DeviceClosed { .. } => UnreadyCause::DriverUnavailable,
        Problem::PortTaken { .. } => UnreadyCause::PortTaken,
        Problem::PathUnreadable { .. } => UnreadyCause::EngineMissing,
        Problem::Rootful(_)
        | Problem::RuncMissing
        | Problem::NoLimits { .. }
        | Problem::ToolkitMissing
        | Problem::ToolkitBroken(_)
        | Problem::ToolkitTooOld(_)
        | Problem::HookMissing
        | Problem::CdiMissing { .. }
        | Problem::CdiUnreadable { .. }
        | Problem::CdiStale { .. }
        | Problem::CdiFileMissing { .. }
        | Problem::FilesHang { .. } => UnreadyCause::ContainerRuntimeUnavailable,
    };
    Unready::new(cause, finding.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REQ-POOL-CONTAINER: what a finding says and what helps are the hint.
    #[test]
    fn a_finding_becomes_a_cause_and_a_hint() {
        let told = |problem: Problem| {
            let finding = Finding {
                severity: container_runtime::Severity::Refusal,
                problem,
            };
            let Unready { cause, hint } = unready(&finding);
            (cause, hint)
        };
        let (cause, hint) = told(Problem::CdiStale {
            path: "/etc/cdi/nvidia.yaml".into(),
            made_for: "570.1".into(),
            driver: "580.2".into(),
        });
        assert_eq!(cause, UnreadyCause::ContainerRuntimeUnavailable);
        assert!(
            hint.contains("580.2 runs; run `nvidia-ctk cdi generate"),
            "{hint}"
        );
        let (cause, hint) = told(Problem::PathUnreadable {
            path: "/data/lora".into(),
            why: "not found".into(),
        });
        assert_eq!(cause, UnreadyCause::EngineMissing);
        assert!(hint.starts_with("/data/lora cannot be read"), "{hint}");
    }
}
