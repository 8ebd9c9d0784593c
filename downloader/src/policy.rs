//! What may be downloaded from where, as the configuration says it.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// Whether anything may be downloaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Downloads {
    /// Nothing.
    Off,
    /// From the hosts that are named.
    #[default]
    Allowlist,
    /// From every public host.
    On,
}

impl FromStr for Downloads {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "off" => Ok(Self::Off),
            "allowlist" => Ok(Self::Allowlist),
            "on" => Ok(Self::On),
            _ => Err(PolicyError::new("downloads", text, "off, allowlist or on")),
        }
    }
}

/// A text of the configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {found:?} is not {rule}")]
pub struct PolicyError {
    /// Which field.
    pub field: &'static str,
    /// What stands there.
    pub found: String,
    /// What must be there.
    pub rule: &'static str,
}

impl PolicyError {
    fn new(field: &'static str, found: &str, rule: &'static str) -> Self {
        Self {
            field,
            found: found.to_owned(),
            rule,
        }
    }
}

/// A host, or with `*.` before it all names below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    /// Whether it names this host. Upper and lower case are one, and so is a name with its last dot.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if self.below {
            host.strip_suffix(&self.name)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.name
        }
    }
}

impl FromStr for HostPattern {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let sound =
            !name.is_empty() && name.bytes().all(fits) && !name.starts_with('.') && !name.ends_with('.');
        // A pattern for everything below one label would be a pattern for half the internet.
        if !sound || (below && !name.contains('.')) {
            let rule = "a host name, or *. and a name of two labels or more";
            return Err(PolicyError::new("allowed_hosts", text, rule));
        }
        Ok(Self {
            name: name.to_ascii_lowercase(),
            below,
        })
    }
}

/// An origin in a private network that may be connected to, also without TLS: a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateOrigin {
    scheme: String,
    host: Host<String>,
    port: u16,
}

impl PrivateOrigin {
    /// Whether a URL is of this origin.
    #[must_use]
    pub fn is_of(&self, url: &Url) -> bool {
        let host = url.host().map(|host| host.to_owned());
        url.scheme() == self.scheme
            && host.as_ref() == Some(&self.host)
            && url.port_or_known_default() == Some(self.port)
    }

    /// Its host.
    #[must_use]
    pub const fn host(&self) -> &Host<String> {
        &self.host
    }

    /// Whether it is the one of `host[:port]`, whatever its scheme.
    #[must_use]
    pub fn has_authority(&self, authority: &str) -> bool {
        let url = Url::parse(&format!("{}://{authority}/", self.scheme));
        url.is_ok_and(|url| self.is_of(&url))
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }
}

impl FromStr for PrivateOrigin {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let rule = "an origin such as http://10.0.0.5:8080";
        let refuse = || PolicyError::new("private_origins", text, rule);
        let url = Url::parse(text).map_err(|_| refuse())?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if !bare || !anonymous || !matches!(url.scheme(), "http" | "https") {
            return Err(refuse());
        }
        let host = url.host().map(|host| host.to_owned()).ok_or_else(refuse)?;
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host,
            port: url.port_or_known_default().ok_or_else(refuse)?,
        })
    }
}

impl fmt::Display for PrivateOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether anything may be downloaded.
    pub downloads: Downloads,
    /// From where, with [`Downloads::Allowlist`].
    pub allowed_hosts: Vec<HostPattern>,
    /// What is allowed although it is private; needs no place in `allowed_hosts`.
    pub private_origins: Vec<PrivateOrigin>,
}
