//! `[auth]`: the token and who may do without one.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Who may call (AUTH-1001…1008). The token itself is never a value of the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// File that holds the token, readable by its owner only. The environment variable AUTH_TOKEN
    /// takes precedence. Default: none, which only a loopback bind may have.
    pub token_file: Option<PathBuf>,
    /// Whether loopback callers may leave the token out although one is configured. Default: no.
    pub optional: bool,
    /// Whether the `Authorization` of requests that come through a proxy counts; only proxies in
    /// `trusted_proxies` are believed. Default: no.
    pub trust_proxy: bool,
    /// Addresses of the proxies that `trust_proxy` believes.
    pub trusted_proxies: Vec<IpAddr>,
    /// The token, from AUTH_TOKEN or the file. Filled in by [`load`](crate::load).
    #[serde(skip)]
    pub token: Option<SecretString>,
}
