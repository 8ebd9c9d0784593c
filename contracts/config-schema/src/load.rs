//! Building the configuration: find the file, merge the sources by precedence, read the tree into
//! types, check what spans several keys, resolve the token. Every problem found is reported, not
//! only the first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api_types::ModelRef;
use toml::Value;

use crate::Config;
use crate::check;
use crate::environment::{Environment, Variable};
use crate::error::{ConfigErrors, Origin, Problem};
use crate::overrides::Overrides;
use crate::settings::{SETTINGS, Setting, is_mistyped};
use crate::token;
use crate::tree::{Content, Node};
use crate::{dump, file};

/// Names the configuration file; `--config` wins over it.
pub(crate) const CONFIG_FILE_VARIABLE: &str = "LLAMA_ORCH_CONFIG";

/// Where the configuration file is looked for, best first; no file at all is fine.
pub const DEFAULT_PLACES: &str = "--config, $LLAMA_ORCH_CONFIG (these must exist), \
     $XDG_CONFIG_HOME/llama-orch/config.toml (else ~/.config/…), /etc/llama-orch/config.toml";

/// A complete, checked configuration and where each value comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each value comes from.
    pub origins: Origins,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What is allowed but probably not meant; for the log.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// The effective configuration as TOML, every value with its origin, secrets masked.
    #[must_use]
    pub fn dump(&self) -> String {
        dump::render(&self.config, &self.origins)
    }
}

/// Where each configured value comes from.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// The origin of a key such as `http.max_headers` or `pool_managerd.pools[0].slots`.
    #[must_use]
    pub fn of(&self, key: &str) -> &Origin {
        let array = || {
            key.strip_suffix(']')
                .and_then(|key| key.rfind('[').map(|at| &key[..at]))
        };
        self.0
            .get(key)
            .or_else(|| array().and_then(|array| self.0.get(array)))
            .unwrap_or(&Origin::Default)
    }

    pub(crate) fn of_one(key: &str, origin: Origin) -> Self {
        Self(BTreeMap::from([(key.to_owned(), origin)]))
    }

    fn from_tree(tree: &Node) -> Self {
        let mut origins = BTreeMap::new();
        tree.leaves(&mut |key, origin| drop(origins.insert(key.to_owned(), origin.clone())));
        Self(origins)
    }
}

/// Builds the configuration of this process: flag > environment > file > default.
///
/// # Errors
/// Every problem of every source, each with its file position, variable or flag.
pub fn load(environment: &Environment, overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
    let (mut loaded, mut problems) = draft(environment, overrides);
    match token::resolve(&loaded.config.auth, &loaded.origins, environment) {
        Ok(None) => {}
        Ok(Some(found)) => {
            loaded.warnings.extend(found.warning);
            let origins = &mut loaded.origins.0;
            origins.insert(dump::TOKEN_KEY.to_owned(), found.origin);
            loaded.config.auth.token = Some(found.token);
        }
        Err(problem) => problems.push(problem),
    }
    sound(loaded, problems)
}

/// The same for a command that works on the daemons' machine: without the token, which may be for the daemons' eyes only.
///
/// # Errors
/// As for [`load`].
pub fn load_local(environment: &Environment, overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
    let (loaded, problems) = draft(environment, overrides);
    sound(loaded, problems)
}

/// Everything but the token.
fn draft(environment: &Environment, overrides: &Overrides) -> (Loaded, Vec<Problem>) {
    let mut problems = Vec::new();
    let file = find_file(environment, overrides, &mut problems);
    let mut tree = file_tree(file.as_deref(), &mut problems);
    apply_environment(&mut tree, environment, &mut problems);
    apply_flags(&mut tree, overrides);
    derive(&mut tree, environment);
    let origins = Origins::from_tree(&tree);
    let config = read(tree, &mut problems);
    check::config(&config, &origins, &mut problems);
    let mut warnings = mistyped(environment);
    warnings.extend(check::warnings(&config));
    let loaded = Loaded {
        config,
        origins,
        file,
        warnings,
    };
    (loaded, problems)
}

fn sound(loaded: Loaded, problems: Vec<Problem>) -> Result<Loaded, ConfigErrors> {
    if problems.is_empty() {
        Ok(loaded)
    } else {
        Err(ConfigErrors { problems })
    }
}

fn find_file(
    environment: &Environment,
    overrides: &Overrides,
    problems: &mut Vec<Problem>,
) -> Option<PathBuf> {
    if let Some(path) = &overrides.config_file {
        return Some(path.clone());
    }
    match environment.variable(CONFIG_FILE_VARIABLE) {
        Variable::Text(path) => return Some(PathBuf::from(path)),
        Variable::Unset => {}
        unusable => problems.extend(refuse(CONFIG_FILE_VARIABLE, "", unusable)),
    }
    environment.config_files().into_iter().find(|path| path.exists())
}

