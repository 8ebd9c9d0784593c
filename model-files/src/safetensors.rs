//! Safetensors: the length of a JSON header, the header, then the data. And the configuration beside it, which says what
//! the tensors are.

mod config;
mod header;

pub use config::{Config, facts};
pub(crate) use config::{read_text, tokenizer_template};
pub use header::{Header, TensorInfo};
