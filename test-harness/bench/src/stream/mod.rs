//! Checks of whole streams: every frame, in order, nothing missing, nothing after the end. Pure.

mod completion;
mod event;
mod frames;
mod task;
mod tokens;

use anyhow::Result;

pub(crate) use completion::CompletionCheck;
pub(crate) use frames::Frames;
pub(crate) use task::TaskCheck;
pub(crate) use tokens::{Heard, Stamps, Tokens};

/// The rules of one kind of stream.
pub(crate) trait Check: Send {
    /// Takes the next frame, without the empty line that ends it.
    ///
    /// # Errors
    /// It breaks a rule.
    fn frame(&mut self, frame: &[u8], received_ns: u64) -> Result<()>;

    /// The tokens so far.
    fn tokens(&self) -> &Tokens;

    /// What was heard, at the proper end of the body.
    ///
    /// # Errors
    /// The stream is not complete.
    fn finish(self) -> Result<Heard>;
}
