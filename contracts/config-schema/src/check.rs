//! Rules that span several keys, or that a single value's type cannot say.

use std::collections::BTreeSet;
use std::path::Path;

use api_types::EngineKind;
use secrecy::ExposeSecret;

use crate::engine_args;
use crate::error::Problem;
use crate::load::Origins;
use crate::pool_managerd::Pool;
use crate::{Artifacts, Auth, Config, Engine, Nodes, Sessions};

mod container;

/// Engines that pools can be configured for: those with a launcher and an adapter.
const SUPPORTED_ENGINES: [EngineKind; 1] = [EngineKind::Llamacpp];

/// Most extra arguments or variables of an engine.
const MAX_ENGINE_EXTRAS: usize = 256;

struct Checks<'a> {
    origins: &'a Origins,
    problems: &'a mut Vec<Problem>,
}

impl Checks<'_> {
    fn ensure(&mut self, holds: bool, key: &str, rule: impl Into<String>) {
        if !holds {
            let origin = self.origins.of(key).clone();
            self.problems.push(Problem::new(origin, key, rule));
        }
    }
}

pub(crate) fn config(config: &Config, origins: &Origins, problems: &mut Vec<Problem>) {
    let mut checks = Checks { origins, problems };
    auth(&config.auth, &mut checks);
    nodes(&config.orchestratord.nodes, &mut checks);
    sessions(&config.orchestratord.sessions, &mut checks);
    engine(&config.orchestratord.engine, &mut checks);
    artifacts(&config.orchestratord.artifacts, &mut checks);
    checks.ensure(
        !config.log.level.trim().is_empty(),
        "log.level",
        "must not be empty",
    );
    for (index, dir) in config.pool_managerd.model_dirs.iter().enumerate() {
        checks.ensure(
            dir.is_absolute(),
            &format!("pool_managerd.model_dirs[{index}]"),
            "must be an absolute path",
        );
    }
    checks.ensure(
        config.catalog.root.is_absolute(),
        "catalog.root",
        "must be an absolute path",
    );
    let mut ids = BTreeSet::new();
    for (index, pool) in config.pool_managerd.pools.iter().enumerate() {
        let at = |name: &str| format!("pool_managerd.pools[{index}]{name}");
        checks.ensure(
            ids.insert(&pool.id),
            &at(".id"),
            format!("{} is used twice", pool.id),
        );
        self::pool(pool, &at, &mut checks);
    }
}

fn auth(auth: &Auth, checks: &mut Checks<'_>) {
    checks.ensure(
        !auth.trust_proxy || !auth.trusted_proxies.is_empty(),
        "auth.trust_proxy",
        "needs at least one address in auth.trusted_proxies",
    );
}

fn nodes(nodes: &Nodes, checks: &mut Checks<'_>) {
    let (stale, interval) = (nodes.stale_after_ms.ms(), nodes.heartbeat_interval_ms.ms());
    checks.ensure(
        stale > interval,
        "orchestratord.nodes.stale_after_ms",
        format!("is {stale}, must be above orchestratord.nodes.heartbeat_interval_ms, which is {interval}"),
    );
}

fn engine(engine: &Engine, checks: &mut Checks<'_>) {
    let (first, connect) = (engine.first_token_timeout_ms.ms(), engine.connect_timeout_ms.ms());
    checks.ensure(
        first >= connect,
        "orchestratord.engine.first_token_timeout_ms",
        format!("is {first}, must not be below orchestratord.engine.connect_timeout_ms, which is {connect}"),
    );
}

/// One artifact must fit into the room of all.
fn artifacts(artifacts: &Artifacts, checks: &mut Checks<'_>) {
    let max = artifacts.max_bytes.get();
    for (name, mib) in [
        ("stored_mib", artifacts.stored_mib.get()),
        ("traces_mib", artifacts.traces_mib.get()),
    ] {
        checks.ensure(
            max <= mib << 20,
            "orchestratord.artifacts.max_bytes",
            format!("is {max}, must not be above orchestratord.artifacts.{name}, which is {mib} MiB"),
        );
    }
}

/// Largest price and cost budget: their sums stay exact in billionths.
const MAX_COST: f64 = 1_000_000.0;

fn sessions(sessions: &Sessions, checks: &mut Checks<'_>) {
    let amounts = [
        ("cost_budget", sessions.cost_budget),
        ("price_in_per_1k", sessions.price_in_per_1k),
        ("price_out_per_1k", sessions.price_out_per_1k),
    ];
    for (name, amount) in amounts {
        checks.ensure(
            amount.is_none_or(|amount| (0.0..=MAX_COST).contains(&amount)),
            &format!("orchestratord.sessions.{name}"),
            format!("must be 0 to {MAX_COST}"),
        );
    }
    let priced = sessions.price_in_per_1k.is_some() || sessions.price_out_per_1k.is_some();
    checks.ensure(
        sessions.cost_budget.is_none() || priced,
        "orchestratord.sessions.cost_budget",
        "needs price_in_per_1k or price_out_per_1k beside it",
    );
}

