//! Admission of a request: header limits, guard, authentication.

use api_types::{CorrelationId, ErrorCode};
use auth_min::{
    Caller, Credential, Guard, GuardRefusal, Headers, HostError, Identity, Need, Outcome, Passed, Policy,
};
use axum::extract::MatchedPath;
use config_schema::Http;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use narration_core::Narration;

use super::context::{self, RequestContext};
use super::{PUBLIC_ROUTES, cors};
use crate::advice::RetryAdvice;
use crate::error::ApiError;
use crate::throttle::Throttle;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_PREFIX: &str = "x-forwarded-";

#[derive(Debug)]
pub(crate) struct Rules {
    actor: &'static str,
    policy: Policy,
    guard: Guard,
    insist: &'static [&'static str],
    max_headers: usize,
    max_header_bytes: usize,
    body_limit: usize,
    advice: RetryAdvice,
    denied: Throttle,
}

/// What becomes of a request.
pub(crate) enum Verdict {
    /// It goes to its handler.
    Handle(RequestContext),
    /// It is a CORS preflight, and allowed.
    Preflight,
    /// It is refused.
    Refuse(ApiError),
}

/// The verdict, and the configured origin the answer must name.
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) cors_origin: Option<HeaderValue>,
}

impl Rules {
    pub(crate) fn new(actor: &'static str, policy: Policy, guard: Guard, http: &Http) -> Self {
        Self {
            actor,
            policy,
            guard,
            insist: &[],
            max_headers: http.max_headers.get(),
            max_header_bytes: http.max_header_bytes.get(),
            body_limit: http.max_body_bytes.get(),
            advice: RetryAdvice::default(),
            denied: Throttle::new(),
        }
    }

    pub(crate) const fn actor(&self) -> &'static str {
        self.actor
    }

    pub(crate) const fn advice(&self) -> &RetryAdvice {
        &self.advice
    }

    pub(crate) fn take_advice(&mut self, advice: RetryAdvice) {
        self.advice = advice;
    }

    pub(crate) fn insist_on(&mut self, routes: &'static [&'static str]) {
        self.insist = routes;
    }

    pub(crate) fn judge(&self, request: &Parts, correlation_id: &CorrelationId) -> Judged {
        let passed = self
            .check_headers(&request.headers)
            .and_then(|()| self.check_browser(request));
        match passed {
            Ok(passed) => Judged {
                verdict: self.authenticate(request, passed, correlation_id),
                cors_origin: request
                    .headers
                    .get(header::ORIGIN)
                    .filter(|_| passed.cross_origin)
                    .cloned(),
            },
            Err(error) => Judged {
                verdict: Verdict::Refuse(error),
                cors_origin: None,
            },
        }
    }

    fn check_headers(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        let too_large = |what: &str, found: usize, limit: usize| {
            let message = format!("the request has {found} {what}, at most {limit} are allowed");
            Err(ApiError::new(ErrorCode::PayloadTooLarge, message))
        };
        if headers.len() > self.max_headers {
            return too_large("headers", headers.len(), self.max_headers);
        }
        if bytes > self.max_header_bytes {
            return too_large("header bytes", bytes, self.max_header_bytes);
        }
        Ok(())
    }

    fn check_browser(&self, request: &Parts) -> Result<Passed, ApiError> {
        let one = |name| request.headers.get(name).map(HeaderValue::as_bytes);
        let headers = Headers {
            host: host(request),
            origin: one(header::ORIGIN),
            fetch_site: one(FETCH_SITE),
        };
        let origins = request.headers.get_all(header::ORIGIN).iter().count();
        if origins > 1 {
            return Err(GuardRefusal::ForeignOrigin.into());
        }
        self.guard.check(&headers).map_err(ApiError::from)
    }

    fn authenticate(&self, request: &Parts, passed: Passed, correlation_id: &CorrelationId) -> Verdict {
        if passed.cross_origin && cors::is_preflight(&request.method, &request.headers) {
            return Verdict::Preflight;
        }
        let peer = context::peer(&request.extensions);
        let handle = |identity: Option<Identity>| {
            Verdict::Handle(RequestContext {
                correlation_id: correlation_id.clone(),
                identity,
                peer,
                body_limit: self.body_limit,
            })
        };
        let route = request.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
        let Some(need) = self.need(route) else {
            return handle(None);
        };
        match self.policy.decide(&caller(request, passed, peer.ip()), need) {
            Outcome::Allowed(identity) => {
                tracing::debug!(%correlation_id, %identity, route, "admits a caller");
                handle(Some(identity))
            }
            Outcome::Denied(denial) => {
                self.tell(denial, peer.ip(), correlation_id);
                Verdict::Refuse(denial.into())
            }
        }
    }

    /// `None` for a public route. A path that matches no route needs a token like any other.
    fn need(&self, route: Option<&str>) -> Option<Need> {
        match route {
            Some(route) if PUBLIC_ROUTES.contains(&route) => None,
            Some(route) if self.insist.contains(&route) => Some(Need::Token),
            _ => Some(Need::TokenUnlessLocal),
        }
    }

    fn tell(&self, denial: auth_min::Denial, peer: std::net::IpAddr, correlation_id: &CorrelationId) {
        if let Some(more) = self.denied.allow() {
            let human = if more == 0 {
                format!("refuses a caller: {denial}")
            } else {
                format!("refuses a caller, and {more} before: {denial}")
            };
            Narration::new(self.actor, "auth-denied", &peer, human)
                .correlation_id(correlation_id)
                .warning()
                .emit();
        }
    }
}

fn caller<'a>(request: &'a Parts, passed: Passed, peer: std::net::IpAddr) -> Caller<'a> {
    let headers = &request.headers;
    let values = headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .map(HeaderValue::as_bytes);
    Caller {
        peer,
        credential: Credential::from_headers(values),
        loopback_host: passed.loopback_host,
        from_page: headers.contains_key(header::ORIGIN),
        forwarded: is_forwarded(headers),
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(header::FORWARDED)
        || headers
            .keys()
            .any(|name| name.as_str().starts_with(FORWARDED_PREFIX))
}

/// The one host a request names: in its target (`:authority`, absolute form) or in `Host`. Where
/// both do, they must agree.
fn host(request: &Parts) -> Result<&str, HostError> {
    let target = request.uri.authority().map(|authority| Ok(authority.as_str()));
    let headers = request.headers.get_all(header::HOST).iter();
    let headers = headers.map(|value| value.to_str().map_err(|_| HostError::Malformed));
    let mut named = target.into_iter().chain(headers);
    let first = named.next().ok_or(HostError::Missing)??;
    let agree = named.all(|host| host.is_ok_and(|host| host.eq_ignore_ascii_case(first)));
    let once = request.headers.get_all(header::HOST).iter().count() <= 1;
    if agree && once {
        Ok(first)
    } else {
        Err(HostError::Repeated)
    }
}
