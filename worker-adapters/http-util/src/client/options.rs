//! The limits of a client and the rules they must satisfy.

use std::sync::Arc;
use std::time::Duration;

use super::ResolveNames;
use crate::error::BuildError;

/// Limits of a [`Client`](super::Client). There is no limit on the length of a stream: a healthy one may run for
/// hours.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Longest wait for a connection, name resolution and TLS included.
    pub connect_timeout: Duration,
    /// Longest wait for a response head, counted from the start of the request, connecting included.
    pub first_byte_timeout: Duration,
    /// Longest silence inside a body while somebody waits for it. A reader that pauses does not use it up.
    pub idle_timeout: Duration,
    /// How long an unused connection is kept. Must be shorter than the peer keeps it, or requests are sent into
    /// connections that are being closed.
    pub pool_idle_timeout: Duration,
    /// Longest duration of a short call (`send`, `get_json`, `post_json`) as a whole. Never applied to streams.
    pub request_timeout: Option<Duration>,
    /// Speak HTTP/2 without negotiation, all streams on one connection per host; otherwise HTTP/1.1.
    pub http2_prior_knowledge: bool,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Finds the addresses of names; the operating system does unless somebody is named here.
    pub resolver: Option<Arc<dyn ResolveNames>>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            // A stream's head may wait for a slot and a long prefill.
            first_byte_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(60),
            // 5 s is a common keep-alive of small HTTP servers.
            pool_idle_timeout: Duration::from_secs(4),
            request_timeout: Some(Duration::from_secs(10)),
            http2_prior_knowledge: false,
            user_agent: concat!("llama-orch/", env!("CARGO_PKG_VERSION")).to_owned(),
            resolver: None,
        }
    }
}

impl ClientOptions {
    pub(super) fn check(&self) -> Result<(), BuildError> {
        let durations = [
            ("connect_timeout", Some(self.connect_timeout)),
            ("first_byte_timeout", Some(self.first_byte_timeout)),
            ("idle_timeout", Some(self.idle_timeout)),
            ("pool_idle_timeout", Some(self.pool_idle_timeout)),
            ("request_timeout", self.request_timeout),
        ];
        if let Some((field, _)) = durations
            .iter()
            .find(|(_, limit)| limit.is_some_and(|d| d.is_zero()))
        {
            return Err(BuildError::Option {
                field,
                rule: "must be longer than zero",
            });
        }
        if self.first_byte_timeout < self.connect_timeout {
            let rule = "must not be shorter than connect_timeout";
            return Err(BuildError::Option {
                field: "first_byte_timeout",
                rule,
            });
        }
        Ok(())
    }
}
