//! The layer itself: judge, handle, render.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api_types::{CorrelationId, ErrorCode};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Version, header};
use narration_core::Narration;
use tower::{Layer, Service};
use tracing::Instrument;

use super::context::{self, CORRELATION_HEADER};
use super::cors;
use super::rules::{Judged, Rules, Verdict};
use crate::error::ApiError;

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

#[derive(Clone)]
pub(crate) struct FrontLayer {
    rules: Arc<Rules>,
}

impl FrontLayer {
    pub(crate) fn new(rules: Arc<Rules>) -> Self {
        Self { rules }
    }
}

impl<S> Layer<S> for FrontLayer {
    type Service = FrontService<S>;

    fn layer(&self, inner: S) -> FrontService<S> {
        FrontService {
            inner,
            rules: Arc::clone(&self.rules),
        }
    }
}

#[derive(Clone)]
pub(crate) struct FrontService<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S> Service<Request> for FrontService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The clone stays behind; the one that was polled ready is used.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let rules = Arc::clone(&self.rules);
        Box::pin(async move { Ok(answer(&rules, inner, request).await) })
    }
}

async fn answer<S>(rules: &Rules, inner: S, request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let correlation_id = context::correlation_id(request.headers());
    let version = request.version();
    let (parts, body) = request.into_parts();
    let Judged { verdict, cors_origin } = rules.judge(&parts, &correlation_id);
    let response = match verdict {
        Verdict::Handle(context) => {
            let mut request = Request::from_parts(parts, body);
            request.extensions_mut().insert(context);
            handle(inner, request, &correlation_id).await
        }
        Verdict::Preflight => cors::preflight(),
        Verdict::Refuse(error) => error.into_response(),
    };
    let mut response = render(response, rules, version, &correlation_id);
    if let Some(origin) = cors_origin {
        cors::allow(response.headers_mut(), origin);
    }
    response
}

/// Runs the handler; a panic becomes an error body. The panic's text stays in the process: it may
/// hold anything.
async fn handle<S>(mut inner: S, request: Request, correlation_id: &CorrelationId) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let span = tracing::error_span!("request", %correlation_id);
    let call = async move { inner.call(request).await };
    match AssertUnwindSafe(call).catch_unwind().instrument(span).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_panic) => ApiError::internal("a handler panicked").into_response(),
    }
}

fn render(
    mut response: Response,
    rules: &Rules,
    version: Version,
    correlation_id: &CorrelationId,
) -> Response {
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        tell(&error, rules.actor(), correlation_id);
        // A body that is too large is not read to its end, so the connection cannot be used again.
        let close = error.body().code == ErrorCode::PayloadTooLarge && version < Version::HTTP_2;
        let added = std::mem::take(response.headers_mut());
        response = error.render(correlation_id, rules.advice());
        response.headers_mut().extend(added);
        if close {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    let headers = response.headers_mut();
    if let Some(value) = context::header_value(correlation_id) {
        headers.insert(CORRELATION_HEADER, value);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}

fn tell(error: &ApiError, actor: &'static str, correlation_id: &CorrelationId) {
    let Some(detail) = error.detail() else { return };
    tracing::error!(%correlation_id, detail, "internal error");
    Narration::new(
        actor,
        "internal-error",
        &"request",
        "answers with an internal error: this is a bug",
    )
    .correlation_id(correlation_id)
    .error()
    .emit();
}
