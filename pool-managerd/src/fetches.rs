//! Models that are fetched: whether the catalog has one and, where it does not, the way into it. Hubs, stores and registries
//! are asked by way of the model provisioner, as far as `[catalog]` allows; nothing is fetched before a pool wants it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api_types::model_ref::ModelRefKind;
use api_types::pool::ModelFetch;
use api_types::{Lifecycle, ModelRef};
use catalog_core::{Catalog, CatalogError};
use model_provisioner::{Notice, Progress, ProvisionError, Provisioner, Reporter};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::changes::Changes;
use crate::story;
use crate::trouble::chain;

/// Between two looks into the catalog: what a person adds or removes there shows within this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// First pause after a failure; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// Longest pause after a failure.
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// Fetches models. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetches {
    provisioner: Provisioner,
    changes: Changes,
    tasks: TaskTracker,
    /// One download of a model, however many pools name it.
    known: Arc<Mutex<Vec<Fetched>>>,
}

/// A model that is fetched, and what is known of it now. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetched {
    reference: ModelRef,
    state: watch::Receiver<FetchState>,
    wish: Arc<Wish>,
}

impl PartialEq for Fetched {
    fn eq(&self, other: &Self) -> bool {
        self.reference == other.reference
    }
}

impl Eq for Fetched {}

/// Whether a pool wants it.
#[derive(Debug, Default)]
struct Wish {
    wanted: AtomicBool,
    told: Notify,
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchState {
    /// Not looked at yet.
    Unknown,
    /// Not here, and nobody wants it.
    Absent,
    /// On its way.
    Coming(ModelFetch),
    /// It does not come; says why. It is tried again.
    Failed(String),
    /// Here: the file that an engine is given.
    Here(PathBuf),
}

impl Fetched {
    /// What is known.
    #[must_use]
    pub fn state(&self) -> FetchState {
        self.state.borrow().clone()
    }

    /// How far it is, while it is on its way.
    #[must_use]
    pub fn progress(&self) -> Option<ModelFetch> {
        match &*self.state.borrow() {
            FetchState::Coming(fetch) => Some(*fetch),
            _ => None,
        }
    }

    /// A pool is to serve it.
    pub fn want(&self) {
        if !self.wish.wanted.swap(true, Ordering::AcqRel) {
            self.wish.told.notify_one();
        }
    }
}

impl Fetches {
    /// Fetches into the catalog of this provisioner, in `tasks`.
    #[must_use]
    pub fn new(provisioner: Provisioner, changes: Changes, tasks: TaskTracker) -> Self {
        Self {
            provisioner,
            changes,
            tasks,
            known: Arc::default(),
        }
    }

    /// The model of a reference, looked after until `stop`.
    #[must_use]
    pub fn of(&self, reference: &ModelRef, stop: CancellationToken) -> Fetched {
        // No code under the lock panics or waits.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Whose watcher has ended says no more.
        known.retain(|fetched| fetched.state.has_changed().is_ok());
        if let Some(same) = known.iter().find(|fetched| fetched.reference == *reference) {
            return same.clone();
        }
        let (state, seen) = watch::channel(FetchState::Unknown);
        let fetched = Fetched {
            reference: reference.clone(),
            state: seen,
            wish: Arc::default(),
        };
        let keeper = Keeper {
            provisioner: self.provisioner.clone(),
            reference: reference.clone(),
            wish: Arc::clone(&fetched.wish),
            teller: Teller {
                state: Arc::new(state),
                changes: self.changes.clone(),
            },
            stop,
        };
        self.tasks.spawn(keeper.run());
        known.push(fetched.clone());
        fetched
    }
}

/// Looks after one model.
struct Keeper {
    provisioner: Provisioner,
    reference: ModelRef,
    wish: Arc<Wish>,
    teller: Teller,
    stop: CancellationToken,
}

/// Tells what becomes of it.
#[derive(Clone)]
struct Teller {
    state: Arc<watch::Sender<FetchState>>,
    changes: Changes,
}

impl Teller {
    fn tell(&self, state: FetchState) {
        let changed = self.state.send_if_modified(|before| {
            let differs = *before != state;
            *before = state;
            differs
        });
        if changed {
            self.changes.announce();
        }
    }
}

impl Reporter for Teller {
    fn notice(&self, notice: Notice) {
        if let Notice::Progress(progress) = notice {
            self.tell(FetchState::Coming(fetch(&progress)));
        }
    }
}

fn fetch(progress: &Progress) -> ModelFetch {
    ModelFetch {
        bytes: progress.done,
        total_bytes: progress.total,
        eta_ms: progress.eta.map(|eta| eta.as_millis() as u64),
    }
}

impl Keeper {
    async fn run(self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.look_after() => {}
        }
    }

