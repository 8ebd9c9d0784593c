//! What the shell learns: one number per kind of outcome. The table is printed by `--help` and repeated in the
//! README; the numbers never change their meaning.

mod supply;

use std::fmt::Write;
use std::process::ExitCode;

use http::StatusCode;
use llama_orch_client::ClientError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done. Also when the reader of the output went away.
    Success,
    /// The task ended, but not by itself: an error, its deadline, or somebody else's cancel. Or the operation failed.
    TaskFailed,
    /// The command line, an environment variable or the request is not usable.
    Usage,
    /// Nobody answers, not in time, or the connection was lost for good.
    Unreachable,
    /// 401 or 403.
    Unauthorized,
    /// Any other 4xx.
    Refused,
    /// 429 or 503.
    Overloaded,
    /// 500, 502, 504, or an answer that is not of the contract.
    Server,
    /// Reading or writing on this side failed.
    Io,
    /// A decision does not replay to the same answer, or cannot be replayed.
    Unconfirmed,
    /// The answer is no: a model with wrong bytes, one that does not fit, a problem that doctor found.
    Unfit,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// Every outcome, by number.
    pub const ALL: [Self; 12] = [
        Self::Success,
        Self::TaskFailed,
        Self::Usage,
        Self::Unreachable,
        Self::Unauthorized,
        Self::Refused,
        Self::Overloaded,
        Self::Server,
        Self::Io,
        Self::Unconfirmed,
        Self::Unfit,
        Self::Interrupted,
    ];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::TaskFailed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Unauthorized => 4,
            Self::Refused => 5,
            Self::Overloaded => 6,
            Self::Server => 7,
            Self::Io => 8,
            Self::Unconfirmed => 9,
            Self::Unfit => 10,
            Self::Interrupted => 130,
        }
    }

    /// What it means, for `--help`.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done (also when the reader of the output went away)",
            Self::TaskFailed => {
                "the task or operation ended by an error, its deadline or somebody else's cancel"
            }
            Self::Usage => "the command line, an environment variable or the request is not usable",
            Self::Unreachable => "nobody answers at the address, not in time, or the connection was lost",
            Self::Unauthorized => "a credential is missing or wrong, or a policy forbids it (401, 403)",
            Self::Refused => "refused: unknown, taken or not acceptable (400, 404, 409, 413)",
            Self::Overloaded => "overloaded or not ready, try again later (429, 503)",
            Self::Server => "the daemon or source failed or does not speak its contract (500, 502, 504)",
            Self::Io => "reading or writing on this side failed",
            Self::Unconfirmed => "a decision does not replay to the same answer, or cannot be replayed",
            Self::Unfit => {
                "the answer is no: a model does not fit, its bytes are wrong or missing, or doctor found a problem"
            }
            Self::Interrupted => "cancelled by Ctrl-C",
        }
    }

    /// The outcome that a failed call stands for.
    #[must_use]
    pub fn of_client(error: &ClientError) -> Self {
        match error {
            ClientError::Address(_)
            | ClientError::Setup(_)
            | ClientError::LastEventId { .. }
            | ClientError::Unsendable { .. } => Self::Usage,
            ClientError::Unreachable { .. }
            | ClientError::Timeout { .. }
            | ClientError::Disconnected { .. } => Self::Unreachable,
            ClientError::Api(error) => Self::of_status(error.status),
            ClientError::Protocol { .. } => Self::Server,
        }
    }

    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Unauthorized,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Self::Overloaded,
            status if status.is_client_error() => Self::Refused,
            _ => Self::Server,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table for `--help`.
pub(crate) fn help() -> String {
    let mut text = "Exit codes:".to_owned();
    for exit in Exit::ALL {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "\n  {:>3}  {}", exit.code(), exit.meaning());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::ErrorCode;

    #[test]
    fn every_status_of_the_contract_has_its_exit() {
        let exits: Vec<(u16, u8)> = ErrorCode::ALL
            .iter()
            .map(|code| {
                let status = StatusCode::from_u16(code.http_status()).unwrap();
                (code.http_status(), Exit::of_status(status).code())
            })
            .collect();
        for (status, exit) in exits {
            let expected = match status {
                401 | 403 => 4,
                429 | 503 => 6,
                400..500 => 5,
                _ => 7,
            };
            assert_eq!(exit, expected, "{status}");
        }
    }

    #[test]
    fn the_readme_repeats_the_table() {
        let readme = include_str!("../README.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(readme.contains(&row), "the README lacks: {row}");
        }
    }
}
