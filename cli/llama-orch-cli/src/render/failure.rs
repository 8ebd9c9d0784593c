//! A failure, for people and as JSON: what, why, what to do, and the id to look for in the daemon's log.

use std::error::Error;
use std::fmt::Write;
use std::iter::successors;

use anstyle::{AnsiColor, Style};
use api_types::ErrorBody;
use llama_orch_client::ClientError;
use serde_json::{Value, json};

use super::text::{clean, duration, wire};
use crate::exit::Exit;
use crate::failure::Failure;

const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Several lines, the last one ended.
pub(crate) fn human(failure: &Failure) -> String {
    let Failure::Client(error) = failure else {
        return lines(&chain(failure), failure.hint(), None, None);
    };
    let correlation = error.correlation_id().map(ToString::to_string);
    let retry = error
        .api()
        .and_then(|api| Some(u64::try_from(api.retry_after()?.as_millis()).unwrap_or(u64::MAX)));
    lines(
        &chain(failure),
        error.hint().as_deref(),
        retry,
        correlation.as_deref(),
    )
}

/// The same of an `error` event.
pub(super) fn of_body(body: &ErrorBody) -> String {
    let message = format!("{}: {}", wire(&body.code), body.message);
    let correlation = body.correlation_id.as_ref().map(ToString::to_string);
    lines(
        &message,
        body.hint.as_deref(),
        body.retry_after_ms,
        correlation.as_deref(),
    )
}

/// One line of JSON: the contract's error body with its status where there is one.
pub(crate) fn document(failure: &Failure) -> Value {
    let mut error = match failure {
        Failure::Client(ClientError::Api(api)) => json!(api.body),
        _ => json!({ "code": code(failure), "message": chain(failure) }),
    };
    if let Some(hint) = failure.hint() {
        error["hint"] = json!(hint);
    }
    if let Failure::Client(client) = failure {
        if let Some(hint) = client.hint() {
            error["hint"] = json!(hint);
        }
        if let Some(api) = client.api() {
            error["status"] = json!(api.status.as_u16());
        }
    }
    json!({ "error": error, "exit_code": failure.exit().code() })
}

fn code(failure: &Failure) -> &'static str {
    match failure {
        Failure::Client(error) => match error {
            ClientError::Address(_)
            | ClientError::Setup(_)
            | ClientError::LastEventId { .. }
            | ClientError::Unsendable { .. } => "USAGE",
            ClientError::Unreachable { .. } => "UNREACHABLE",
            ClientError::Timeout { .. } => "TIMEOUT",
            ClientError::Disconnected { .. } => "DISCONNECTED",
            ClientError::Api(_) | ClientError::Protocol { .. } => "PROTOCOL",
        },
        Failure::Config(_) | Failure::Request(_) | Failure::Join(_) => "USAGE",
        Failure::NodeTaken { .. } | Failure::Superseded(_) => "CONFLICT",
        Failure::Provision(_) | Failure::Catalog(_) => supply_code(failure.exit()),
        Failure::NoModel { .. } => "NOT_FOUND",
        Failure::Model { .. } | Failure::Estimate(_) => "UNUSABLE_MODEL",
        Failure::Io { .. } | Failure::OutputClosed => "IO",
    }
}

/// The word for a failure of this machine's catalog, or of a source of models.
const fn supply_code(exit: Exit) -> &'static str {
    match exit {
        Exit::Usage => "USAGE",
        Exit::Unauthorized => "FORBIDDEN",
        Exit::Refused => "REFUSED",
        Exit::Overloaded => "BUSY",
        Exit::Unreachable => "UNREACHABLE",
        Exit::Server => "SOURCE",
        Exit::Interrupted => "STOPPED",
        Exit::Success | Exit::TaskFailed | Exit::Io | Exit::Unconfirmed | Exit::Unfit => "IO",
    }
}

/// The error and all that caused it.
fn chain(failure: &Failure) -> String {
    let causes = successors(Some(failure as &dyn Error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn lines(message: &str, hint: Option<&str>, retry_ms: Option<u64>, correlation: Option<&str>) -> String {
    let mut text = format!("{ERROR}error:{ERROR:#} {}\n", clean(message));
    let details = [
        ("hint", hint.map(|hint| clean(hint).into_owned())),
        ("try again in", retry_ms.map(duration)),
        ("correlation id", correlation.map(str::to_owned)),
    ];
    for (name, detail) in details {
        if let Some(detail) = detail {
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "  {name}: {detail}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;
    use std::io;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_refusal_has_all_its_lines() {
        insta::assert_snapshot!("failure_api", plain(&human(&samples::refusal())));
        let document = document(&samples::refusal());
        insta::assert_json_snapshot!("failure_api_json", document);
    }

    #[test]
    fn causes_are_joined_and_nothing_is_invented() {
        let failure = Failure::io("reading the prompt from stdin", io::Error::other("disk on fire"));
        assert_eq!(
            plain(&human(&failure)),
            "error: reading the prompt from stdin failed: disk on fire\n"
        );
        let expected = json!({
            "error": {"code": "IO", "message": "reading the prompt from stdin failed: disk on fire"},
            "exit_code": 8
        });
        assert_eq!(document(&failure), expected);
    }

    #[test]
    fn foreign_text_is_cleaned() {
        let body = ErrorBody::new(api_types::ErrorCode::WorkerReset, "last words:\n\x1b]0;title\x07");
        let text = of_body(&body);
        assert!(
            plain(&text).contains("last words:\n\u{fffd}]0;title\u{fffd}"),
            "{text:?}"
        );
    }
}
