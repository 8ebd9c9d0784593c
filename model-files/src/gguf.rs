//! GGUF versions 2 and 3, little-endian: magic, version, counts, key-value pairs, tensor table; then the data, aligned.

mod facts;
mod header;
mod parts;
mod tensors;
mod value;

pub use facts::facts;
pub(crate) use facts::{chat_template, is_companion};
pub use header::Header;
pub use parts::{offloaded_bytes, read_parts};
pub use tensors::{Tensor, TensorType};
pub use value::Value;
