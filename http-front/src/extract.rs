//! Extractors whose refusals are the contract's error bodies.

use std::error::Error;

use api_types::ErrorCode;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::body::BodyPaused;
use crate::error::ApiError;
use crate::front::RequestContext;

/// Another body limit for one route, bytes: `.layer(axum::Extension(BodyLimit(n)))` on its method
/// router. Every other route has `http.max_body_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit(pub usize);

/// Limit of a router without a front (tests), bytes.
const NO_FRONT_BODY_LIMIT: usize = 1 << 20;

/// A JSON request body. `Content-Type` must be `application/json`; unknown fields are the type's
/// to refuse; nothing may follow the value; nesting beyond 128 levels is refused by the parser.
#[derive(Debug, Clone, Copy)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        let limit = body_limit(&request);
        let bytes = read(request.into_body(), limit).await?;
        parse(&bytes).map(Self)
    }
}

fn body_limit(request: &Request) -> usize {
    let extensions = request.extensions();
    let of_route = extensions.get::<BodyLimit>().map(|limit| limit.0);
    of_route
        .or_else(|| {
            extensions
                .get::<RequestContext>()
                .map(|context| context.body_limit)
        })
        .unwrap_or(NO_FRONT_BODY_LIMIT)
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    let essence = given.split(|b| *b == b';').next().unwrap_or(given).trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        Ok(())
    } else {
        Err(ApiError::new(
            ErrorCode::InvalidParams,
            "the Content-Type of the request must be application/json",
        ))
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(body_error(&*error, limit)),
    }
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        ErrorCode::PayloadTooLarge,
        format!("the request body is larger than {limit} bytes"),
    )
}

fn body_error(error: &(dyn Error + 'static), limit: usize) -> ApiError {
    if caused_by::<LengthLimitError>(error).is_some() {
        return too_large(limit);
    }
    let message = caused_by::<BodyPaused>(error).map_or_else(
        || "the request body ended early or is malformed".to_owned(),
        ToString::to_string,
    );
    ApiError::new(ErrorCode::InvalidParams, message)
}

fn caused_by<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidParams, message);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| invalid(wording(&error)))?;
    json.end()
        .map_err(|_| invalid("there is something after the JSON value".to_owned()))?;
    Ok(value)
}

/// `field: what is wrong`, or the parser's words where no field is to blame.
fn wording(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let said = error.inner().to_string();
    let path = error.path().to_string();
    if path == "." || error.inner().is_syntax() || error.inner().is_eof() {
        said
    } else {
        format!("{path}: {said}")
    }
}

/// Path parameters.
#[derive(Debug, Clone, Copy)]
pub struct ApiPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for ApiPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) if rejection.status().is_server_error() => Err(ApiError::internal(rejection)),
            Err(rejection) => Err(ApiError::new(ErrorCode::InvalidParams, rejection.body_text())),
        }
    }
}

/// Query parameters.
#[derive(Debug, Clone, Copy)]
pub struct ApiQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::new(ErrorCode::InvalidParams, rejection.body_text())),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestContext {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let context = parts.extensions.get::<Self>().cloned();
        context.ok_or_else(|| ApiError::internal("a route was reached without the front"))
    }
}
