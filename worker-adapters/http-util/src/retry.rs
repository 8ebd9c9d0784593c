//! Capped, jittered retries of idempotent calls (ORCH-3611). Only failures before the first byte of a response are
//! retried: afterwards a second try could do the work twice.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder, Retryable};
use http::StatusCode;

use crate::error::HttpError;

/// How often and how patiently to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included; 0 counts as 1.
    pub attempts: u32,
    /// Lower bound of the pause after the first try. Each pause is drawn between a lower bound, which doubles, and
    /// twice that.
    pub base_delay: Duration,
    /// Longest pause. A peer that asks for a longer one with `Retry-After` is not tried again.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            base_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// Calls until a call succeeds, fails in a way that is not [retriable](is_retriable), or tries run out. `call`
    /// must be idempotent: it may be carried out more than once.
    ///
    /// # Errors
    /// The last call's.
    pub async fn run_idempotent<T, F>(&self, call: impl FnMut() -> F) -> Result<T, HttpError>
    where
        F: Future<Output = Result<T, HttpError>>,
    {
        call.retry(self.backoff())
            .when(is_retriable)
            .adjust(|error, planned| self.pause(error, planned?))
            .await
    }

    /// The pauses between tries, for a caller that goes on where a failed try ended: one less than there are tries.
    pub fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        self.backoff().build()
    }

    /// The jitter adds up to the whole lower bound, so that half the longest pause is the highest bound.
    fn backoff(&self) -> ExponentialBuilder {
        let highest = self.max_delay / 2;
        ExponentialBuilder::new()
            .with_jitter()
            .with_factor(2.0)
            .with_min_delay(self.base_delay.min(highest))
            .with_max_delay(highest)
            .with_max_times(self.attempts.saturating_sub(1) as usize)
    }

    /// The planned pause comes on top of `Retry-After`, so that many callers do not come back at one moment.
    fn pause(&self, error: &HttpError, planned: Duration) -> Option<Duration> {
        match error.retry_after() {
            None => Some(planned),
            Some(asked) => (asked <= self.max_delay).then(|| asked.saturating_add(planned)),
        }
    }
}

/// Whether the same call may do better soon: no connection, no response, or a status that says so.
pub fn is_retriable(error: &HttpError) -> bool {
    match error {
        HttpError::Connect { .. }
        | HttpError::ConnectTimeout { .. }
        | HttpError::NoResponse { .. }
        | HttpError::FirstByteTimeout { .. } => true,
        HttpError::Status { status, .. } => matches!(
            *status,
            StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        ),
        HttpError::Path { .. }
        | HttpError::Encode { .. }
        | HttpError::Protocol { .. }
        | HttpError::RequestTimeout { .. }
        | HttpError::IdleTimeout { .. }
        | HttpError::Reset { .. }
        | HttpError::BodyTooLarge { .. }
        | HttpError::Decode { .. } => false,
    }
}
