//! What one generation of an engine wrote, and how it ended. Shared between the supervisor that closes it and the
//! readers of `…/logs`; the lines themselves are in the log that the shim fills.

use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::shim::LogFiles;

/// The output of one generation.
#[derive(Debug)]
pub struct Output {
    generation: u64,
    key: SecretString,
    files: LogFiles,
    lines: usize,
    ended: watch::Sender<Option<String>>,
}

impl Output {
    /// Of a running engine with this API key, whose log shows at most `lines`.
    #[must_use]
    pub fn new(generation: u64, key: SecretString, files: LogFiles, lines: usize) -> Self {
        Self {
            generation,
            key,
            files,
            lines,
            ended: watch::Sender::new(None),
        }
    }

    /// Which start of the replica this is.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The engine's API key.
    #[must_use]
    pub const fn key(&self) -> &SecretString {
        &self.key
    }

    /// Where the lines are.
    #[must_use]
    pub const fn files(&self) -> &LogFiles {
        &self.files
    }

    /// How many of so many wanted lines are shown.
    #[must_use]
    pub fn shown(&self, wanted: usize) -> usize {
        wanted.min(self.lines)
    }

    /// The last `count` lines, oldest first, without credentials.
    pub async fn tail(&self, count: usize) -> Vec<String> {
        let (files, count) = (self.files.clone(), self.shown(count));
        // A read that panics or a runtime that ends has no lines to give.
        spawn_blocking(move || files.tail(count))
            .await
            .unwrap_or_default()
    }

    /// How the process ended, once it has and its output is complete.
    #[must_use]
    pub fn end(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// The process is gone and everything it wrote is there.
    pub fn close(&self, how: String) {
        self.ended.send_replace(Some(how));
    }

    /// Waits until [`Output::close`], at most `limit`.
    pub async fn closed_within(&self, limit: Duration) {
        let mut ended = self.ended.subscribe();
        // Both outcomes are answered with what is there; `end` tells them apart.
        let _closed_or_not = timeout(limit, ended.wait_for(Option::is_some)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_end_is_bounded_and_wakes_at_the_end() {
        let output = Output::new(
            3,
            SecretString::from("key"),
            LogFiles::new(Path::new("/nonexistent"), 3),
            9,
        );
        let start = Instant::now();
        output.closed_within(Duration::from_secs(2)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        assert_eq!(output.end(), None);
        let closer = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            output.close("exit code 1".into());
        };
        tokio::join!(output.closed_within(Duration::from_secs(2)), closer);
        assert_eq!(start.elapsed(), Duration::from_millis(2100));
        assert_eq!(output.end().as_deref(), Some("exit code 1"));
    }
}
