//! `POST /v1/artifacts`, `GET /v1/artifacts[/{id}]`.

use std::sync::Arc;

use api_types::{
    Artifact, ArtifactId, ArtifactInfo, ArtifactList, ArtifactQuery, ArtifactRequest, ContentEncoding,
    ErrorBody, ErrorCode,
};
use artifact_store::{Filter, GetError, Meta, PutError, Stored};
use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use http_front::{ApiError, ApiJson, ApiPath, ApiQuery, BodyLimit, RequestContext};
use narration_core::Narration;

use super::{AppState, etag};
use crate::artifacts::{Artifacts, Refused, Upload};
use crate::story::ACTOR;

/// Most artifacts on one page.
const MAX_PAGE: u32 = 1000;
/// Artifacts on a page unless the query says otherwise.
const DEFAULT_PAGE: u32 = 100;
/// Bytes of a request beside its content.
const AROUND_CONTENT: usize = 64 << 10;

/// Stores an artifact under the digest of its content.
///
/// The same content again is the same artifact: 200 instead of 201, its tags are joined, and its age begins anew; as
/// another kind or media type it is CONFLICT. A body may have twice `artifacts.max_bytes`, for the escapes of JSON.
#[utoipa::path(
    post,
    path = "/v1/artifacts",
    tag = "artifacts",
    request_body = ArtifactRequest,
    responses(
        (status = 201, description = "Stored; it survives a power cut", body = ArtifactInfo),
        (status = 200, description = "The same content was there", body = ArtifactInfo),
        (status = 400, description = "INVALID_PARAMS: the field and its rule", body = ErrorBody),
        (status = 403, description = "FORBIDDEN: host or origin, or this installation keeps nothing (`artifacts_off`)", body = ErrorBody),
        (status = 409, description = "CONFLICT: the same content is there as another kind or media type", body = ErrorBody),
        (status = 413, description = "PAYLOAD_TOO_LARGE: the content or the body, with the limit", body = ErrorBody),
        (status = 503, description = "The disk is full (`artifacts_disk_full`), or the daemon is stopping", body = ErrorBody),
    )
)]
pub(super) async fn put(
    State(state): State<AppState>,
    context: RequestContext,
    request: Request,
) -> Result<(StatusCode, Json<ArtifactInfo>), ApiError> {
    let artifacts = state.artifacts.as_ref().ok_or_else(off)?;
    let _turn = artifacts.turn().await;
    let request = read(request, artifacts).await?;
    let upload = upload(request)?;
    let put = artifacts.put(upload).await.map_err(ApiError::internal)?;
    let (meta, created) = put.map_err(refused)?;
    let info = meta.info;
    let (status, action, human) = if created {
        (StatusCode::CREATED, "store", "Stores an artifact.")
    } else {
        (StatusCode::OK, "keep", "Keeps an artifact that was there.")
    };
    Narration::new(ACTOR, action, &info.id, human)
        .correlation_id(&context.correlation_id)
        .identity(context.identity.as_ref())
        .emit();
    Ok((status, Json(info)))
}

/// The body may be larger than that of other routes.
async fn read(mut request: Request, artifacts: &Artifacts) -> Result<ArtifactRequest, ApiError> {
    let most = usize::try_from(artifacts.options().limits.max_artifact_bytes).unwrap_or(usize::MAX);
    let limit = most.saturating_mul(2).saturating_add(AROUND_CONTENT);
    request.extensions_mut().insert(BodyLimit(limit));
    let ApiJson(request) = ApiJson::<ArtifactRequest>::from_request(request, &()).await?;
    request.validate()?;
    Ok(request)
}

fn upload(request: ArtifactRequest) -> Result<Upload, ApiError> {
    let media_type = request.media_type().to_owned();
    let content = match request.encoding {
        ContentEncoding::Utf8 => request.content.into_bytes(),
        ContentEncoding::Base64 => STANDARD.decode(&request.content).map_err(|error| {
            ApiError::new(
                ErrorCode::InvalidParams,
                format!("content: is not base64: {error}"),
            )
        })?,
    };
    if content.is_empty() {
        return Err(ApiError::new(
            ErrorCode::InvalidParams,
            "content: must not be empty",
        ));
    }
    Ok(Upload {
        kind: request.kind,
        media_type,
        tags: request.tags,
        content,
    })
}

