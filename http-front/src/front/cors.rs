//! Cross-origin answers for configured origins. Nothing here runs unless one is configured and the
//! request carries exactly that origin.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

/// What a page may send.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, last-event-id, x-correlation-id");
/// What a page may read, beyond the usual.
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "retry-after, x-backoff-ms, x-budget-cost-remaining, x-budget-time-remaining-ms, x-budget-tokens-remaining, x-correlation-id, x-predicted-end-ms, x-predicted-start-ms, x-queue-position",
);
/// How long a browser may remember the answer, seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Whether a request asks for permission only.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The permission.
pub(crate) fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Lets the page of `origin` read a response.
pub(crate) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}
