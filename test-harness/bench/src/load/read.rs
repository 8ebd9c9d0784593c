//! Reads one stream to its end and lets a check see every frame. Touches its connection.

use anyhow::{Result, ensure};

use crate::http::Connection;
use crate::stream::{Check, Frames, Heard, Tokens};

/// Reads until the body ends; `seen` is shown the tokens after each read.
///
/// # Errors
/// The stream breaks a rule, or `seen` objects.
pub(super) async fn to_the_end<C: Check>(
    connection: &mut Connection,
    mut check: C,
    mut seen: impl FnMut(&Tokens) -> Result<()> + Send,
) -> Result<Heard> {
    let mut frames = Frames::default();
    loop {
        let part = connection.part(frames.inbox()).await?;
        while let Some(frame) = frames.next() {
            check.frame(frame, part.received_ns)?;
        }
        seen(check.tokens())?;
        if part.is_last {
            let rest = frames.unfinished();
            ensure!(
                rest.is_empty(),
                "the body ends inside a frame: {:?}",
                String::from_utf8_lossy(rest)
            );
            return check.finish();
        }
    }
}
