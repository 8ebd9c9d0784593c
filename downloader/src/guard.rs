//! Holds URLs and addresses against the policy.

use std::net::IpAddr;
use std::sync::Arc;

use http_util::{Cause, ResolveNames, Resolved};
use url::{Host, Url};

use crate::address::is_public;
use crate::error::Blocked;
use crate::policy::{Downloads, Policy, PrivateOrigin};

const HTTPS_PORT: u16 = 443;

/// Checks what is about to be connected to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard {
    policy: Arc<Policy>,
}

impl Guard {
    /// Guards by this policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Reads a URL, refusing what parsers read in different ways, and checks it.
    ///
    /// # Errors
    /// [`Blocked`].
    pub fn parse(&self, text: &str) -> Result<Url, Blocked> {
        plain(text)?;
        let url = Url::parse(text).map_err(|_| Blocked::Url {
            rule: "cannot be read",
        })?;
        self.check(&url)?;
        Ok(url)
    }

    /// Where a redirect leads, checked.
    ///
    /// # Errors
    /// [`Blocked`].
    pub(crate) fn follow(&self, from: &Url, location: &str) -> Result<Url, Blocked> {
        plain(location)?;
        let url = from.join(location).map_err(|_| Blocked::Url {
            rule: "of a redirect cannot be read",
        })?;
        self.check(&url)?;
        Ok(url)
    }

    /// Checks a URL as far as it tells; the addresses of its name are checked when they are looked up.
    ///
    /// # Errors
    /// [`Blocked`].
    pub fn check(&self, url: &Url) -> Result<(), Blocked> {
        if self.policy.downloads == Downloads::Off {
            return Err(Blocked::Off);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Blocked::Url {
                rule: "must not hold credentials",
            });
        }
        if self.private(url).is_some() {
            return Ok(());
        }
        if url.scheme() != "https" {
            return Err(Blocked::Url {
                rule: "must begin with https://",
            });
        }
        let Some(host) = url.host() else {
            return Err(Blocked::Url { rule: "has no host" });
        };
        let name = host.to_string();
        let port = url.port_or_known_default().unwrap_or_default();
        if port != HTTPS_PORT {
            return Err(Blocked::Port { host: name, port });
        }
        if let Some(address) = address_of(&host).filter(|address| !is_public(*address)) {
            return Err(Blocked::Address { host: name, address });
        }
        let listed = || {
            self.policy
                .allowed_hosts
                .iter()
                .any(|pattern| pattern.matches(&name))
        };
        if self.policy.downloads == Downloads::Allowlist && !listed() {
            return Err(Blocked::Host { host: name });
        }
        Ok(())
    }

    /// The private origin that a URL is of.
    #[must_use]
    pub fn private(&self, url: &Url) -> Option<&PrivateOrigin> {
        self.policy
            .private_origins
            .iter()
            .find(|origin| origin.is_of(url))
    }

    /// The scheme to speak to `host[:port]` with: that of the private origin of this authority, else HTTPS.
    #[must_use]
    pub fn scheme_of(&self, authority: &str) -> &str {
        let mut origins = self.policy.private_origins.iter();
        origins
            .find(|origin| origin.has_authority(authority))
            .map_or("https", PrivateOrigin::scheme)
    }

    /// Looks names up and gives only addresses that may be connected to.
    pub(crate) fn resolver(&self, inner: Arc<dyn ResolveNames>) -> Arc<dyn ResolveNames> {
        Arc::new(GuardedResolver {
            guard: self.clone(),
            inner,
        })
    }

    fn check_addresses(&self, host: &str, addresses: &[IpAddr]) -> Result<(), Blocked> {
        let is_named = |origin: &PrivateOrigin| match origin.host() {
            Host::Domain(name) => name.eq_ignore_ascii_case(host),
            Host::Ipv4(_) | Host::Ipv6(_) => false,
        };
        if self.policy.private_origins.iter().any(is_named) {
            return Ok(());
        }
        // One private address among public ones is an attempt, not a choice.
        match addresses.iter().find(|address| !is_public(**address)) {
            Some(&address) => Err(Blocked::Address {
                host: host.to_owned(),
                address,
            }),
            None => Ok(()),
        }
    }
}

fn address_of(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some((*address).into()),
        Host::Ipv6(address) => Some((*address).into()),
    }
}

/// White space, control characters, backslashes and other alphabets are read differently by different parsers.
fn plain(text: &str) -> Result<(), Blocked> {
    let odd = |byte: u8| !byte.is_ascii_graphic() || byte == b'\\';
    if text.bytes().any(odd) {
        return Err(Blocked::Url {
            rule: "must be visible ASCII without backslashes",
        });
    }
    Ok(())
}

#[derive(Debug)]
struct GuardedResolver {
    guard: Guard,
    inner: Arc<dyn ResolveNames>,
}

impl ResolveNames for GuardedResolver {
    fn resolve(&self, host: &str) -> Resolved {
        let (guard, host) = (self.guard.clone(), host.to_owned());
        let found = self.inner.resolve(&host);
        Box::pin(async move {
            let addresses = found.await?;
            guard.check_addresses(&host, &addresses).map_err(Cause::from)?;
            Ok(addresses)
        })
    }
}

/// The operating system's look-up.
#[derive(Debug)]
pub(crate) struct SystemResolver;

impl ResolveNames for SystemResolver {
    fn resolve(&self, host: &str) -> Resolved {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}
