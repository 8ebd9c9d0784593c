//! How long an adapter waits for its engine. Every limit is the caller's; adapters have none of their own.

use std::time::Duration;

/// Limits of one engine endpoint. A stream as a whole has none: a healthy generation may run for hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest wait for the first token, counted from submit; prefill and the engine's own queue included. At least
    /// `connect`.
    pub first_token: Duration,
    /// Longest wait for each further token. Bytes that are no tokens (pings) do not count, and neither does the time
    /// during which nobody asks for tokens.
    pub token_idle: Duration,
    /// Longest duration of a short call (health, props, token count) as a whole.
    pub probe: Duration,
}