    async fn look_after(&self) {
        let mut pause = FIRST_PAUSE;
        let mut not_before = Instant::now();
        loop {
            match self.look().await {
                Ok(Some(path)) => {
                    self.teller.tell(FetchState::Here(path));
                    pause = FIRST_PAUSE;
                }
                Ok(None) if is_name(&self.reference) => {
                    let name = &self.reference;
                    self.teller.tell(FetchState::Failed(format!(
                        "no model of the catalog is called {name} (llama-orch models list)"
                    )));
                }
                // Why is told already.
                Ok(None) if Instant::now() < not_before => {}
                Ok(None) if self.wish.wanted.swap(false, Ordering::AcqRel) => {
                    if let Err(error) = self.fetch().await {
                        not_before = Instant::now() + asked_for(&error).max(pause);
                        pause = (pause * 2).min(LAST_PAUSE);
                        self.fail(chain(&error));
                    } else {
                        continue;
                    }
                }
                Ok(None) => self.teller.tell(FetchState::Absent),
                Err(why) => self.fail(why),
            }
            // A wish is heard at once; what somebody else adds or removes shows within the interval.
            let _wished_or_due = timeout(LOOK_INTERVAL, self.wish.told.notified()).await;
        }
    }

    /// Where the catalog has it, if it has.
    async fn look(&self) -> Result<Option<PathBuf>, String> {
        let (catalog, reference) = (Arc::clone(self.provisioner.catalog()), self.reference.clone());
        let looking = spawn_blocking(move || locate(&catalog, &reference));
        looking
            .await
            .unwrap_or_else(|error| Err(format!("the look into the catalog failed: {error}")))
    }

    async fn fetch(&self) -> Result<(), ProvisionError> {
        self.teller.tell(FetchState::Coming(ModelFetch::default()));
        let plan = self
            .provisioner
            .plan(&self.reference, None, None, &self.stop)
            .await?;
        story::fetching(&self.reference, &plan.id, plan.download_bytes);
        let reporter = Arc::new(self.teller.clone());
        let entry = self.provisioner.execute(&plan, reporter, &self.stop).await?;
        story::fetched(&self.reference, &entry.id);
        Ok(())
    }

    fn fail(&self, why: String) {
        let state = FetchState::Failed(why);
        if *self.teller.state.borrow() != state
            && let FetchState::Failed(why) = &state
        {
            story::not_fetched(&self.reference, why);
        }
        self.teller.tell(state);
    }
}

fn unreadable(error: &CatalogError) -> String {
    format!("the catalog cannot be read: {}", chain(error))
}

/// How long the source wants to be left alone.
fn asked_for(error: &ProvisionError) -> Duration {
    match error {
        ProvisionError::RateLimited { retry_after, .. } => retry_after.unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// Names a model of the catalog; there is nowhere to fetch it from.
fn is_name(reference: &ModelRef) -> bool {
    reference.kind() == ModelRefKind::Catalog
}

fn locate(catalog: &Catalog, reference: &ModelRef) -> Result<Option<PathBuf>, String> {
    let Some(located) = catalog.locate(reference).map_err(|error| unreadable(&error))? else {
        return Ok(None);
    };
    let id = &located.entry.id;
    if located.entry.state == Lifecycle::Retired {
        return Err(format!(
            "{id} is retired: `llama-orch models activate {id}` lets it be used again"
        ));
    }
    if let Some(missing) = located.missing.first() {
        return Err(format!(
            "{missing} of {id} is not there with its size: `llama-orch models verify {id}` tells more"
        ));
    }
    Ok(located.paths.into_iter().next())
}
