//! The browser guard: a request whose `Host` or `Origin` is not an allowed one is refused before
//! its body is read. Stops DNS rebinding and pages of other sites from using a loopback API.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api_types::{ErrorBody, ErrorCode, PolicyLabel};

use crate::host::{HostError, HostRef};

/// Which hosts and origins a daemon answers to.
#[derive(Debug, Clone)]
pub struct Guard {
    bind: IpAddr,
    hosts: BTreeSet<String>,
    origins: BTreeSet<String>,
}

/// The headers of a request that the guard looks at.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    /// `Host` or `:authority`; exactly one.
    pub host: Result<&'a str, HostError>,
    /// `Origin`, where there is one.
    pub origin: Option<&'a [u8]>,
    /// `Sec-Fetch-Site`, where there is one.
    pub fetch_site: Option<&'a [u8]>,
}

/// A request that may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// The host is a loopback name or address.
    pub loopback_host: bool,
    /// The origin is one of the configured ones: the answer needs CORS headers.
    pub cross_origin: bool,
}

/// Why a request may not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardRefusal {
    /// No host, several, or not a host at all.
    #[error(transparent)]
    Host(HostError),
    /// Not a name of this daemon.
    #[error("this daemon does not answer to the Host {host:?}")]
    ForeignHost {
        /// The host, without its port.
        host: String,
    },
    /// A page of another site.
    #[error("pages of this origin may not call this daemon")]
    ForeignOrigin,
}

impl GuardRefusal {
    const fn label(&self) -> PolicyLabel {
        match self {
            Self::Host(_) | Self::ForeignHost { .. } => PolicyLabel::Host,
            Self::ForeignOrigin => PolicyLabel::Origin,
        }
    }

    const fn hint(&self) -> &'static str {
        match self {
            Self::Host(_) => "send one Host header of the form name[:port]",
            Self::ForeignHost { .. } => "add the name to http.allowed_hosts of the daemon's configuration",
            Self::ForeignOrigin => "add the origin to http.allowed_origins of the daemon's configuration",
        }
    }
}

impl From<GuardRefusal> for ErrorBody {
    fn from(refusal: GuardRefusal) -> Self {
        Self::new(ErrorCode::Forbidden, refusal.to_string())
            .with_hint(refusal.hint())
            .with_policy(refusal.label())
    }
}

