//! From the configuration to the node's pools: resolves paths, makes the watched files, the replicas and
//! their engines' command lines. Starts the actors; decides nothing at run time.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_types::pool::Residency;
use api_types::{ModelChoice, PoolId, ReplicaId};
use config_schema::{Environment, LoadOn, Pool as PoolConfig, PoolManagerd};
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::sync::watch;

use crate::engine::command::{EngineMode, EngineSpec};
use crate::engine::launcher::{Launcher, MIB};
use crate::engine::shim::LogLimits;
use crate::facts::{Location, Role, Shelf};
use crate::images::Images;
use crate::models::{Files, Models, ServedModel};
use crate::pool::{Pool, PoolSpec};
use crate::replica::custody::{Custody, Inheritance, Legacy, NodeCustody, Rest};
use crate::replica::machine::LifePolicy;
use crate::replica::{ReplicaHandle, ReplicaOptions, RestartPolicy, Shared};
use crate::rollout::store::RolloutStore;
use crate::rollout::{Rollout, SideGoal};
use crate::source::EngineSource;
use crate::state_dir::{StateDir, StateDirError};
use crate::story;

/// Variables an engine inherits: where programs and libraries are, where caches may be, and the language.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "LD_LIBRARY_PATH"];

/// The one folder that an engine in a container can write to.
const CONTAINER_HOME: &str = "/tmp";

/// Most bytes kept of each line that `log_lines` allows, on average; single lines may be longer.
const BYTES_PER_LINE: u64 = 512;

/// Makes pools.
pub struct Assembly<'a> {
    config: &'a PoolManagerd,
    environment: &'a Environment,
    state: &'a StateDir,
    shared: &'a Shared,
    files: &'a Files,
    images: &'a Images,
    shelf: Shelf,
    node: NodeCustody,
    inheritance: Inheritance,
    reserved: Arc<BTreeMap<String, u64>>,
    rollouts: RolloutStore,
    actors: Vec<BoxFuture<'static, ()>>,
}

/// A pool, and what is to be recorded of it.
#[derive(Debug)]
pub struct Assembled {
    /// The pool.
    pub pool: Pool,
    /// Which operation is safe, to be told.
    pub recorded: watch::Sender<u64>,
}

/// What all replicas of a pool have in common.
struct Common<'a> {
    config: &'a PoolConfig,
    launcher: Launcher,
    source: EngineSource,
    models: Models,
    /// What each side serves, or is to serve.
    sides: [Option<ModelChoice>; 2],
}

impl<'a> Assembly<'a> {
    /// An assembly of nothing yet.
    ///
    /// # Errors
    /// When the folder of the rollouts cannot be made.
    pub fn new(
        config: &'a PoolManagerd,
        environment: &'a Environment,
        state: &'a StateDir,
        shared: &'a Shared,
        watchers: (&'a Files, &'a Images),
        shelf: Shelf,
        node: NodeCustody,
    ) -> Result<Self, StateDirError> {
        Ok(Self {
            inheritance: Inheritance::new(state.engines(), node.clone()),
            reserved: Arc::new(reserved(config)),
            rollouts: RolloutStore::new(state.rollouts()?),
            node,
            config,
            environment,
            state,
            shared,
            actors: Vec::new(),
            files: watchers.0,
            images: watchers.1,
            shelf,
        })
    }

    /// Where rollouts are recorded.
    #[must_use]
    pub fn rollouts(&self) -> RolloutStore {
        self.rollouts.clone()
    }

    /// Every pool of the configuration. Engines of an earlier run are taken over where they are still wanted; the others
    /// are ended before this returns, so that what they hold is free. What is left of them is told.
    ///
    /// # Errors
    /// When a replica's folder cannot be made.
    pub fn pools(mut self) -> Result<(Vec<Assembled>, Rest), StateDirError> {
        let configured = self.config.pools.iter();
        let pools = configured.map(|pool| self.pool(pool)).collect::<Result<_, _>>()?;
        let rest = self.inheritance.end_the_rest();
        for trouble in &rest.troubles {
            story::left_behind(trouble);
        }
        // Not before: the shim by which an actor holds a container again would be one of nobody's.
        for actor in self.actors {
            self.shared.tasks.spawn(actor);
        }
        Ok((pools, rest))
    }

    fn source(&self, launcher: &Launcher, config: &PoolConfig) -> EngineSource {
        match launcher {
            Launcher::Program(program) => {
                let search_path = self.environment.get("PATH").unwrap_or_default();
                let location = Location::in_search_path(program, search_path);
                EngineSource::File(self.files.watch(location, Role::Engine))
            }
            Launcher::Container(plan) => {
                EngineSource::Image(self.images.watch(Arc::clone(plan), devices(config)))
            }
        }
    }

    fn pool(&mut self, config: &PoolConfig) -> Result<Assembled, StateDirError> {
        let launcher = Launcher::of(config.launcher());
        let source = self.source(&launcher, config);
        let models = Models::new(
            config,
            self.files,
            &self.state.models(),
            &self.config.model_dirs,
            &self.shelf,
        );
        let rollout = self.rollout(&config.id, &models, config.load_on == LoadOn::Start);
        let common = Common {
            config,
            launcher,
            source: source.clone(),
            models: models.clone(),
            sides: rollout.goals().map(|goal: SideGoal| goal.model().cloned()),
        };
        let [a, b] = [0, 1].map(|side| self.side(&common, side));
        let (recorded, told) = watch::channel(rollout.generation());
        let pool = Pool {
            spec: spec(config, &self.reserved),
            models,
            source,
            sides: [a?, b?],
            rollout: watch::Sender::new(rollout),
            recorded: told,
        };
        Ok(Assembled { pool, recorded })
    }