fn file_tree(file: Option<&Path>, problems: &mut Vec<Problem>) -> Node {
    file.map_or_else(Node::root, |path| {
        file::read(path).unwrap_or_else(|found| {
            problems.extend(found);
            Node::root()
        })
    })
}

/// The problem of a variable that is set to something that is no text.
pub(crate) fn refuse(name: &'static str, key: &str, variable: Variable<'_>) -> Option<Problem> {
    let rule = match variable {
        Variable::Empty => "is set to nothing; give it a value or unset it",
        Variable::NotUtf8 => "is not UTF-8",
        Variable::Unset | Variable::Text(_) => return None,
    };
    Some(Problem::new(Origin::Env(name), key, rule))
}

fn apply_environment(tree: &mut Node, environment: &Environment, problems: &mut Vec<Problem>) {
    for &Setting { env, key, kind } in SETTINGS {
        match environment.variable(env) {
            Variable::Text(text) => match kind.read(text) {
                Ok(value) => tree.set(key, value, Origin::Env(env)),
                Err(rule) => problems.push(Problem::new(Origin::Env(env), key, rule)),
            },
            other => problems.extend(refuse(env, key, other)),
        }
    }
}

fn apply_flags(tree: &mut Node, overrides: &Overrides) {
    for flag in &overrides.flags {
        tree.set(flag.key, flag.value.clone(), Origin::Flag(flag.name));
    }
}

/// Defaults that depend on something else.
fn derive(tree: &mut Node, environment: &Environment) {
    let node_id = environment.node_id().to_string();
    default_to(tree, "pool_managerd.node_id", node_id.into(), "the host name");
    if let Some((source, dir)) = environment.state_dir() {
        let dir = dir.to_string_lossy().into_owned();
        default_to(tree, "orchestratord.state_dir", dir.clone().into(), source);
        default_to(tree, "pool_managerd.state_dir", dir.into(), source);
    }
    if let Some(Content::Leaf(Value::String(dir))) =
        tree.get("pool_managerd.state_dir").map(|dir| &dir.content)
    {
        let root = Path::new(dir).join("catalog").to_string_lossy().into_owned();
        default_to(tree, "catalog.root", root.into(), "pool_managerd.state_dir");
    }
    let pools = tree
        .get_mut("pool_managerd.pools")
        .map(|pools| &mut pools.content);
    if let Some(Content::Array(pools)) = pools {
        pools.iter_mut().for_each(derive_model_ids);
    }
}

fn derive_model_ids(pool: &mut Node) {
    derive_model_id(pool);
    let more = pool.get_mut("models").map(|models| &mut models.content);
    if let Some(Content::Array(models)) = more {
        models.iter_mut().for_each(derive_model_id);
    }
}

fn default_to(tree: &mut Node, key: &str, value: Value, source: &'static str) {
    if tree.get(key).is_none() {
        tree.set(key, value, Origin::Derived(source));
    }
}

fn derive_model_id(pool: &mut Node) {
    let model = match pool.get("model").map(|model| &model.content) {
        Some(Content::Leaf(Value::String(model))) => model.parse::<ModelRef>().ok(),
        _ => None,
    };
    if let Some(id) = model.as_ref().and_then(ModelRef::served_name) {
        default_to(pool, "model_id", id.to_string().into(), "model");
    }
}

/// Reads the tree into types. What cannot be read is reported and taken out, so that the rest is
/// read as well; each round makes the tree smaller, so this ends.
fn read(mut tree: Node, problems: &mut Vec<Problem>) -> Config {
    loop {
        match serde_path_to_error::deserialize(tree.to_value()) {
            Ok(config) => return config,
            Err(error) => {
                let rule = wording(error.inner().message());
                let Some((key, origin)) = tree.take(error.path()) else {
                    problems.push(Problem::new(Origin::Default, "", rule));
                    return Config::default();
                };
                problems.push(Problem::new(origin, key, rule));
            }
        }
    }
}

fn wording(message: &str) -> String {
    let said = message.trim_end();
    if said.starts_with("unknown field `token`") {
        return "the token is never part of this file: use auth.token_file or AUTH_TOKEN".to_owned();
    }
    said.replace("unknown field", "unknown key")
        .replace("missing field", "missing key")
}

fn mistyped(environment: &Environment) -> Vec<String> {
    let unknown = environment.names().filter(|name| is_mistyped(name));
    unknown
        .map(|name| format!("the environment variable {name} is not known and has no effect"))
        .collect()
}
