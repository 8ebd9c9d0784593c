//! What a handler knows about its request besides the request.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use api_types::CorrelationId;
use auth_min::Identity;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::serve::Peer;

pub(crate) const CORRELATION_HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// Correlation id, identity and peer of a request; an extractor.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Ties the request's log lines, frames and headers together.
    pub correlation_id: CorrelationId,
    /// Who asks; `None` on a public route, where nobody was asked.
    pub identity: Option<Identity>,
    /// The other end of the connection.
    pub peer: SocketAddr,
    pub(crate) body_limit: usize,
}

/// The client's correlation id where it is a valid one, else a new UUIDv7.
pub(crate) fn correlation_id(headers: &HeaderMap) -> CorrelationId {
    let given = headers
        .get(CORRELATION_HEADER)
        .and_then(|value| value.to_str().ok());
    given
        .and_then(CorrelationId::parse)
        .unwrap_or_else(|| CorrelationId::from_uuid(Uuid::now_v7()))
}

/// The id as a header value. Ids are visible ASCII, so the conversion cannot fail.
pub(crate) fn header_value(id: &CorrelationId) -> Option<HeaderValue> {
    HeaderValue::from_str(id.as_str()).ok()
}

/// Without a connection (a router called directly) nobody is local.
pub(crate) fn peer(extensions: &http::Extensions) -> SocketAddr {
    let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    extensions.get::<Peer>().map_or(unknown, |peer| peer.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_id_is_kept_and_any_other_replaced() {
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([(CORRELATION_HEADER, text.parse().unwrap())]);
            correlation_id(&headers)
        };
        assert_eq!(of("abc-123").as_str(), "abc-123");
        for bad in ["", "a b", &"x".repeat(129), "é"] {
            let made = of(bad);
            assert_eq!(Uuid::parse_str(made.as_str()).unwrap().get_version_num(), 7);
        }
    }
}
