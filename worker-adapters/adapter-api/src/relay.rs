//! Refusals of the relay that stands between an adapter and an engine on another host: they come in the daemons' error
//! body, where an engine's own errors have its dialect's. One table for every adapter.

use api_types::{ErrorBody, ErrorCode};

use crate::error::{AdapterError, AdapterErrorKind as Kind};

/// What a relay says in place of an engine; `None` where `body` is not a relay's, and so the engine's own.
#[must_use]
pub fn refusal(body: &str) -> Option<AdapterError> {
    let body: ErrorBody = serde_json::from_str(body).ok()?;
    Some(AdapterError {
        kind: kind(body.code),
        message: format!("the node's relay: {}{}", body.message, hint(body.code)),
        retry_after_ms: body.retry_after_ms,
    })
}

const fn kind(code: ErrorCode) -> Kind {
    match code {
        // The engine that was meant is not there (any more).
        ErrorCode::NotFound | ErrorCode::Conflict | ErrorCode::PoolUnready => Kind::NotReady,
        // The relay does not serve us, or its engine died before answering.
        ErrorCode::MissingToken
        | ErrorCode::BadToken
        | ErrorCode::Forbidden
        | ErrorCode::PoolUnavailable
        | ErrorCode::WorkerReset => Kind::Unavailable,
        ErrorCode::AdmissionReject | ErrorCode::QueueFullDropLru | ErrorCode::ReplicaExhausted => {
            Kind::Exhausted
        }
        ErrorCode::PayloadTooLarge => Kind::Rejected,
        ErrorCode::DecodeTimeout => Kind::Timeout,
        ErrorCode::InvalidParams
        | ErrorCode::DeadlineUnmet
        | ErrorCode::UntrustedArtifact
        | ErrorCode::ModelDeprecated
        | ErrorCode::Internal => Kind::Protocol,
    }
}

const fn hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::MissingToken | ErrorCode::BadToken => {
            " (configuration: orchestratord and pool-managerd need the same token)"
        }
        ErrorCode::PayloadTooLarge => " (configuration: http.max_body_bytes of the node)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REQ-RELAY-START.
    #[test]
    fn a_relays_refusal_is_told_from_an_engines_error() {
        let of = |code| {
            let body = ErrorBody::new(code, "why").with_hint("how");
            refusal(&serde_json::to_string(&body).unwrap()).unwrap()
        };
        for (code, kind) in [
            (ErrorCode::Conflict, Kind::NotReady),
            (ErrorCode::NotFound, Kind::NotReady),
            (ErrorCode::PoolUnready, Kind::NotReady),
            (ErrorCode::BadToken, Kind::Unavailable),
            (ErrorCode::WorkerReset, Kind::Unavailable),
            (ErrorCode::AdmissionReject, Kind::Exhausted),
            (ErrorCode::PayloadTooLarge, Kind::Rejected),
            (ErrorCode::DecodeTimeout, Kind::Timeout),
            (ErrorCode::Internal, Kind::Protocol),
        ] {
            assert_eq!(of(code).kind, kind, "{code:?}");
        }
        assert!(of(ErrorCode::BadToken).message.contains("the same token"));
        for engines in [
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
            r#"{"code":"CONFLICT"}"#,
            "",
            "<html>",
        ] {
            assert_eq!(refusal(engines), None, "{engines}");
        }
    }

    #[test]
    fn every_refusal_that_another_replica_may_not_have_is_retriable() {
        for code in ErrorCode::ALL {
            let retriable = AdapterError::new(kind(code), "").retriable_before_first_token();
            let passing = matches!(kind(code), Kind::NotReady | Kind::Unavailable | Kind::Exhausted);
            assert_eq!(retriable, passing, "{code:?}");
        }
    }
}
