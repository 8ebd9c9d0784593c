//! The limits of a listening socket.

use std::net::IpAddr;
use std::time::Duration;

use config_schema::{Auth, Http};

use crate::advice::RetryAdvice;

/// What a client may cost. See `[http]` of the configuration for the meaning of each.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A request head must arrive within this time; an idle connection ends after it.
    pub header_timeout: Duration,
    /// Longest pause of a request body.
    pub body_idle_timeout: Duration,
    /// Largest request head, bytes.
    pub max_header_bytes: usize,
    /// Most connections.
    pub max_connections: usize,
    /// Most connections from one address.
    pub max_connections_per_ip: usize,
    /// Addresses that share many clients; loopback always does.
    pub shared_addresses: Vec<IpAddr>,
    /// Time for running requests after a stop signal.
    pub shutdown_grace: Duration,
    /// When a refused connection is to be tried again.
    pub retry_advice: RetryAdvice,
}

impl Limits {
    /// The limits of the configuration.
    #[must_use]
    pub fn new(http: &Http, auth: &Auth) -> Self {
        Self {
            header_timeout: http.header_timeout_ms.duration(),
            body_idle_timeout: http.body_idle_timeout_ms.duration(),
            max_header_bytes: http.max_header_bytes.get(),
            max_connections: http.max_connections.get(),
            max_connections_per_ip: http.max_connections_per_ip.get(),
            shared_addresses: if auth.trust_proxy {
                auth.trusted_proxies.clone()
            } else {
                Vec::new()
            },
            shutdown_grace: http.shutdown_grace_ms.duration(),
            retry_advice: RetryAdvice::default(),
        }
    }

    /// Where a refused connection's pause comes from (ORCH-3106).
    #[must_use]
    pub fn advised_by(mut self, retry_advice: RetryAdvice) -> Self {
        self.retry_advice = retry_advice;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(&Http::default(), &Auth::default())
    }
}
