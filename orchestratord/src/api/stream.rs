//! `GET /v1/tasks/{id}/stream`: the task log as server-sent events.

use api_types::{ErrorBody, ErrorCode, TaskId};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use http_front::{ApiError, ApiPath, Sent};

use super::AppState;
use super::tasks::{gone, unknown};
use crate::task_log::encode::FrameId;
use crate::task_log::{Reader, ResumePoint};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Longest id a client may send back; ours have at most 31 characters.
const MAX_EVENT_ID: usize = 64;

/// Streams a task: `started, token…, end | error`, with `metrics` and `narration` between.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}/stream",
    tag = "tasks",
    params(
        ("id" = TaskId, Path, description = "Task id"),
        ("Last-Event-ID" = Option<String>, Header, description = "Resume after this frame")
    ),
    responses(
        (status = 200, description = "Server-sent events: one `TaskEvent` each", content_type = "text/event-stream", body = api_types::TaskEvent),
        (status = 204, description = "The stream had already ended at that frame"),
        (status = 400, description = "INVALID_PARAMS: a malformed Last-Event-ID", body = ErrorBody),
        (status = 404, description = "NOT_FOUND", body = ErrorBody),
    )
)]
pub(super) async fn open(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<TaskId>,
    request: Request,
) -> Result<Response, ApiError> {
    let after = last_event_id(request.headers())?;
    let log = state
        .dispatcher
        .open(id)
        .await
        .map_err(gone)?
        .ok_or_else(|| unknown(id))?;
    let gone = state.dispatcher.signals().reader_gone(id);
    match log.reader(after, gone) {
        Ok(reader) => {
            let reader = match request.extensions().get::<Sent>() {
                Some(connection) => reader.over(connection.clone()),
                None => reader,
            };
            Ok(event_stream(reader, &state, request.version()))
        }
        Err(ResumePoint::Ended { .. }) => Ok(no_content()),
        Err(ahead @ ResumePoint::Ahead { .. }) => Err(malformed(&ahead.to_string())),
    }
}

fn event_stream(reader: Reader, state: &AppState, version: Version) -> Response {
    let mut response = Response::new(Body::new(reader.into_body(state.heartbeat)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    // HTTP/2 forbids it.
    if version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    response
}

fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The frame the client has seen last, from `<epoch>.<n>`.
fn last_event_id(headers: &HeaderMap) -> Result<Option<FrameId>, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| malformed("it is not visible ASCII"))?;
    // A browser that has seen no id yet sends none or an empty one.
    if text.is_empty() {
        return Ok(None);
    }
    parse_event_id(text)
        .map(Some)
        .ok_or_else(|| malformed("an id of this stream looks like 0.17"))
}

fn parse_event_id(text: &str) -> Option<FrameId> {
    let (epoch, n) = Some(text)
        .filter(|text| text.len() <= MAX_EVENT_ID)?
        .split_once('.')?;
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(epoch) || !digits(n) {
        return None;
    }
    Some(FrameId {
        epoch: epoch.parse().ok()?,
        n: n.parse().ok()?,
    })
}

fn malformed(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidParams, format!("Last-Event-ID: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_ids_parse() {
        assert_eq!(parse_event_id("0.17"), Some(FrameId { epoch: 0, n: 17 }));
        assert_eq!(parse_event_id("2.0"), Some(FrameId { epoch: 2, n: 0 }));
        for bad in [
            "",
            "17",
            "0.",
            ".1",
            "4294967296.2",
            "0.-1",
            "0.+1",
            "0.1 ",
            "0.1.2",
            "0.99999999999999999999",
            "x.1",
        ] {
            assert_eq!(parse_event_id(bad), None, "{bad:?}");
        }
        assert_eq!(parse_event_id(&format!("0.{}", "0".repeat(70))), None);
    }
}
