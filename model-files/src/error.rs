//! Why a file cannot be believed.

use std::io;

/// A file that is not what it claims to be, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system's.
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
    /// The file ends inside its header.
    #[error("the file ends inside {what}")]
    Cut {
        /// What was being read.
        what: &'static str,
    },
    /// It is another kind of file, or another version of this kind.
    #[error("not a {format} file that can be read: {found}")]
    Format {
        /// What was expected.
        format: &'static str,
        /// What stands there.
        found: String,
    },
    /// It contradicts itself.
    #[error("malformed {what}: {rule}")]
    Malformed {
        /// What is malformed.
        what: String,
        /// What it breaks.
        rule: &'static str,
    },
    /// It claims more than any model has.
    #[error("{what}: {found}, at most {most} are read")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        found: u64,
        /// The bound.
        most: u64,
    },
    /// The tensors reach beyond the end of the file.
    #[error("tensor {tensor} ends at byte {end}, the file at {size}: it is corrupted or incomplete")]
    Beyond {
        /// The tensor.
        tensor: String,
        /// Where it ends.
        end: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// There is no model among the files.
    #[error("no GGUF or safetensors file is among the model's files")]
    NoModel,
}

impl ReadError {
    pub(crate) fn malformed(what: impl Into<String>, rule: &'static str) -> Self {
        Self::Malformed {
            what: what.into(),
            rule,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