impl Guard {
    /// A guard for a daemon bound to `bind`, which also answers to `hosts`, and whose API pages of
    /// `origins` may call (both in the normal form of the configuration).
    pub fn new<H: Into<String>, O: Into<String>>(
        bind: IpAddr,
        hosts: impl IntoIterator<Item = H>,
        origins: impl IntoIterator<Item = O>,
    ) -> Self {
        Self {
            bind: bind.to_canonical(),
            hosts: hosts
                .into_iter()
                .map(|host| host.into().to_ascii_lowercase())
                .collect(),
            origins: origins.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether pages of other origins are allowed at all.
    #[must_use]
    pub fn has_origins(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Decides about one request.
    ///
    /// # Errors
    /// [`GuardRefusal`] for a missing, malformed or foreign host, or a foreign origin.
    pub fn check(&self, headers: &Headers<'_>) -> Result<Passed, GuardRefusal> {
        let text = headers.host.map_err(GuardRefusal::Host)?;
        let host = HostRef::parse(text).map_err(GuardRefusal::Host)?;
        if !self.knows(&host) {
            return Err(foreign(&host));
        }
        Ok(Passed {
            loopback_host: host.is_loopback(),
            cross_origin: self.check_origin(text, headers)?,
        })
    }

    /// Hosts: the configured names and addresses; the bound address; every loopback name where the
    /// daemon listens on loopback; every IP literal where it listens on all addresses (a rebinding
    /// page comes under a name, never under an address).
    fn knows(&self, host: &HostRef<'_>) -> bool {
        let listens_everywhere = self.bind.is_unspecified();
        let local = (self.bind.is_loopback() || listens_everywhere) && host.is_loopback();
        let bound = match host {
            HostRef::Ip(ip) => listens_everywhere || *ip == self.bind,
            HostRef::Name(_) => false,
        };
        local || bound || self.hosts.contains(&normal(host))
    }

    /// `Ok(true)` for a configured origin, `Ok(false)` for none or our own.
    fn check_origin(&self, host: &str, headers: &Headers<'_>) -> Result<bool, GuardRefusal> {
        let cross_site = headers
            .fetch_site
            .is_some_and(|site| site.eq_ignore_ascii_case(b"cross-site"));
        match headers.origin.map(std::str::from_utf8) {
            None if cross_site => Err(GuardRefusal::ForeignOrigin),
            None => Ok(false),
            Some(Ok(origin)) if self.origins.contains(origin) => Ok(true),
            Some(Ok(origin)) if !cross_site && is_own(origin, host) => Ok(false),
            Some(_) => Err(GuardRefusal::ForeignOrigin),
        }
    }
}

/// A page that this daemon served itself: the origin is the host the request names.
fn is_own(origin: &str, host: &str) -> bool {
    let authority = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn normal(host: &HostRef<'_>) -> String {
    match host {
        HostRef::Name(name) => name.to_ascii_lowercase(),
        HostRef::Ip(IpAddr::V4(ip)) => ip.to_string(),
        HostRef::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
    }
}

fn foreign(host: &HostRef<'_>) -> GuardRefusal {
    GuardRefusal::ForeignHost { host: normal(host) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guard(bind: &str) -> Guard {
        Guard::new(bind.parse().unwrap(), ["MyBox.lan"], ["http://ui.lan:3000"])
    }

    fn host(text: &str) -> Headers<'_> {
        Headers {
            host: Ok(text),
            origin: None,
            fetch_site: None,
        }
    }

    fn knows(bind: &str, text: &str) -> bool {
        guard(bind).check(&host(text)).is_ok()
    }

    #[test]
    fn hosts_depend_on_where_the_daemon_listens() {
        for text in [
            "localhost:8080",
            "127.0.0.1",
            "127.8.8.8",
            "[::1]:1",
            "mybox.LAN:8080",
            "LOCALHOST.",
        ] {
            assert!(knows("127.0.0.1", text), "{text}");
            assert!(knows("0.0.0.0", text), "{text}");
        }
        for text in [
            "evil.example",
            "192.168.1.5",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "2130706433",
        ] {
            assert!(!knows("127.0.0.1", text), "{text}");
        }
        assert!(knows("192.168.1.5", "192.168.1.5:80") && !knows("192.168.1.5", "192.168.1.6"));
        assert!(!knows("192.168.1.5", "localhost"));
        assert!(knows("0.0.0.0", "192.168.1.5") && !knows("0.0.0.0", "evil.example"));
    }

    #[test]
    fn a_refusal_names_the_host_and_the_way_out() {
        let body = ErrorBody::from(guard("::1").check(&host("Evil.Example:80")).unwrap_err());
        assert_eq!(
            (body.code, body.policy_label),
            (ErrorCode::Forbidden, Some(PolicyLabel::Host))
        );
        assert!(body.message.contains("evil.example") && body.hint.unwrap().contains("allowed_hosts"));
        let missing = Headers {
            host: Err(HostError::Missing),
            ..host("")
        };
        assert_eq!(
            guard("::1").check(&missing),
            Err(GuardRefusal::Host(HostError::Missing))
        );
    }

    fn origin(origin: Option<&str>, site: Option<&str>) -> Result<bool, GuardRefusal> {
        let headers = Headers {
            host: Ok("localhost:8080"),
            origin: origin.map(str::as_bytes),
            fetch_site: site.map(str::as_bytes),
        };
        guard("127.0.0.1")
            .check(&headers)
            .map(|passed| passed.cross_origin)
    }

    #[test]
    fn foreign_pages_are_refused() {
        for (from, site) in [
            (Some("http://evil.example"), None),
            (Some("http://evil.example"), Some("same-origin")),
            (Some("null"), None),
            (Some("http://localhost:3000"), None),
            (Some("http://localhost:8080.evil.example"), None),
            (Some(""), None),
            (None, Some("cross-site")),
            (None, Some("Cross-Site")),
            (Some("http://localhost:8080"), Some("cross-site")),
        ] {
            assert_eq!(
                origin(from, site),
                Err(GuardRefusal::ForeignOrigin),
                "{from:?} {site:?}"
            );
        }
    }

    #[test]
    fn programs_own_pages_and_configured_pages_pass() {
        assert_eq!(origin(None, None), Ok(false));
        assert_eq!(origin(None, Some("none")), Ok(false));
        assert_eq!(
            origin(Some("http://localhost:8080"), Some("same-origin")),
            Ok(false)
        );
        assert_eq!(origin(Some("http://ui.lan:3000"), Some("cross-site")), Ok(true));
    }

    proptest! {
        /// On loopback, whatever passes is loopback or configured.
        #[test]
        fn no_other_name_passes_a_loopback_guard(text in "([a-z0-9.:\\[\\]-]{0,20}|\\PC{0,20})") {
            if knows("127.0.0.1", &text) {
                let parsed = HostRef::parse(&text).unwrap();
                prop_assert!(parsed.is_loopback() || normal(&parsed) == "mybox.lan");
            }
        }
    }
}
