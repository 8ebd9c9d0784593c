//! The one configuration tree of both daemons: built once from flags, environment, one TOML file
//! and defaults, validated completely, handed out as typed structs.
//!
//! Owns the shape ([`Config`]), the precedence (flag > env > file > default), the origin of every
//! value and the wording of every configuration problem. It reads the configuration file, the
//! token file and the process environment, each once; nothing else in the workspace does.

mod artifacts;
mod auth;
mod bounded;
mod catalog;
mod check;
mod client;
mod container;
mod dump;
mod engine_args;
mod environment;
mod error;
mod file;
mod http;
mod load;
mod log;
mod orchestratord;
mod overrides;
mod pool_managerd;
mod sessions;
mod settings;
mod text;
mod token;
mod tree;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use artifacts::{Artifacts, TraceText};
pub use auth::Auth;
pub use bounded::{Count, Ms};
pub use catalog::{Catalog, Downloads};
pub use client::ClientConfig;
pub use container::{Container, ContainerMount, Runtime};
pub use environment::Environment;
pub use error::{ConfigErrors, Origin, Position, Problem};
pub use http::Http;
pub use load::{DEFAULT_PLACES, Loaded, Origins, load, load_local};
pub use log::Log;
pub use orchestratord::{
    Durability, Engine, Interrupted, Journal, Nodes, Orchestratord, Placement, Queue, QueuePolicy, Sse,
};
pub use overrides::Overrides;
pub use pool_managerd::{Launcher, LoadOn, Pool, PoolManagerd, PoolModel, RelayMode, Reservation, Restart};
pub use sessions::{RateLimit, Sessions};
pub use settings::{Kind, SETTINGS, Setting};
pub use text::{BaseUrl, GpuUuid, HostName, HostPattern, ListenAddr, Sha256Text, WebOrigin};
pub use token::MIN_TOKEN_LEN;

/// Everything both daemons can be told.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "llama-orch configuration")]
pub struct Config {
    /// Who may call.
    pub auth: Auth,
    /// Limits of the HTTP front of both daemons.
    pub http: Http,
    /// Log output.
    pub log: Log,
    /// The orchestrator.
    pub orchestratord: Orchestratord,
    /// The daemon of a GPU box.
    pub pool_managerd: PoolManagerd,
    /// Models and engines of a GPU box.
    pub catalog: Catalog,
}

/// The JSON schema of the configuration file, as `orchestratord config schema` prints it.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}
