//! Why a step fails, with all causes: the runner shows a step's error by its `Display`, which of an
//! ordinary error is the outermost sentence only.

use std::fmt;

/// What a step returns.
pub(crate) type StepResult = Result<(), Failure>;

/// An error whose `Display` tells its causes too.
pub(crate) struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}
