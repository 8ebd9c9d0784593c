//! Response headers that repeat what matters of a body, for clients that look no further.

use http::{HeaderMap, HeaderName, HeaderValue};

const POSITION: HeaderName = HeaderName::from_static("x-queue-position");
const START: HeaderName = HeaderName::from_static("x-predicted-start-ms");
const END: HeaderName = HeaderName::from_static("x-predicted-end-ms");

/// Tasks ahead, and start and end in ms from now; what is unknown has no header.
pub(super) fn estimate(position: Option<u32>, start_ms: Option<u64>, end_ms: Option<u64>) -> HeaderMap {
    let numbers = [
        (POSITION, position.map(u64::from)),
        (START, start_ms),
        (END, end_ms),
    ];
    let known = numbers
        .into_iter()
        .filter_map(|(name, number)| Some((name, HeaderValue::from(number?))));
    known.collect()
}
