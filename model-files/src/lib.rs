//! What a model's files say of themselves: GGUF and safetensors headers, read before any engine sees the file.
//!
//! Files come from strangers. Every count, length and offset is checked before it is believed, arithmetic is checked,
//! memory is bounded by the limits of [`limits`], and nothing is mapped into memory: a file that is cut short while it is
//! read is an error, not a signal.
//!
//! - [`inspect`]: the facts of a whole model, of one file or many.
//! - [`gguf`], [`safetensors`]: the readers.
//! - [`kind`]: what a file is by its name, and which kinds carry code.
//!
//! Reads the files it is given and their parts in the same folder. No clock, no network.

mod error;
pub mod gguf;
mod input;
pub mod kind;
pub mod limits;
mod model;
pub mod safetensors;

pub use error::ReadError;
pub use model::{Inspection, Part, inspect};