    /// What the pool shall serve: what an earlier run has recorded, else what the configuration says.
    fn rollout(&self, pool: &PoolId, models: &Models, loaded: bool) -> Rollout {
        let recorded = self.rollouts.load(pool).unwrap_or_else(|error| {
            story::rollout_lost(pool, &error);
            None
        });
        Rollout::new(models.first().clone(), loaded).resumed(recorded)
    }

    fn side(&mut self, common: &Common<'_>, side: usize) -> Result<Vec<ReplicaHandle>, StateDirError> {
        let count = common.config.replicas.get_u32();
        let first = if side == 0 { 0 } else { count };
        let model = common.sides[side]
            .as_ref()
            .map(|choice| common.models.get(choice));
        (first..first + count)
            .map(|index| self.replica(common, index, model.clone()))
            .collect()
    }

    fn replica(
        &mut self,
        common: &Common<'_>,
        index: u32,
        model: Option<Arc<ServedModel>>,
    ) -> Result<ReplicaHandle, StateDirError> {
        let (id, config) = (replica_id(index), common.config);
        let custody = Arc::new(Custody {
            pool: config.id.clone(),
            replica: id.clone(),
            dir: self.state.engine_dir(&config.id, &id)?,
            secrets: config.env.values().cloned().collect(),
            log: LogLimits {
                file_bytes: self.config.log_lines.get() as u64 * BYTES_PER_LINE,
            },
            log_lines: self.config.log_lines.get(),
            grace: config.stop_grace_ms.duration(),
            node: self.node.clone(),
        });
        let mut options = ReplicaOptions {
            legacy: Legacy::Nothing,
            legacy_model: model,
            custody,
            pool: config.id.clone(),
            id,
            engine_kind: config.engine,
            engine: self.engine(config, &common.launcher),
            launcher: common.launcher.clone(),
            source: common.source.clone(),
            life: life(config),
            health_interval: config.health_interval_ms.duration(),
            watchdog: config.watchdog_ms.duration(),
        };
        let wanted = options.legacy_model.as_ref();
        let wanted = wanted.map(|model| options.fingerprint(&model.choice));
        options.legacy = self.inheritance.take(&options.custody, wanted.as_deref());
        let (replica, actor) = ReplicaHandle::new(options, self.shared.clone());
        self.actors.push(actor);
        Ok(replica)
    }

    fn engine(&self, config: &PoolConfig, launcher: &Launcher) -> EngineSpec {
        EngineSpec {
            devices: devices(config),
            mode: EngineMode::of(&config.workloads),
            slots: config.slots.get_u32(),
            ctx: config.ctx.get_u32(),
            extra_args: config.args.clone(),
            env: self.engine_environment(config, launcher),
        }
    }

    /// The variables of its surroundings that the pool does not set itself, then the pool's.
    fn engine_environment(&self, config: &PoolConfig, launcher: &Launcher) -> Vec<(String, SecretString)> {
        let around: Vec<(&str, &str)> = match launcher {
            Launcher::Program(_) => INHERITED
                .iter()
                .filter_map(|name| Some((*name, self.environment.get(name)?)))
                .collect(),
            // This machine's folders are not the image's.
            Launcher::Container(_) => vec![("HOME", CONTAINER_HOME)],
        };
        let inherited = around
            .into_iter()
            .filter(|(name, _)| !config.env.contains_key(*name))
            .map(|(name, value)| (name.to_owned(), SecretString::from(value)));
        let own = config
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        inherited.chain(own).collect()
    }
}

#[expect(clippy::expect_used, reason = "an id made of a letter and digits")]
fn replica_id(index: u32) -> ReplicaId {
    ReplicaId::new(&format!("r{index}")).expect("letters and digits are an id")
}

fn devices(config: &PoolConfig) -> Vec<String> {
    config
        .devices
        .iter()
        .map(|uuid| uuid.as_str().to_owned())
        .collect()
}

/// Bytes to be left free, by GPU.
fn reserved(config: &PoolManagerd) -> BTreeMap<String, u64> {
    let each = config.gpus.iter();
    each.map(|gpu| (gpu.uuid.as_str().to_owned(), gpu.keep_free_mib.get() as u64 * MIB))
        .collect()
}

fn spec(config: &PoolConfig, reserved: &Arc<BTreeMap<String, u64>>) -> PoolSpec {
    PoolSpec {
        id: config.id.clone(),
        engine: config.engine,
        devices: devices(config),
        reserved: Arc::clone(reserved),
        workloads: config.workloads.clone(),
        ctx: config.ctx.get_u32(),
        deterministic: is_deterministic(config),
        patience: config.load_timeout_ms.duration(),
        retry_after: config.restart.window_ms.duration(),
        residency: Residency {
            idle_unload_ms: config.idle_unload_ms.map(|ms| ms.ms()),
            pinned: config.pinned,
            priority: config.priority.get_u32(),
        },
    }
}

/// One slot, and no argument that could change how batches are formed or tokens drafted: several slots change
/// the shape of batches, and with it the last bits of the sums, depending on what the neighbours do.
fn is_deterministic(config: &PoolConfig) -> bool {
    config.slots.get() == 1 && config.args.is_empty()
}

fn life(config: &PoolConfig) -> LifePolicy {
    LifePolicy {
        load_deadline: config.load_timeout_ms.duration(),
        restart: RestartPolicy {
            initial: config.restart.initial_ms.duration(),
            max: config.restart.max_ms.duration(),
            budget: config.restart.budget.get_u32(),
            window: config.restart.window_ms.duration(),
        },
    }
}
