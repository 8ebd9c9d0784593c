//! What a client needs to know, with the defaults that suit a LAN.

use std::time::Duration;

use http_util::ClientOptions;
use secrecy::SecretString;

/// An engine's log that says nothing for so long is taken for one that is cut off.
pub(crate) const MAX_SILENCE: Duration = Duration::from_secs(86_400);

/// Where the orchestrator is and how patient the client is.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `http://` or `https://`, host, port and path prefix; no credentials, query or fragment.
    pub base_url: String,
    /// Sent as `Authorization: Bearer …` with every request, and nowhere else.
    pub token: Option<SecretString>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How a broken stream is taken up again.
    pub resume: ResumePolicy,
}

impl ClientConfig {
    /// The defaults for an address and a token.
    #[must_use]
    pub fn new(base_url: impl Into<String>, token: Option<SecretString>) -> Self {
        Self {
            base_url: base_url.into(),
            token,
            timeouts: Timeouts::default(),
            resume: ResumePolicy::default(),
        }
    }
}

/// How long to wait for what. A stream as a whole has no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, name resolution included.
    pub connect: Duration,
    /// For a whole short call, and for the head of a stream (both daemons answer at once).
    pub request: Duration,
    /// For the next bytes of a stream. Must be longer than the heartbeat of the daemon.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            request: Duration::from_secs(10),
            // Four heartbeats of 15 s may get lost before a silent connection counts as broken.
            idle: Duration::from_secs(60),
        }
    }
}

impl Timeouts {
    /// `extra` is how much longer than `request` a call may take that asks the daemon to wait for something.
    pub(crate) fn options(self, extra: Duration) -> ClientOptions {
        let request = self.request.saturating_add(extra);
        ClientOptions {
            connect_timeout: self.connect,
            first_byte_timeout: request.max(self.connect),
            idle_timeout: self.idle,
            request_timeout: Some(request),
            ..ClientOptions::default()
        }
    }
}

/// How a stream that broke off before its end is taken up again (`Last-Event-ID`). The count starts anew whenever a
/// connection has brought a numbered event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePolicy {
    /// Tries in a row without a numbered event; 0 never resumes.
    pub attempts: u32,
    /// Lower bound of the pause before the first try. Each pause is drawn between a lower bound, which doubles, and
    /// twice that.
    pub base_delay: Duration,
    /// Longest pause. A daemon that asks for a longer one with `Retry-After` is not tried again.
    pub max_delay: Duration,
}

impl Default for ResumePolicy {
    fn default() -> Self {
        Self {
            // Together 13 to 26 s: longer than a restart of the daemon, shorter than a person's patience.
            attempts: 9,
            base_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(5),
        }
    }
}
