//! Waiting for a condition instead of for a time. Touches the clock only.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long to rest between two looks: short enough not to be felt, long enough to leave a busy
/// machine alone.
const PAUSE: Duration = Duration::from_millis(10);

/// What a look at the condition found.
#[derive(Debug)]
pub enum Look<T, S> {
    /// The condition holds; here is what was waited for.
    Ready(T),
    /// Not yet; here is the state, for the message if time runs out.
    NotYet(S),
}

/// The condition did not come true.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:?} in vain for {what}; last seen: {last}")]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// The last state seen.
    pub last: String,
}

/// Looks again and again until the condition holds or `limit` has passed.
///
/// # Errors
/// [`TimedOut`], with the state at the last look.
pub async fn wait_for<T, S, L, F>(what: &str, limit: Duration, mut look: L) -> Result<T, TimedOut>
where
    S: Debug,
    L: FnMut() -> F,
    F: Future<Output = Look<T, S>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let state = match look().await {
            Look::Ready(value) => return Ok(value),
            Look::NotYet(state) => state,
        };
        if Instant::now() >= deadline {
            return Err(TimedOut {
                what: what.to_owned(),
                waited: limit,
                last: format!("{state:?}"),
            });
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gives_what_it_waited_for() {
        let mut looks = 0;
        let found = wait_for("three looks", Duration::from_secs(1), || {
            looks += 1;
            let look = if looks == 3 {
                Look::Ready("there")
            } else {
                Look::NotYet(looks)
            };
            async move { look }
        });
        assert_eq!(found.await.unwrap(), "there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_tells_the_last_state() {
        let never = wait_for("rain", Duration::from_secs(1), || async {
            Look::<(), _>::NotYet("sunny")
        });
        let message = never.await.unwrap_err().to_string();
        assert!(message.contains("rain") && message.contains("sunny"), "{message}");
    }
}
