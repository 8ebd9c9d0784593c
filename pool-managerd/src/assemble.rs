//! From the configuration to the node's pools: resolves paths, makes the watched files, the replicas and
//! their engines' command lines. Starts the actors; decides nothing at run time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use api_types::ReplicaId;
use api_types::model_ref::{ModelRef, ModelRefKind};
use config_schema::{Environment, Pool as PoolConfig, PoolManagerd};
use secrecy::SecretString;

use crate::engine::command::{EngineMode, EngineSpec, fingerprint};
use crate::engine::shim::LogLimits;
use crate::facts::{FileWatcher, Location, Role, WatchedFile};
use crate::pool::{Pool, PoolSpec};
use crate::replica::custody::{Custody, Inheritance, NodeCustody};
use crate::replica::machine::LifePolicy;
use crate::replica::{ReplicaHandle, ReplicaOptions, RestartPolicy, Shared};
use crate::state_dir::{StateDir, StateDirError};
use crate::story;

/// Variables an engine inherits: where programs and libraries are, where caches may be, and the language.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "LD_LIBRARY_PATH"];

/// Most bytes kept of each line that `log_lines` allows, on average; single lines may be longer.
const BYTES_PER_LINE: u64 = 512;

/// Makes pools, and the watchers of their files on the side.
#[derive(Debug)]
pub struct Assembly<'a> {
    config: &'a PoolManagerd,
    environment: &'a Environment,
    state: &'a StateDir,
    shared: &'a Shared,
    node: NodeCustody,
    inheritance: Inheritance,
    reserved: Arc<BTreeMap<String, u64>>,
    files: Vec<(Location, Role, WatchedFile)>,
    watchers: Vec<FileWatcher>,
}

impl<'a> Assembly<'a> {
    /// An assembly of nothing yet.
    #[must_use]
    pub fn new(
        config: &'a PoolManagerd,
        environment: &'a Environment,
        state: &'a StateDir,
        shared: &'a Shared,
        node: NodeCustody,
    ) -> Self {
        Self {
            inheritance: Inheritance::new(state.engines(), node.clone()),
            reserved: Arc::new(reserved(config)),
            node,
            config,
            environment,
            state,
            shared,
            files: Vec::new(),
            watchers: Vec::new(),
        }
    }

    /// Every pool of the configuration, and the watchers to run. Engines of an earlier run are taken over where they
    /// are still wanted; the others are ended before this returns, so that what they hold is free.
    ///
    /// # Errors
    /// When a replica's folder cannot be made.
    pub fn pools(mut self) -> Result<(Vec<Pool>, Vec<FileWatcher>), StateDirError> {
        let configured = self.config.pools.iter();
        let pools = configured.map(|pool| self.pool(pool)).collect::<Result<_, _>>()?;
        for trouble in self.inheritance.end_the_rest() {
            story::left_behind(&trouble);
        }
        Ok((pools, self.watchers))
    }

    fn pool(&mut self, config: &PoolConfig) -> Result<Pool, StateDirError> {
        let search_path = self.environment.get("PATH").unwrap_or_default();
        let binary = Location::in_search_path(&config.binary, search_path);
        let binary = self.watched(binary, Role::Engine);
        let model = self.watched(model_location(&config.model, &self.state.models()), Role::Model);
        let replicas = (0..config.replicas.get_u32())
            .map(|index| self.replica(config, index, &binary, &model))
            .collect::<Result<_, _>>()?;
        Ok(Pool {
            spec: spec(config, &self.reserved),
            model,
            binary,
            replicas,
        })
    }

    /// Pools that share a file share its watcher.
    fn watched(&mut self, location: Location, role: Role) -> WatchedFile {
        let known = self
            .files
            .iter()
            .find(|(at, of, _)| *at == location && *of == role);
        if let Some((_, _, file)) = known {
            return file.clone();
        }
        let (watcher, file) = FileWatcher::new(location.clone(), role);
        self.watchers.push(watcher);
        self.files.push((location, role, file.clone()));
        file
    }

