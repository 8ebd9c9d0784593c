//! Entity tags: what a client has need not be sent again.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_front::ApiError;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of a tag: 64 bits of a digest tell versions of one answer apart.
const DIGITS: usize = 16;

/// The tag of an answer that depends on `parts` and nothing else.
pub(super) fn of(parts: &impl Serialize) -> Result<HeaderValue, ApiError> {
    let json = serde_json::to_vec(parts).map_err(ApiError::internal)?;
    let digest = hex::encode(Sha256::digest(json));
    HeaderValue::try_from(format!("\"{}\"", &digest[..DIGITS])).map_err(ApiError::internal)
}

/// Whether the client has that answer.
pub(super) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let listed = headers.get_all(IF_NONE_MATCH).iter();
    let listed = listed.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    listed.map(<[u8]>::trim_ascii).any(|listed| {
        // The weak comparison, as RFC 9110 wants it for this header.
        listed == b"*" || listed.strip_prefix(b"W/").unwrap_or(listed) == tag.as_bytes()
    })
}

/// 304 with the tag.
pub(super) fn not_modified(tag: HeaderValue) -> Response {
    (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response()
}

/// 200 with the tag.
pub(super) fn tagged(tag: HeaderValue, body: impl Serialize) -> Response {
    ([(ETAG, tag)], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REQ-ARTIFACT-API.
    #[test]
    fn a_tag_is_known_among_others_weak_or_as_a_star() {
        let tag = of(&["a", "b"]).unwrap();
        let text = tag.to_str().unwrap();
        let known = |value: &str| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, value.parse().unwrap())]);
            is_known(&headers, &tag)
        };
        assert!(known(text) && known("*") && known(&format!("\"x\", W/{text}")));
        assert!(!known("\"x\"") && !known("") && !known(text.trim_matches('"')));
        assert_ne!(tag, of(&["a", "c"]).unwrap());
        assert!(!is_known(&HeaderMap::new(), &tag));
    }
}
