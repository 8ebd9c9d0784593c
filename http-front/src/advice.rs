//! When clients that are turned away are to come back, where whoever refuses them cannot tell: the daemon behind the
//! front may know when things will have changed.

use std::fmt;
use std::sync::Arc;

use api_types::ErrorBody;

/// Where a 429 or 503 without a pause of its own takes one from. The default knows nothing, and says nothing.
#[derive(Clone, Default)]
pub struct RetryAdvice(Option<Arc<Pause>>);

/// ms from now, or nothing where nothing is known.
type Pause = dyn Fn() -> Option<u64> + Send + Sync;

impl RetryAdvice {
    /// Asks `pause` for ms from now, with jitter, each time a client is turned away.
    #[must_use]
    pub fn new(pause: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(pause)))
    }

    /// Adds a pause to an error that says "later" but not when.
    pub(crate) fn complete(&self, body: &mut ErrorBody) {
        let later = matches!(body.code.http_status(), 429 | 503) && body.retriable;
        if later && body.retry_after_ms.is_none() {
            body.retry_after_ms = self.0.as_ref().and_then(|pause| pause());
        }
    }
}

impl fmt::Debug for RetryAdvice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = if self.0.is_some() { "asked" } else { "none" };
        f.debug_tuple("RetryAdvice").field(&known).finish()
    }
}

#[cfg(test)]
mod tests {
    use api_types::ErrorCode;

    use super::*;

    fn pause_of(advice: &RetryAdvice, mut body: ErrorBody) -> Option<u64> {
        advice.complete(&mut body);
        body.retry_after_ms
    }

    /// ORCH-3106
    #[test]
    fn only_what_says_later_without_saying_when_is_completed() {
        let advice = RetryAdvice::new(|| Some(700));
        let body = |code| ErrorBody::new(code, "no");
        assert_eq!(pause_of(&advice, body(ErrorCode::AdmissionReject)), Some(700));
        assert_eq!(pause_of(&advice, body(ErrorCode::PoolUnready)), Some(700));
        let own = body(ErrorCode::AdmissionReject).with_retry_after(Some(5));
        assert_eq!(pause_of(&advice, own), Some(5));
        assert_eq!(pause_of(&advice, body(ErrorCode::NotFound)), None);
        let mut never = body(ErrorCode::AdmissionReject);
        never.retriable = false;
        assert_eq!(pause_of(&advice, never), None);
        assert_eq!(
            pause_of(&RetryAdvice::default(), body(ErrorCode::PoolUnready)),
            None
        );
    }
}