fn pool(pool: &Pool, at: &dyn Fn(&str) -> String, checks: &mut Checks<'_>) {
    checks.ensure(
        SUPPORTED_ENGINES.contains(&pool.engine),
        &at(".engine"),
        format!(
            "{} has no launcher in this version; supported: llamacpp",
            pool.engine
        ),
    );
    workloads(pool, at, checks);
    models(pool, at, checks);
    devices(pool, at, checks);
    launcher(pool, at, checks);
    let (initial, max) = (pool.restart.initial_ms.ms(), pool.restart.max_ms.ms());
    checks.ensure(
        initial <= max,
        &at(".restart.initial_ms"),
        format!("is {initial}, must not be above restart.max_ms, which is {max}"),
    );
    args(pool, at, checks);
    env(pool, at, checks);
}

/// An engine either generates text or computes vectors or scores: llama-server's flags for the latter are for models
/// made for it, and change how the whole server works.
fn workloads(pool: &Pool, at: &dyn Fn(&str) -> String, checks: &mut Checks<'_>) {
    let key = at(".workloads");
    let listed = &pool.workloads;
    let distinct: BTreeSet<_> = listed.iter().collect();
    checks.ensure(distinct.len() == listed.len(), &key, "names a workload twice");
    let alone = listed.len() == 1;
    let generates = listed.iter().all(|workload| workload.generates());
    checks.ensure(
        alone || (generates && !listed.is_empty()),
        &key,
        "must be completion and chat (together or one of them), or embedding alone, or rerank alone",
    );
}

/// Most models of one pool.
const MAX_MODELS: usize = 64;

/// A name or reference that two models share would not tell which one is meant.
fn models(pool: &Pool, at: &dyn Fn(&str) -> String, checks: &mut Checks<'_>) {
    let many = pool.models.len();
    checks.ensure(
        many < MAX_MODELS,
        &at(".models"),
        format!("has {many} more models, at most {} are allowed", MAX_MODELS - 1),
    );
    let mut ids = BTreeSet::from([&pool.model_id]);
    let mut references = BTreeSet::from([&pool.model]);
    for (index, model) in pool.models.iter().enumerate() {
        checks.ensure(
            ids.insert(&model.model_id),
            &at(&format!(".models[{index}].model_id")),
            format!("{} is used twice in this pool", model.model_id),
        );
        checks.ensure(
            references.insert(&model.model),
            &at(&format!(".models[{index}].model")),
            format!("{} is named twice in this pool", model.model.as_str()),
        );
    }
}

fn devices(pool: &Pool, at: &dyn Fn(&str) -> String, checks: &mut Checks<'_>) {
    checks.ensure(
        !pool.devices.is_empty(),
        &at(".devices"),
        "must name at least one GPU; there is no CPU inference",
    );
    let distinct: BTreeSet<_> = pool.devices.iter().collect();
    checks.ensure(
        distinct.len() == pool.devices.len(),
        &at(".devices"),
        "names a GPU twice",
    );
}

fn launcher(pool: &Pool, at: &dyn Fn(&str) -> String, checks: &mut Checks<'_>) {
    if let Some(binary) = &pool.binary {
        checks.ensure(
            program(binary),
            &at(".binary"),
            "must be an absolute path or a bare name that PATH resolves",
        );
        checks.ensure(
            pool.container.is_none(),
            &at(".binary"),
            "must be left out beside container: the image has the engine's program",
        );
    }
    if let Some(container) = &pool.container {
        container::check(pool, container, at, checks);
    }
}

/// What is usable, but should be said.
pub(crate) fn warnings(config: &Config) -> impl Iterator<Item = String> {
    let pools = config.pool_managerd.pools.iter().enumerate();
    let unpinned = |(index, pool): (usize, &Pool)| {
        let image = &pool.container.as_ref()?.image;
        image.digest().is_none().then(|| {
            format!(
                "pool_managerd.pools[{index}].container.image: {image} names no digest, so that another image may run \
                 tomorrow: write {image}@sha256:…"
            )
        })
    };
    pools.filter_map(unpinned)
}

/// A relative path would depend on the directory the daemon was started in.
fn program(path: &Path) -> bool {
    let bare = path.components().count() == 1 && path.file_name() == Some(path.as_os_str());
    path.is_absolute() || bare
}

fn args(pool: &Pool, at: &dyn Fn(&str) -> String, checks: &mut Checks<'_>) {
    let many = pool.args.len();
    checks.ensure(
        many <= MAX_ENGINE_EXTRAS,
        &at(".args"),
        format!("has {many} arguments, at most {MAX_ENGINE_EXTRAS} are allowed"),
    );
    for (index, arg) in pool.args.iter().enumerate() {
        let key = at(&format!(".args[{index}]"));
        checks.ensure(!arg.contains('\0'), &key, "contains a NUL character");
        if let Some(rule) = engine_args::refused_argument(arg) {
            checks.ensure(false, &key, rule);
        }
    }
}

fn env(pool: &Pool, at: &dyn Fn(&str) -> String, checks: &mut Checks<'_>) {
    let many = pool.env.len();
    checks.ensure(
        many <= MAX_ENGINE_EXTRAS,
        &at(".env"),
        format!("has {many} variables, at most {MAX_ENGINE_EXTRAS} are allowed"),
    );
    for (name, value) in &pool.env {
        let key = at(&format!(".env.{name}"));
        checks.ensure(
            engine_args::is_variable_name(name),
            &key,
            "must be letters, digits and '_', not starting with a digit",
        );
        checks.ensure(
            !value.expose_secret().contains('\0'),
            &key,
            "contains a NUL character",
        );
        if let Some(rule) = engine_args::refused_variable(name) {
            checks.ensure(false, &key, rule);
        }
    }
}
