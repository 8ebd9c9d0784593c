//! Who may call: the decision and its reasons.

use std::fmt;
use std::net::IpAddr;

use api_types::{ErrorBody, ErrorCode};
use secrecy::SecretString;

use crate::credential::{Credential, Malformed};
use crate::token::{Fp6, TokenDigest};

/// Who a caller is, as logs show it (AUTH-1008).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// A program on this machine that needed no token.
    Localhost,
    /// The holder of the token with this fingerprint.
    Token(Fp6),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost => f.write_str("localhost"),
            Self::Token(fp6) => write!(f, "token:{fp6}"),
        }
    }
}

/// What a route asks of its callers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Need {
    /// The token, or a local caller where `AUTH_OPTIONAL` allows it.
    #[default]
    TokenUnlessLocal,
    /// The token wherever one is configured; `AUTH_OPTIONAL` changes nothing (worker routes).
    Token,
}

/// What is known about a caller.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// What the request presents.
    pub credential: Credential<'a>,
    /// `Host` is a loopback name or address.
    pub loopback_host: bool,
    /// There is an `Origin`: a browser page asks.
    pub from_page: bool,
    /// There is a `Forwarded` or `X-Forwarded-*` header: a proxy speaks for somebody.
    pub forwarded: bool,
}

impl Caller<'_> {
    /// A program on this machine that speaks for itself. Any doubt means no: another peer, a name
    /// that is not loopback (DNS rebinding), a page in a browser, a proxy.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.peer.to_canonical().is_loopback() && self.loopback_host && !self.from_page && !self.forwarded
    }
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an auth result that nobody reads protects nothing"]
pub enum Outcome {
    /// May go on, as this identity.
    Allowed(Identity),
    /// May not.
    Denied(Denial),
}

/// Why a caller may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No token where one is needed.
    #[error("a token is needed: Authorization: Bearer <token>")]
    MissingToken,
    /// A token, but not ours.
    #[error("the token is not the one of this daemon")]
    BadToken,
    /// Not a bearer credential.
    #[error(transparent)]
    Malformed(Malformed),
    /// A proxy presents a token, and this daemon does not believe that proxy.
    #[error("the request comes through a proxy that this daemon does not trust")]
    UntrustedProxy,
}

impl Denial {
    /// The code of the HTTP contract.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::MissingToken => ErrorCode::MissingToken,
            Self::BadToken | Self::Malformed(_) | Self::UntrustedProxy => ErrorCode::BadToken,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::MissingToken => "pass --auth-token or set AUTH_TOKEN to the daemon's token",
            Self::BadToken => "compare the token's fingerprint with the identity in the daemon's log",
            Self::Malformed(_) => "send exactly one header of the form Authorization: Bearer <token>",
            Self::UntrustedProxy => {
                "set TRUST_PROXY_AUTH=true and list the proxy's address in auth.trusted_proxies"
            }
        }
    }

    /// The value of the `WWW-Authenticate` header.
    #[must_use]
    pub const fn challenge(self) -> &'static str {
        match self {
            Self::MissingToken => r#"Bearer realm="llama-orch""#,
            Self::BadToken | Self::UntrustedProxy => r#"Bearer realm="llama-orch", error="invalid_token""#,
            Self::Malformed(_) => r#"Bearer realm="llama-orch", error="invalid_request""#,
        }
    }
}

impl From<Denial> for ErrorBody {
    fn from(denial: Denial) -> Self {
        Self::new(denial.code(), denial.to_string()).with_hint(denial.hint())
    }
}

/// The rules of one daemon.
#[derive(Debug, Clone)]
pub struct Policy {
    token: Option<TokenDigest>,
    optional: bool,
    trusted_proxies: Vec<IpAddr>,
}

impl Policy {
    /// `optional` is `AUTH_OPTIONAL`; `trusted_proxies` is empty unless `TRUST_PROXY_AUTH` is on.
    #[must_use]
    pub fn new(
        token: Option<&SecretString>,
        optional: bool,
        trusted_proxies: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        Self {
            token: token.map(TokenDigest::of),
            optional,
            trusted_proxies: trusted_proxies.into_iter().map(|ip| ip.to_canonical()).collect(),
        }
    }

    /// Whether a token is configured.
    #[must_use]
    pub const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether an address is that of a proxy this daemon believes.
    #[must_use]
    pub fn trusts_proxy(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.contains(&peer.to_canonical())
    }

    /// Decides about one request.
    ///
    /// Without a configured token (possible on loopback only, see [`check_bind`](Self::check_bind))
    /// local callers pass and nobody else. With one, whoever presents it passes, and a credential
    /// that is presented is always judged; a local caller may leave it out where `AUTH_OPTIONAL`
    /// is set and the route does not insist.
    pub fn decide(&self, caller: &Caller<'_>, need: Need) -> Outcome {
        let Some(expected) = &self.token else {
            return local_or(caller.is_local(), Denial::MissingToken);
        };
        match caller.credential {
            Credential::Absent => {
                let may_omit = self.optional && need == Need::TokenUnlessLocal;
                local_or(may_omit && caller.is_local(), Denial::MissingToken)
            }
            Credential::Malformed(why) => Outcome::Denied(Denial::Malformed(why)),
            Credential::Bearer(_) if caller.forwarded && !self.trusts_proxy(caller.peer) => {
                Outcome::Denied(Denial::UntrustedProxy)
            }
            Credential::Bearer(token) if expected.matches(token) => {
                Outcome::Allowed(Identity::Token(expected.fp6()))
            }
            Credential::Bearer(_) => Outcome::Denied(Denial::BadToken),
        }
    }
}