    fn replica(
        &mut self,
        config: &PoolConfig,
        index: u32,
        binary: &WatchedFile,
        model: &WatchedFile,
    ) -> Result<ReplicaHandle, StateDirError> {
        let id = replica_id(index);
        let engine = self.engine(config);
        let custody = Arc::new(Custody {
            dir: self.state.engine_dir(&config.id, &id)?,
            fingerprint: fingerprint(&engine, &config.binary, config.model.as_str()),
            secrets: config.env.values().cloned().collect(),
            log: LogLimits {
                file_bytes: self.config.log_lines.get() as u64 * BYTES_PER_LINE,
            },
            log_lines: self.config.log_lines.get(),
            grace: config.stop_grace_ms.duration(),
            node: self.node.clone(),
        });
        let options = ReplicaOptions {
            legacy: self.inheritance.take(&custody),
            custody,
            pool: config.id.clone(),
            id,
            engine_kind: config.engine,
            model: config.model_id.clone(),
            engine,
            binary: binary.clone(),
            model_file: model.clone(),
            life: life(config),
            health_interval: config.health_interval_ms.duration(),
            watchdog: config.watchdog_ms.duration(),
        };
        Ok(ReplicaHandle::spawn(options, self.shared.clone()))
    }

    fn engine(&self, config: &PoolConfig) -> EngineSpec {
        EngineSpec {
            alias: config.model_id.to_string(),
            devices: devices(config),
            mode: EngineMode::of(&config.workloads),
            slots: config.slots.get_u32(),
            ctx: config.ctx.get_u32(),
            extra_args: config.args.clone(),
            env: self.engine_environment(config),
        }
    }

    /// The inherited variables that the pool does not set itself, then the pool's.
    fn engine_environment(&self, config: &PoolConfig) -> Vec<(String, SecretString)> {
        let inherited = INHERITED.iter().filter(|name| !config.env.contains_key(**name));
        let inherited = inherited.filter_map(|name| {
            let value = self.environment.get(name)?;
            Some(((*name).to_owned(), SecretString::from(value)))
        });
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

const MIB: u64 = 1 << 20;

fn spec(config: &PoolConfig, reserved: &Arc<BTreeMap<String, u64>>) -> PoolSpec {
    PoolSpec {
        id: config.id.clone(),
        engine: config.engine,
        model_id: config.model_id.clone(),
        model_ref: config.model.clone(),
        model_sha256: config.model_sha256.as_ref().map(ToString::to_string),
        devices: devices(config),
        reserved: Arc::clone(reserved),
        workloads: config.workloads.clone(),
        ctx: config.ctx.get_u32(),
        deterministic: is_deterministic(config),
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

fn model_location(model: &ModelRef, root: &std::path::Path) -> Location {
    match model.kind() {
        ModelRefKind::File => Location::Path(PathBuf::from(model.file_path().unwrap_or_default())),
        // Neither can leave the root: references have no `..`, no leading slash and no backslash.
        ModelRefKind::Relative | ModelRefKind::Catalog => Location::Path(root.join(model.as_str())),
        ModelRefKind::Hub | ModelRefKind::Https | ModelRefKind::S3 | ModelRefKind::Oci => {
            Location::Unsupported(format!(
                "{} must be fetched first: pool-managerd loads files of this node (file:/absolute/path)",
                model.as_str()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn location(text: &str) -> Location {
        model_location(&text.parse().unwrap(), Path::new("/state/models"))
    }

    #[test]
    fn models_are_files_of_this_node() {
        let path = |text: &str| Location::Path(PathBuf::from(text));
        assert_eq!(location("file:/data/m.gguf"), path("/data/m.gguf"));
        assert_eq!(location("qwen/m.gguf"), path("/state/models/qwen/m.gguf"));
        assert_eq!(location("m.gguf"), path("/state/models/m.gguf"));
        assert!(matches!(location("hf:org/repo"), Location::Unsupported(why) if why.contains("hf:org/repo")));
    }
}
