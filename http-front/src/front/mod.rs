//! The one layer every request passes, in this order:
//!
//! 1. correlation id: a valid `X-Correlation-Id` is kept, else a UUIDv7 is made;
//! 2. header limits → 413;
//! 3. host and origin guard → 403, before the body is read; a CORS preflight ends here;
//! 4. authentication by matched route → 401, except on the public routes;
//! 5. the handler, inside a span with the correlation id; a panic → 500;
//! 6. rendering: error bodies, correlation id, `nosniff`, CORS headers.
//!
//! It is one service instead of a stack of layers: per request one boxed future, per response body
//! no wrapping at all.

mod context;
mod cors;
mod rules;
mod service;

use std::net::SocketAddr;
use std::sync::Arc;

use api_types::ErrorCode;
use auth_min::{BindRefusal, Guard, Policy};
use axum::Router;
use axum::extract::Request;
use config_schema::{Auth, Http};
use http::StatusCode;

use crate::advice::RetryAdvice;
use crate::error::ApiError;
pub use context::RequestContext;
use rules::Rules;
use service::FrontLayer;

/// Routes that need no token, by their pattern.
pub const PUBLIC_ROUTES: &[&str] = &["/healthz", "/readyz"];

/// The rules of a daemon's front.
#[derive(Debug)]
pub struct Front {
    rules: Rules,
}

impl Front {
    /// The front of a daemon that listens on `addr`. `actor` is the daemon's name in narration.
    ///
    /// # Errors
    /// [`BindRefusal`] (code 40301) for an address beyond loopback without a token (AUTH-1002).
    pub fn new(actor: &'static str, auth: &Auth, http: &Http, addr: SocketAddr) -> Result<Self, BindRefusal> {
        let proxies = auth.trusted_proxies.iter().copied().filter(|_| auth.trust_proxy);
        let policy = Policy::new(auth.token.as_ref(), auth.optional, proxies);
        policy.check_bind(addr)?;
        let hosts = http.allowed_hosts.iter().map(|host| host.as_str());
        let origins = http.allowed_origins.iter().map(|origin| origin.as_str());
        let guard = Guard::new(addr.ip(), hosts, origins);
        Ok(Self {
            rules: Rules::new(actor, policy, guard, http),
        })
    }

    /// Routes, by their pattern, that need the token wherever one is configured, also of local
    /// callers under `AUTH_OPTIONAL` (worker registration, AUTH-1003).
    #[must_use]
    pub fn always_token(mut self, routes: &'static [&'static str]) -> Self {
        self.rules.insist_on(routes);
        self
    }

    /// Where refusals without a pause of their own take one from (ORCH-3106).
    #[must_use]
    pub fn advised_by(mut self, advice: RetryAdvice) -> Self {
        self.rules.take_advice(advice);
        self
    }

    /// Puts the front before a router. Routes added afterwards would not pass it, so this comes last.
    pub fn wrap(self, router: Router) -> Router {
        router
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(FrontLayer::new(Arc::new(self.rules)))
    }
}

async fn not_found(request: Request) -> ApiError {
    let path = request.uri().path();
    ApiError::new(ErrorCode::NotFound, format!("there is no {path} here"))
}

/// `Allow` is added by the router. The contract has no code of its own for this: the method is a
/// wrong parameter.
async fn method_not_allowed(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::new(ErrorCode::InvalidParams, format!("{path} does not take {method}"))
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
}
