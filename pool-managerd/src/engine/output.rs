//! What one generation of an engine wrote, and how it ended. Shared between the pumps that fill it, the
//! supervisor that closes it and the readers of `…/logs`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_util::redact::{MARK, redact};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::lines::Intake;
use super::ring::Ring;

pub use super::ring::RingLimits;

/// One read of a pipe; a pipe of the kernel holds 64 KiB.
const CHUNK_BYTES: usize = 8 << 10;

/// Shorter configured values are switches and paths, not secrets.
const MIN_SECRET_BYTES: usize = 8;

/// The output of one generation.
#[derive(Debug)]
pub struct Output {
    generation: u64,
    key: SecretString,
    secrets: Vec<SecretString>,
    ring: Mutex<Ring>,
    ended: watch::Sender<Option<String>>,
}

impl Output {
    /// Empty and open. Neither `key`, the engine's API key, nor any of `secrets` will appear in a line that
    /// leaves; secrets too short to be one are left alone, since replacing them would tear ordinary words.
    #[must_use]
    pub fn new(generation: u64, key: SecretString, secrets: Vec<SecretString>, limits: RingLimits) -> Self {
        let long_enough = |secret: &SecretString| secret.expose_secret().len() >= MIN_SECRET_BYTES;
        Self {
            generation,
            key,
            secrets: secrets.into_iter().filter(long_enough).collect(),
            ring: Mutex::new(Ring::new(limits)),
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

    /// The last `count` lines, oldest first, without credentials.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        self.ring().tail(count).map(|line| self.clean(line)).collect()
    }

    fn clean(&self, line: &str) -> String {
        let known = std::iter::once(&self.key).chain(&self.secrets);
        known.fold(redact(line).into_owned(), |text, secret| {
            text.replace(secret.expose_secret(), MARK)
        })
    }

    /// How the process ended, once it has and its output is complete.
    #[must_use]
    pub fn end(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// The process is gone and everything it wrote is here.
    pub fn close(&self, how: String) {
        self.ended.send_replace(Some(how));
    }

    /// Waits until [`Output::close`], at most `limit`.
    pub async fn closed_within(&self, limit: Duration) {
        let mut ended = self.ended.subscribe();
        // Both outcomes are answered with what is there; `end` tells them apart.
        let _closed_or_not = timeout(limit, ended.wait_for(Option::is_some)).await;
    }

    /// Reads a pipe to its end, never slower than the engine writes. A read error is an end.
    pub async fn drain(&self, mut pipe: impl AsyncRead + Unpin) {
        let mut intake = Intake::new(Instant::now());
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut push = |line: String| self.ring().push(line.into());
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
            intake.feed(Instant::now(), &chunk[..count], &mut push);
        }
        intake.finish(&mut push);
    }

    /// The lock is held for copying lines only, and no code under it panics.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> Output {
        let limits = RingLimits {
            lines: 10,
            bytes: 10_000,
        };
        let secrets = ["hunter2-hunter2", "1"].map(SecretString::from);
        Output::new(3, SecretString::from("5eC7e7"), secrets.into(), limits)
    }

    #[tokio::test]
    async fn neither_its_own_key_nor_other_credentials_leave() {
        let output = output();
        output
            .drain(&b"key 5eC7e7 used\nHUB=hunter2-hunter2\nAuthorization: Bearer abcdef123456\nfine 1\n"[..])
            .await;
        let lines = output.tail(10).join("\n");
        assert!(lines.contains("key [redacted] used"), "{lines}");
        assert!(!lines.contains("abcdef123456"), "{lines}");
        assert!(!lines.contains("hunter2"), "{lines}");
        assert!(lines.ends_with("fine 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_end_is_bounded_and_wakes_at_the_end() {
        let output = output();
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
