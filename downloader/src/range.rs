//! What an answer says of the bytes it brings. Pure.

use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap};

/// The bytes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    /// The whole file, of this size where it is told.
    Whole(Option<u64>),
    /// From here to there (exclusive), of a file of this size where it is told.
    Part(u64, u64, Option<u64>),
    /// The file ends before what was asked for; its size, where it is told.
    Beyond(Option<u64>),
}

/// `None` for an answer that brings no bytes, or says of them what cannot be.
pub(crate) fn range(status: StatusCode, headers: &HeaderMap) -> Option<Range> {
    match status {
        StatusCode::OK => Some(Range::Whole(number(headers))),
        StatusCode::PARTIAL_CONTENT => {
            let ContentRange { span, size } = content_range(headers)?;
            let (begin, end) = span?;
            Some(Range::Part(begin, end, size))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            Some(Range::Beyond(content_range(headers).and_then(|range| range.size)))
        }
        _ => None,
    }
}

/// The header of that name.
struct ContentRange {
    /// First byte and the one behind the last.
    span: Option<(u64, u64)>,
    /// Of the whole file.
    size: Option<u64>,
}

/// `bytes 0-9/10`, `bytes 0-9/*`, `bytes */10`.
fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (span, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let size = if size == "*" { None } else { Some(digits(size)?) };
    if span == "*" {
        return Some(ContentRange { span: None, size });
    }
    let (first, last) = span.split_once('-')?;
    let (begin, end) = (digits(first)?, digits(last)?.checked_add(1)?);
    let sound = begin < end && size.is_none_or(|size| end <= size);
    sound.then_some(ContentRange {
        span: Some((begin, end)),
        size,
    })
}

fn number(headers: &HeaderMap) -> Option<u64> {
    digits(headers.get(CONTENT_LENGTH)?.to_str().ok()?)
}

fn digits(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// A validator that tells every change. Weak ones do not, and are none.
pub(crate) fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(ETAG)?.to_str().ok()?;
    (etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2).then(|| etag.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn part(text: &'static str) -> Option<Range> {
        let headers = [(CONTENT_RANGE, HeaderValue::from_static(text))];
        range(StatusCode::PARTIAL_CONTENT, &headers.into_iter().collect())
    }

    #[test]
    fn ranges() {
        assert_eq!(part("bytes 0-9/10"), Some(Range::Part(0, 10, Some(10))));
        assert_eq!(part("bytes 5-5/*"), Some(Range::Part(5, 6, None)));
        for lie in [
            "bytes 0-10/10",
            "bytes 9-5/10",
            "bytes */10",
            "bytes -5/10",
            "bytes 0-18446744073709551615/*",
            "items 0-1/2",
            "bytes 0-1",
            "bytes +0-1/2",
        ] {
            assert_eq!(part(lie), None, "{lie}");
        }
        let beyond = [(CONTENT_RANGE, HeaderValue::from_static("bytes */10"))];
        let beyond = range(StatusCode::RANGE_NOT_SATISFIABLE, &beyond.into_iter().collect());
        assert_eq!(beyond, Some(Range::Beyond(Some(10))));
        assert_eq!(range(StatusCode::OK, &HeaderMap::new()), Some(Range::Whole(None)));
        assert_eq!(range(StatusCode::NOT_FOUND, &HeaderMap::new()), None);
    }

    #[test]
    fn only_strong_validators_count() {
        let etag =
            |text: &'static str| strong_etag(&[(ETAG, HeaderValue::from_static(text))].into_iter().collect());
        assert_eq!(etag("\"a\"").as_deref(), Some("\"a\""));
        assert_eq!((etag("W/\"a\""), etag("a"), etag("\"\"")), (None, None, None));
    }
}
