//! What came of a report, and saying so once: the log tells changes, not repetitions.

use api_types::link::DesiredState;
use http::StatusCode;
use llama_orch_client::ClientError;
use narration_core::Narration;

use crate::story::ACTOR;
use crate::trouble::chain;

/// What came of a report.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The orchestrator has it, and wishes this.
    Accepted(DesiredState),
    /// The orchestrator does not know this node.
    UnknownNode,
    /// The orchestrator does not want this node: wrong token or policy (AUTH-1003), an address that does not lead to it
    /// (REQ-RELAY-WAY-BACK), an id that another one has.
    Refused(ClientError),
    /// Anything else: it will pass, or somebody must look at the orchestrator.
    Unavailable(ClientError),
}

impl Outcome {
    pub(super) fn of(answer: Result<DesiredState, ClientError>) -> Self {
        let error = match answer {
            Ok(desired) => return Self::Accepted(desired),
            Err(error) => error,
        };
        match error.api().map(|api| api.status) {
            Some(StatusCode::NOT_FOUND) => Self::UnknownNode,
            Some(
                StatusCode::BAD_REQUEST
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::CONFLICT,
            ) => Self::Refused(error),
            _ => Self::Unavailable(error),
        }
    }

    /// The metric label.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::UnknownNode => "unknown_node",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// What was last told, so that it is not told again.
#[derive(Debug, Default)]
pub(super) struct Told(String);

impl Told {
    /// Narrates an outcome that differs from the last one. `registering` tells a first report from a
    /// heartbeat.
    pub(super) fn tell(&mut self, outcome: &Outcome, registering: bool) {
        let news = match outcome {
            Outcome::Accepted(_) => "accepted".to_owned(),
            Outcome::UnknownNode => "unknown".to_owned(),
            Outcome::Refused(error) | Outcome::Unavailable(error) => error.to_string(),
        };
        let again = self.0 == news;
        self.0 = news;
        match outcome {
            Outcome::Accepted(_) if registering => say("register", "The orchestrator knows this node"),
            _ if again => {}
            Outcome::Accepted(_) => say("reconnect", "The orchestrator answers again"),
            Outcome::UnknownNode => say(
                "reregister",
                "The orchestrator does not know this node: it registers anew",
            ),
            Outcome::Refused(error) => complain("The orchestrator refuses this node", error),
            Outcome::Unavailable(error) => {
                complain("The orchestrator does not answer; engines keep running", error);
            }
        }
    }
}

fn say(action: &'static str, human: &'static str) {
    Narration::new(ACTOR, action, &"orchestrator", human).emit();
}

fn complain(human: &'static str, error: &ClientError) {
    Narration::new(ACTOR, "report", &"orchestrator", human)
        .warning()
        .emit();
    let hint = error.hint();
    tracing::warn!(
        error = chain(error),
        hint = hint.as_deref(),
        "the report was not accepted; it is tried again with growing pauses"
    );
}