const fn local_or(local: bool, denial: Denial) -> Outcome {
    if local {
        Outcome::Allowed(Identity::Localhost)
    } else {
        Outcome::Denied(denial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROXY: &str = "10.0.0.9";

    fn policy(token: bool, optional: bool, proxy: bool) -> Policy {
        let token = token.then(|| SecretString::from("secret"));
        Policy::new(token.as_ref(), optional, proxy.then(|| PROXY.parse().unwrap()))
    }

    fn caller(peer: &str, credential: Credential<'static>) -> Caller<'static> {
        Caller {
            peer: peer.parse().unwrap(),
            credential,
            loopback_host: true,
            from_page: false,
            forwarded: false,
        }
    }

    const ABSENT: Credential<'static> = Credential::Absent;
    const GOOD: Credential<'static> = Credential::Bearer("secret");
    const BAD: Credential<'static> = Credential::Bearer("secreT");

    #[test]
    fn the_matrix_of_the_checklist() {
        use Outcome::{Allowed, Denied};
        let token = Allowed(Identity::Token(Fp6::of(&"secret".into())));
        let local = Allowed(Identity::Localhost);
        let missing = Denied(Denial::MissingToken);
        for (optional, peer, credential, expected) in [
            (true, "127.0.0.1", ABSENT, local),
            (true, "::ffff:127.0.0.1", ABSENT, local),
            (false, "127.0.0.1", ABSENT, missing),
            (true, "10.0.0.1", ABSENT, missing),
            (true, "127.0.0.1", BAD, Denied(Denial::BadToken)),
            (false, "10.0.0.1", BAD, Denied(Denial::BadToken)),
            (false, "10.0.0.1", GOOD, token),
            (true, "127.0.0.1", GOOD, token),
        ] {
            let outcome =
                policy(true, optional, false).decide(&caller(peer, credential), Need::TokenUnlessLocal);
            assert_eq!(outcome, expected, "optional={optional} {peer} {credential:?}");
        }
    }

    #[test]
    fn worker_routes_insist_on_a_configured_token() {
        let local = caller("127.0.0.1", ABSENT);
        assert_eq!(
            policy(true, true, false).decide(&local, Need::Token),
            Outcome::Denied(Denial::MissingToken)
        );
        assert_eq!(
            policy(false, false, false).decide(&local, Need::Token),
            Outcome::Allowed(Identity::Localhost)
        );
    }

    #[test]
    fn without_a_token_only_local_programs_pass() {
        let open = policy(false, false, false);
        let decide = |caller: Caller<'_>| open.decide(&caller, Need::TokenUnlessLocal);
        let local = caller("127.0.0.1", ABSENT);
        assert_eq!(decide(local), Outcome::Allowed(Identity::Localhost));
        assert_eq!(
            decide(caller("127.0.0.1", GOOD)),
            Outcome::Allowed(Identity::Localhost)
        );
        for foreign in [
            caller("10.0.0.1", ABSENT),
            Caller {
                loopback_host: false,
                ..local
            },
            Caller {
                from_page: true,
                ..local
            },
            Caller {
                forwarded: true,
                ..local
            },
        ] {
            assert_eq!(
                decide(foreign),
                Outcome::Denied(Denial::MissingToken),
                "{foreign:?}"
            );
        }
    }

    #[test]
    fn a_proxy_s_token_counts_only_where_the_proxy_is_trusted() {
        let through = |peer| Caller {
            forwarded: true,
            ..caller(peer, GOOD)
        };
        let decide = |proxy, peer| policy(true, true, proxy).decide(&through(peer), Need::TokenUnlessLocal);
        assert!(matches!(
            decide(true, PROXY),
            Outcome::Allowed(Identity::Token(_))
        ));
        assert_eq!(decide(false, PROXY), Outcome::Denied(Denial::UntrustedProxy));
        assert_eq!(decide(true, "10.0.0.8"), Outcome::Denied(Denial::UntrustedProxy));
        assert_eq!(decide(true, "127.0.0.1"), Outcome::Denied(Denial::UntrustedProxy));
    }

    #[test]
    fn denials_carry_the_contract_s_codes() {
        let numeric = |denial: Denial| ErrorBody::from(denial).numeric_code;
        assert_eq!(numeric(Denial::MissingToken), Some(40_101));
        for denial in [
            Denial::BadToken,
            Denial::UntrustedProxy,
            Denial::Malformed(Malformed::Repeated),
        ] {
            assert_eq!(numeric(denial), Some(40_102));
        }
    }

    proptest! {
        /// Whatever else is true: nobody passes as a token holder without the token, and nobody
        /// passes as local with a foreign peer, host, page or proxy.
        #[test]
        fn nobody_passes_without_a_reason(
            token: bool, optional: bool, proxy: bool, insist: bool,
            peer in prop::sample::select(vec!["127.0.0.1", "::1", "10.0.0.1", PROXY]),
            presented in prop::option::of("[a-z]{0,8}"),
            loopback_host: bool, from_page: bool, forwarded: bool,
        ) {
            let caller = Caller {
                peer: peer.parse().unwrap(),
                credential: presented.as_deref().map_or(Credential::Absent, Credential::Bearer),
                loopback_host, from_page, forwarded,
            };
            let need = if insist { Need::Token } else { Need::TokenUnlessLocal };
            match policy(token, optional, proxy).decide(&caller, need) {
                Outcome::Allowed(Identity::Token(_)) => {
                    prop_assert!(token && presented.as_deref() == Some("secret"));
                }
                Outcome::Allowed(Identity::Localhost) => {
                    prop_assert!(caller.is_local());
                    prop_assert!(!token || (optional && !insist && presented.is_none()));
                }
                Outcome::Denied(_) => {}
            }
        }
    }
}
