//! What llama.cpp says when it does not serve, in our terms: status and JSON body before a stream, an error frame inside
//! one. One table for both.
//!
//! Messages may quote the prompt, so they are for the client who sent it and for no log.

mod report;

use std::error::Error;
use std::time::Duration;

use adapter_api::{AdapterError, AdapterErrorKind as Kind, relay};
use http_util::HttpError;
use serde_json::value::RawValue;

use report::Report;

/// Texts of 500 replies that are the request's fault: it is no JSON, its messages are malformed, its input does not fit
/// the batch.
const REQUEST_FAULTS: &[&str] = &[
    "json.exception",
    "Failed to parse messages",
    "is too large to process",
];

/// Texts of 500 replies with which the engine gives up generations.
const ENGINE_FAULTS: &[&str] = &[
    "Context size has been exceeded",
    "Compute error",
    "Invalid input batch",
];

/// A failure of a whole exchange, or of a stream's transport. Addresses stay out of the text: it is shown to clients.
pub(crate) fn of_exchange(error: &HttpError) -> AdapterError {
    let (kind, what) = match error {
        HttpError::Status {
            status,
            excerpt,
            retry_after,
            ..
        } => {
            return relay::refusal(excerpt)
                .unwrap_or_else(|| refusal(status.as_u16(), excerpt, *retry_after));
        }
        HttpError::Connect { source, .. } => (
            Kind::NotReady,
            format!("no connection: {}", root(source.as_ref())),
        ),
        HttpError::ConnectTimeout { limit, .. } => {
            (Kind::NotReady, format!("no connection within {limit:?}"))
        }
        HttpError::NoResponse { .. } => (Kind::Unavailable, "connection closed before a response".into()),
        HttpError::FirstByteTimeout { limit, .. } => (Kind::Timeout, format!("no response within {limit:?}")),
        HttpError::RequestTimeout { limit, .. } => {
            (Kind::Timeout, format!("no complete response within {limit:?}"))
        }
        HttpError::IdleTimeout { limit, .. } => (Kind::Timeout, format!("silent for {limit:?}")),
        HttpError::Reset { bytes_received, .. } => (
            Kind::Reset,
            format!("the response broke off after {bytes_received} bytes"),
        ),
        HttpError::BodyTooLarge { limit, .. } => {
            (Kind::Protocol, format!("the response exceeds {limit} bytes"))
        }
        HttpError::Protocol { .. } => (Kind::Protocol, "the response is not HTTP".into()),
        HttpError::Decode { .. } => (
            Kind::Protocol,
            "the response is not the JSON that was expected".into(),
        ),
        HttpError::Path { .. } | HttpError::Encode { .. } => {
            (Kind::Protocol, "the request cannot be written".into())
        }
    };
    AdapterError::new(kind, format!("llama.cpp: {what}"))
}

/// The server's own refusal: a status other than 2xx.
fn refusal(status: u16, body: &str, retry_after: Option<Duration>) -> AdapterError {
    let report = Report::of_reply(body);
    let kind = classify(status, &report.message);
    AdapterError {
        kind,
        message: report.describe(kind, status),
        retry_after_ms: retry_after.map(whole_ms),
    }
}

/// The error object of a frame. What is not the request's fault has ended a generation that had begun.
pub(crate) fn in_stream(error: &RawValue) -> AdapterError {
    let report = Report::of_error(error.get());
    let status = report.code.unwrap_or(500);
    let kind = match classify(status, &report.message) {
        Kind::Rejected => Kind::Rejected,
        _ => Kind::Reset,
    };
    AdapterError::new(kind, report.describe(kind, status))
}

/// Status and text to condition. The texts matter where the server uses one status for opposite things.
fn classify(status: u16, message: &str) -> Kind {
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    match status {
        400 | 413 | 415 | 422 => Kind::Rejected,
        401 | 403 | 404 | 405 => Kind::Unavailable,
        429 => Kind::Exhausted,
        503 if says(&["Loading model"]) => Kind::NotReady,
        503 if says(&["no slot available"]) => Kind::Exhausted,
        503 => Kind::Unavailable,
        500 if says(REQUEST_FAULTS) => Kind::Rejected,
        500 if says(ENGINE_FAULTS) => Kind::Reset,
        _ => Kind::Protocol,
    }
}

/// The operating system's words, below those of the HTTP library.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    std::iter::successors(Some(error), |&e| e.source())
        .last()
        .unwrap_or(error)
}

fn whole_ms(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
