//! Reading a program's pipes without trusting it: bounded, drained, fit to be shown.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::redaction::{Cut, Redaction};
use crate::text::printable;

/// What is shown of a program's words, bytes.
pub(super) const EXCERPT_BYTES: usize = 1 << 10;

const CHUNK_BYTES: usize = 8 << 10;

/// What [`read_bounded`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fits {
    /// The whole stream.
    Yes,
    /// More than the bound.
    No,
}

/// Reads to the end, or until there is more than `limit`.
pub(super) async fn read_bounded(
    pipe: &mut (impl AsyncRead + Unpin),
    out: &mut Vec<u8>,
    limit: usize,
) -> io::Result<Fits> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    pipe.take(most.saturating_add(1)).read_to_end(out).await?;
    Ok(if out.len() <= limit { Fits::Yes } else { Fits::No })
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    dropped: bool,
}

impl Tail {
    /// Reads to the end, however much that is.
    pub(super) async fn drain(&mut self, pipe: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = pipe.read(&mut chunk).await?;
            if count == 0 {
                return Ok(());
            }
            self.push(&chunk[..count]);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let excess = self.bytes.len().saturating_sub(EXCERPT_BYTES);
        if excess > 0 {
            self.bytes.drain(..excess);
            self.dropped = true;
        }
    }

    /// As text on one line, without credentials.
    pub(super) fn text(&self, redaction: &Redaction) -> String {
        let cut = Cut {
            front: self.dropped,
            back: false,
        };
        redaction.apply_to_part(printable(&self.bytes).trim(), cut)
    }
}

/// The beginning of an answer, as text on one line, without credentials.
pub(super) fn excerpt(bytes: &[u8], redaction: &Redaction) -> String {
    let shown = &bytes[..bytes.len().min(EXCERPT_BYTES)];
    let cut = Cut {
        front: false,
        back: shown.len() < bytes.len(),
    };
    redaction.apply_to_part(printable(shown).trim(), cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// REQ-CONTAINER-SECRETS, REQ-CONTAINER-FAULTS: what is quoted of a flood is bounded, and a secret that the
        /// bound cuts is gone.
        #[test]
        fn a_quotation_is_bounded_and_without_secrets(padding in 0_usize..1100, chunk in 1_usize..700) {
            let secret = "hunter2-hunter2";
            let text = format!("{}{secret}{}", "x".repeat(EXCERPT_BYTES), "y".repeat(padding));
            let mut tail = Tail::default();
            text.as_bytes().chunks(chunk).for_each(|bytes| tail.push(bytes));
            let redaction = Redaction::new([secret.into()], None);
            for shown in [tail.text(&redaction), excerpt(&text.as_bytes()[padding.min(EXCERPT_BYTES)..], &redaction)] {
                prop_assert!(shown.len() <= EXCERPT_BYTES + 20);
                prop_assert!(!shown.contains("hunt") && !shown.contains("ter2"), "{}", shown);
            }
        }
    }
}
