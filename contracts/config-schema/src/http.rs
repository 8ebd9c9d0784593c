//! `[http]`: limits of the HTTP front, the same for both daemons.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounded::{Count, Ms};
use crate::text::{HostName, WebOrigin};

/// Limits of every listening socket. Each bounds what a slow, silent or hostile client can cost.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Names clients may put into `Host`, beyond the bound address and, on loopback, `localhost`.
    pub allowed_hosts: Vec<HostName>,
    /// Origins whose pages may call. Default: none, so no page of another site can.
    pub allowed_origins: Vec<WebOrigin>,
    /// A request head must arrive within this time, and an idle connection ends after it, ms.
    /// Default 10 s: generous for a human network, short for a slow-header attack.
    pub header_timeout_ms: Ms<100, 10_000, 120_000>,
    /// A request body must not pause longer than this, ms. Default 15 s.
    pub body_idle_timeout_ms: Ms<100, 15_000, 120_000>,
    /// Largest request body, bytes. Default 1 MiB: a prompt for the longest usual context.
    pub max_body_bytes: Count<1_024, 1_048_576, 67_108_864>,
    /// Most request headers. Default 64; the maximum is what the HTTP/1 parser holds without allocating.
    pub max_headers: Count<16, 64, 100>,
    /// Largest request head, bytes. Default 32 KiB.
    pub max_header_bytes: Count<4_096, 32_768, 65_536>,
    /// Most connections at a time; more wait in the kernel's backlog. Default 4096.
    pub max_connections: Count<1, 4_096, 65_536>,
    /// Most connections at a time from one address; more are refused. Loopback and trusted proxies
    /// are exempt, because many clients share them. Default 256.
    pub max_connections_per_ip: Count<1, 256, 65_536>,
    /// After a stop signal, running requests may take this long to finish, ms. Default 20 s: below
    /// the 30 s that the service manager waits.
    pub shutdown_grace_ms: Ms<0, 20_000, 600_000>,
}
