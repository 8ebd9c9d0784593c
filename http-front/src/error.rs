//! The one way a handler fails: an [`ErrorBody`] on its way out. The front renders it, in one
//! place, with the request's correlation id.

use std::fmt::Display;

use api_types::{ErrorBody, ErrorCode, FieldError};
use auth_min::{Denial, GuardRefusal};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::advice::RetryAdvice;
use crate::budgets::budget_headers;

/// Milliseconds a client should wait, exactly; `Retry-After` is rounded up to seconds.
const BACKOFF_HEADER: HeaderName = HeaderName::from_static("x-backoff-ms");

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    body: ErrorBody,
    status: StatusCode,
    headers: HeaderMap,
    detail: Option<String>,
}

impl ApiError {
    /// An error with the code's defaults and a message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ErrorBody::new(code, message).into()
    }

    /// A bug of ours: the client learns nothing, the log gets the detail.
    #[must_use]
    pub fn internal(detail: impl Display) -> Self {
        let mut error = Self::new(
            ErrorCode::Internal,
            "internal error; the daemon's log has the details",
        );
        error.0.detail = Some(detail.to_string());
        error
    }

    /// Another status than the code's, where HTTP itself asks for it (405).
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// One more response header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// What the client will be told.
    #[must_use]
    pub fn body(&self) -> &ErrorBody {
        &self.0.body
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What only the log is told.
    pub(crate) fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The finished response.
    pub(crate) fn render(self, correlation_id: &api_types::CorrelationId, advice: &RetryAdvice) -> Response {
        let Parts {
            mut body,
            status,
            headers,
            ..
        } = *self.0;
        advice.complete(&mut body);
        let pause = pause_headers(&body);
        let budgets = budget_headers(&body.budgets);
        let body = body.with_correlation(correlation_id.clone());
        // Serializing plain strings and numbers cannot fail; an empty body would still carry the status.
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Body::from(json));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response.headers_mut().extend(budgets);
        let json_type = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json_type);
        response.headers_mut().extend(pause);
        response
    }
}

/// `Retry-After` and `X-Backoff-Ms` of an error that says when to come back.
pub(crate) fn pause_headers(body: &ErrorBody) -> HeaderMap {
    let headers = body.retry_after_ms.into_iter().flat_map(|ms| {
        [
            (header::RETRY_AFTER, ms.div_ceil(1_000).into()),
            (BACKOFF_HEADER, ms.into()),
        ]
    });
    headers.collect()
}

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        let status =
            StatusCode::from_u16(body.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self(Box::new(Parts {
            body,
            status,
            headers: HeaderMap::new(),
            detail: None,
        }))
    }
}

impl From<Denial> for ApiError {
    fn from(denial: Denial) -> Self {
        let challenge = HeaderValue::from_static(denial.challenge());
        Self::from(ErrorBody::from(denial)).with_header(header::WWW_AUTHENTICATE, challenge)
    }
}

impl From<GuardRefusal> for ApiError {
    fn from(refusal: GuardRefusal) -> Self {
        ErrorBody::from(refusal).into()
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::new(ErrorCode::InvalidParams, error.to_string())
    }
}

impl IntoResponse for ApiError {
    /// A response that carries the error for the front to render.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.status;
        response.extensions_mut().insert(self);
        response
    }
}