/// Shows an artifact with its content, whose digest is verified.
#[utoipa::path(
    get,
    path = "/v1/artifacts/{id}",
    tag = "artifacts",
    params(
        ("id" = ArtifactId, Path, description = "Artifact id"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an answer that the client has"),
    ),
    responses(
        (status = 200, description = "The artifact", body = Artifact, headers(("ETag" = String, description = "Of this answer"))),
        (status = 304, description = "The client has it", headers(("ETag" = String, description = "Of that answer"))),
        (status = 400, description = "INVALID_PARAMS: not an artifact id", body = ErrorBody),
        (status = 404, description = "NOT_FOUND: never stored, or removed by age or size", body = ErrorBody),
        (status = 500, description = "INTERNAL: damaged on the disk (`artifact_damaged`), or a bug of the daemon", body = ErrorBody),
    )
)]
pub(super) async fn show(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<ArtifactId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::new(ErrorCode::NotFound, format!("there is no artifact {id}"));
    let artifacts = state.artifacts.as_ref().ok_or_else(unknown)?;
    let found = artifacts.get(id).await.map_err(ApiError::internal)?;
    let Stored { meta, content } = found.map_err(unreadable)?.ok_or_else(unknown)?;
    let tag = etag::of(&meta.info)?;
    if etag::is_known(&headers, &tag) {
        return Ok(etag::not_modified(tag));
    }
    Ok(etag::tagged(tag, document(meta, content)))
}

fn document(meta: Meta, content: Vec<u8>) -> Artifact {
    let (encoding, content) = match String::from_utf8(content) {
        Ok(text) => (ContentEncoding::Utf8, text),
        Err(bytes) => (ContentEncoding::Base64, STANDARD.encode(bytes.as_bytes())),
    };
    Artifact {
        info: meta.info,
        encoding,
        content,
    }
}

/// Lists artifacts, newest first, without their content. The trace of a task has the tag `task:<task id>`.
#[utoipa::path(
    get,
    path = "/v1/artifacts",
    tag = "artifacts",
    params(
        ArtifactQuery,
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an answer that the client has"),
    ),
    responses(
        (status = 200, description = "One page", body = ArtifactList, headers(("ETag" = String, description = "Of this answer"))),
        (status = 304, description = "The client has it", headers(("ETag" = String, description = "Of that answer"))),
        (status = 400, description = "INVALID_PARAMS", body = ErrorBody),
    )
)]
pub(super) async fn list(
    State(state): State<AppState>,
    ApiQuery(query): ApiQuery<ArtifactQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (filter, limit) = filter(query)?;
    let page = match &state.artifacts {
        Some(artifacts) => page(artifacts, filter, limit).await?,
        None => ArtifactList {
            artifacts: Vec::new(),
            next_cursor: None,
        },
    };
    let tag = etag::of(&page)?;
    if etag::is_known(&headers, &tag) {
        return Ok(etag::not_modified(tag));
    }
    Ok(etag::tagged(tag, page))
}

async fn page(artifacts: &Arc<Artifacts>, filter: Filter, limit: usize) -> Result<ArtifactList, ApiError> {
    let mut found = artifacts
        .list(filter, limit + 1)
        .await
        .map_err(ApiError::internal)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|meta| meta.seq.to_string());
    Ok(ArtifactList {
        artifacts: found.into_iter().map(|meta| meta.info).collect(),
        next_cursor,
    })
}

fn filter(query: ArtifactQuery) -> Result<(Filter, usize), ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidParams, message);
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(invalid(format!("limit: is {limit}, must be 1 to {MAX_PAGE}")));
    }
    let before = query.cursor.as_deref().map(str::parse).transpose();
    let before = before.map_err(|_| invalid("cursor: is not the next_cursor of a page".into()))?;
    let filter = Filter {
        tag: query.tag,
        kind: query.kind,
        before,
    };
    Ok((filter, limit as usize))
}

/// Without a state directory there is no place.
fn off() -> ApiError {
    ErrorBody::new(ErrorCode::Forbidden, "this installation keeps no artifacts")
        .with_reason("artifacts_off")
        .with_hint("set orchestratord.durability to process or strict")
        .into()
}

fn refused(refused: Refused) -> ApiError {
    let code = match &refused {
        Refused::Secret | Refused::Put(PutError::TooManyTags { .. }) => ErrorCode::InvalidParams,
        Refused::Put(PutError::TooLarge { .. }) => ErrorCode::PayloadTooLarge,
        Refused::Put(PutError::Differs { .. }) => ErrorCode::Conflict,
        Refused::Put(PutError::DiskFull) => return disk_full(&refused),
        Refused::Put(PutError::Io(source)) => return ApiError::internal(format_args!("{refused}: {source}")),
    };
    ApiError::new(code, refused.to_string())
}

fn disk_full(refused: &Refused) -> ApiError {
    let mut body = ErrorBody::new(ErrorCode::PoolUnavailable, refused.to_string())
        .with_reason("artifacts_disk_full")
        .with_hint("free room on the disk of the orchestrator's state directory");
    body.retriable = true;
    body.into()
}

fn unreadable(error: GetError) -> ApiError {
    match error {
        GetError::Damaged { id } => {
            Narration::new(
                ACTOR,
                "read",
                &id,
                "An artifact is damaged on the disk and is not served.",
            )
            .error()
            .emit();
            ErrorBody::new(
                ErrorCode::Internal,
                format!("artifact {id} is damaged on the disk"),
            )
            .with_reason("artifact_damaged")
            .with_hint("store its content again, or let it go")
            .into()
        }
        GetError::Io { id, source } => ApiError::internal(format_args!("artifact {id}: {source}")),
    }
}
