//! The rate limit of `POST /v1/tasks`, per identity (REQ-RATE-LIMIT). Cancels and reads never come here.
//!
//! Owns the buckets and the clock they are read by; when one is empty is
//! [`orchestrator_core::rate`]'s to say.

use std::sync::{Mutex, PoisonError};

use api_types::{ErrorBody, ErrorCode, PolicyLabel};
use orchestrator_core::rate::{Buckets, Rate};
use tokio::time::Instant;

use crate::jitter::jitter;

/// Buckets by identity, where a rate is configured.
pub struct RateLimits {
    buckets: Option<Mutex<Buckets<String>>>,
    origin: Instant,
}

impl RateLimits {
    /// Full buckets; without a rate nothing is limited.
    #[must_use]
    pub fn new(rate: Option<Rate>) -> Self {
        Self {
            buckets: rate.map(|rate| Mutex::new(Buckets::new(rate))),
            origin: Instant::now(),
        }
    }

    /// Takes one from the bucket of `identity`.
    ///
    /// # Errors
    /// ADMISSION_REJECT with the label `rate-limit` and when to come back.
    pub fn take(&self, identity: &str) -> Result<(), Box<ErrorBody>> {
        let Some(buckets) = &self.buckets else {
            return Ok(());
        };
        let now_ns = self.origin.elapsed().as_nanos() as u64;
        // Nothing in there can be half done: a panic elsewhere does not spoil it.
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the lock, the clock may lag behind what another request has seen; that only makes it wait longer.
        buckets.take(&identity.to_owned(), now_ns).map_err(|fast| {
            let wait_ms = fast.retry_after_ms(jitter());
            let message = format!("{identity} submits tasks faster than its rate allows");
            let body = ErrorBody::new(ErrorCode::AdmissionReject, message)
                .with_policy(PolicyLabel::RateLimit)
                .with_retry_after(Some(wait_ms));
            Box::new(body)
        })
    }
}
