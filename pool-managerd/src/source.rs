//! What a pool's engines are started from: a program's file, or an image, each with what is known of it now. The gates, the
//! reports and the starts ask here, and need not know which of the two it is.

use std::path::PathBuf;

use api_types::pool::UnreadyCause;

use crate::engine::container::ContainerRun;
use crate::engine::launcher::model_mounts;
use crate::facts::{EngineIdentity, Presence, WatchedFile};
use crate::images::WatchedImage;
use crate::replica::custody::Vessel;
use crate::trouble::Unready;

/// Where the engine listens inside its container; the loopback reaches it by another port.
pub const CONTAINER_PORT: u16 = 8080;

/// What engines are started from. Cheap to clone.
#[derive(Debug, Clone)]
pub enum EngineSource {
    /// A program of this machine.
    File(WatchedFile),
    /// An image.
    Image(WatchedImage),
}

/// Whether an engine can be started from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineGate {
    /// Not looked at yet.
    Unknown,
    /// It cannot; says why and what helps, or what is being waited for.
    Closed(Unready),
    /// It can.
    Open,
}

impl EngineSource {
    /// Whether an engine can be started.
    #[must_use]
    pub fn gate(&self) -> EngineGate {
        match self {
            Self::File(file) => of_presence(&file.presence()),
            Self::Image(image) => image.gate(),
        }
    }

    /// Which engine would be started now.
    #[must_use]
    pub fn identity(&self) -> Option<EngineIdentity> {
        match self {
            Self::File(file) => file.identity().map(EngineIdentity::File),
            Self::Image(image) => image.identity(),
        }
    }

    /// `sha256:…` of an engine, once known: of a program's file, or the digest by which an image is fetched.
    #[must_use]
    pub fn digest_of(&self, engine: EngineIdentity) -> Option<String> {
        match (self, engine) {
            (Self::File(file), EngineIdentity::File(identity)) => file.digest_of(identity),
            (Self::Image(image), EngineIdentity::Image(_)) if image.identity() == Some(engine) => {
                image.digest()
            }
            _ => None,
        }
    }

    /// What a start with this model and port runs. What has vanished since the goal was set makes the start fail, with its
    /// name.
    ///
    /// # Errors
    /// The model's path cannot be mounted, or there is no image.
    pub fn vessel(
        &self,
        model: PathBuf,
        port: u16,
        devices: &[String],
    ) -> Result<(Vessel, PathBuf), Unready> {
        let image = match self {
            Self::File(file) => return Ok((Vessel::Program(file.path().unwrap_or_default()), model)),
            Self::Image(image) => image,
        };
        let found = image.found()?;
        let cannot = |error| {
            let hint = format!("the model cannot be mounted into a container: {error}");
            Unready::new(UnreadyCause::ModelMissing, hint)
        };
        let models = model_mounts(&model).map_err(cannot)?;
        let inside = models[0].1.as_path().to_owned();
        let plan = image.plan();
        let run = ContainerRun {
            image: plan.image.clone(),
            image_id: found.id.to_string(),
            entrypoint: plan.entrypoint.clone(),
            devices: devices.to_vec(),
            mounts: models.into_iter().chain(plan.mounts.iter().cloned()).collect(),
            limits: plan.limits,
            host_port: port,
            container_port: CONTAINER_PORT,
        };
        Ok((Vessel::Container(found.backend, run), inside))
    }
}

fn of_presence(presence: &Presence) -> EngineGate {
    match presence {
        Presence::Unknown | Presence::Coming(_) => EngineGate::Unknown,
        Presence::Present { .. } => EngineGate::Open,
        Presence::Missing(why) => EngineGate::Closed(Unready::new(
            UnreadyCause::EngineMissing,
            format!("{why}; install the engine, or set the pool's binary"),
        )),
    }
}
