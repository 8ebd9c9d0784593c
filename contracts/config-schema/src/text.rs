//! Texts with a rule: listen addresses, URLs, host names, origins, GPU UUIDs. Parsed once, printed
//! in normal form.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// What a text should have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {rule}")]
pub struct TextError {
    rule: &'static str,
}

const fn rule(rule: &'static str) -> TextError {
    TextError { rule }
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "Cow<'_, str>", into = "String")]
        #[schemars(with = "String")]
        pub struct $name($inner);

        impl TryFrom<Cow<'_, str>> for $name {
            type Error = TextError;
            fn try_from(text: Cow<'_, str>) -> Result<Self, TextError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

text!(
    /// Where a daemon listens: `IP:port`. A name is refused because it may resolve beyond loopback.
    ListenAddr(SocketAddr)
);
text!(
    /// Base URL of a daemon: `http://` or `https://`, host, optional port and path prefix.
    BaseUrl(String)
);
text!(
    /// A name clients may put into `Host`: lower case, no port.
    HostName(String)
);
text!(
    /// An origin browsers may call from: `scheme://host[:port]`.
    WebOrigin(String)
);
text!(
    /// Hosts: a name, or `*.` and a name for all below it; lower case.
    HostPattern(String)
);
text!(
    /// A GPU as NVML names it: `GPU-…` or `MIG-…`.
    GpuUuid(String)
);

text!(
    /// A SHA-256 digest: 64 hexadecimal digits, with or without `sha256:`; printed with it, in lower case.
    Sha256Text(String)
);

impl FromStr for Sha256Text {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let fits = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| Self(format!("sha256:{}", digits.to_ascii_lowercase())))
            .ok_or_else(|| rule("64 hexadecimal digits, the file's SHA-256"))
    }
}

impl FromStr for HostPattern {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let rule = rule("a host name, or *. and a name of two labels or more");
        let text = text.to_ascii_lowercase();
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text.as_str(), false),
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let sound = name
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(fits));
        // A pattern for everything below one label would be a pattern for half the internet.
        let narrow = !below || name.contains('.');
        (sound && narrow).then_some(Self(text)).ok_or(rule)
    }
}

impl HostPattern {
    /// The model hub and where it keeps its files.
    pub(crate) fn of_the_hub() -> Vec<Self> {
        ["huggingface.co", "*.huggingface.co", "*.hf.co"]
            .map(|name| Self(name.to_owned()))
            .to_vec()
    }
}

impl ListenAddr {
    /// The address.
    #[must_use]
    pub const fn get(&self) -> SocketAddr {
        self.0
    }
}

impl ListenAddr {
    /// Where a client on the same host reaches a daemon that listens here.
    #[must_use]
    pub fn reachable(&self) -> SocketAddr {
        match self.0 {
            SocketAddr::V4(addr) if addr.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, addr.port()).into(),
            SocketAddr::V6(addr) if addr.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, addr.port()).into(),
            addr => addr,
        }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(addr: SocketAddr) -> Self {
        Self(addr)
    }
}

impl FromStr for ListenAddr {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        text.parse()
            .map(Self)
            .map_err(|_| rule("IP:port, e.g. 127.0.0.1:8080 or [::1]:8080"))
    }
}

impl BaseUrl {
    /// The URL, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the URL can only mean this host.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let url = Url::parse(&self.0).ok();
        match url.as_ref().and_then(Url::host) {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
            None => false,
        }
    }

    /// The host as clients put it into `Host`.
    #[must_use]
    pub fn host_name(&self) -> Option<HostName> {
        Url::parse(&self.0).ok()?.host_str()?.parse().ok()
    }

    /// Host name or address (without the brackets of IPv6) and port, to connect to.
    #[must_use]
    pub fn host_and_port(&self) -> (String, u16) {
        let url = Url::parse(&self.0).ok();
        let host = match url.as_ref().and_then(Url::host) {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => String::new(),
        };
        (host, url.and_then(|url| url.port_or_known_default()).unwrap_or(0))
    }

    /// Whether what is sent there can be read on the way.
    #[must_use]
    pub fn is_plain_beyond_loopback(&self) -> bool {
        self.0.starts_with("http://") && !self.is_loopback()
    }

    /// `http://` and the address.
    #[must_use]
    pub fn http(addr: SocketAddr) -> Self {
        Self(format!("http://{addr}"))
    }
}

impl FromStr for BaseUrl {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        // The text is not repeated in the error: it may carry a password.
        let bad = || rule("http://host[:port] or https://host[:port], without user, query or fragment");
        let url = Url::parse(text).map_err(|_| bad())?;
        let plain = url.username().is_empty() && url.password().is_none();
        let bare = url.query().is_none() && url.fragment().is_none();
        let fits = matches!(url.scheme(), "http" | "https") && url.has_host() && plain && bare;
        fits.then(|| Self(url.as_str().trim_end_matches('/').to_owned()))
            .ok_or_else(bad)
    }
}

impl HostName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let bad = || rule("a host name or IP address without scheme, port or wildcard");
        match Host::parse(text).map_err(|_| bad())? {
            Host::Domain(name) if name.contains('*') || name.is_empty() => Err(bad()),
            host => Ok(Self(host.to_string())),
        }
    }
}

impl WebOrigin {
    /// The origin as browsers send it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebOrigin {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let bad = || rule("an origin: http(s)://host[:port], without a path");
        let base: BaseUrl = text.parse().map_err(|_| bad())?;
        let url = Url::parse(base.as_str()).map_err(|_| bad())?;
        (url.path() == "/")
            .then(|| Self(url.origin().ascii_serialization()))
            .ok_or_else(bad)
    }
}

impl GpuUuid {
    /// The UUID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GpuUuid {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let tail = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-"));
        let fits = tail.is_some_and(|tail| {
            (1..=96).contains(&tail.len()) && tail.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        let rule = rule("a GPU UUID as `nvidia-smi -L` prints it: GPU-… or MIG-…");
        fits.then(|| Self(text.to_owned())).ok_or(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digests_are_64_hexadecimal_digits() {
        let digest = "AB".repeat(32);
        let parsed: Sha256Text = digest.parse().unwrap();
        assert_eq!(parsed.to_string(), format!("sha256:{}", "ab".repeat(32)));
        assert_eq!(parsed.to_string().parse(), Ok(parsed));
        for bad in ["", "sha256:", &digest[1..], &"xy".repeat(32)] {
            assert!(bad.parse::<Sha256Text>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn listen_addresses_are_ip_and_port() {
        assert!("127.0.0.1:0".parse::<ListenAddr>().is_ok());
        assert!("[::1]:8080".parse::<ListenAddr>().is_ok());
        for bad in ["localhost:8080", "127.0.0.1", ":8080", "127.0.0.1:70000"] {
            assert!(bad.parse::<ListenAddr>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn base_urls_lose_the_trailing_slash_and_refuse_secrets() {
        assert_eq!(
            "http://box:8080/".parse::<BaseUrl>().unwrap().as_str(),
            "http://box:8080"
        );
        assert_eq!("https://a/b/".parse::<BaseUrl>().unwrap().as_str(), "https://a/b");
        for bad in [
            "box:8080",
            "ftp://box",
            "http://u:hunter2@box",
            "http://box/?q",
            "http://box/#f",
            "http://",
        ] {
            let error = bad.parse::<BaseUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn host_and_port_are_those_of_the_url() {
        for (text, host, port) in [
            ("http://box:8080/x", "box", 8080),
            ("http://10.0.0.1", "10.0.0.1", 80),
            ("https://[fd00::2]", "fd00::2", 443),
        ] {
            let url: BaseUrl = text.parse().unwrap();
            assert_eq!(url.host_and_port(), (host.to_owned(), port));
        }
    }

    #[test]
    fn only_this_host_is_loopback() {
        let of = |text: &str| text.parse::<BaseUrl>().unwrap();
        for near in [
            "http://127.0.0.1:8080",
            "http://localhost",
            "http://LOCALHOST:1",
            "https://[::1]:1",
            "http://[::ffff:127.0.0.1]:1",
            "http://127.9.9.9",
        ] {
            assert!(of(near).is_loopback(), "{near}");
            assert!(!of(near).is_plain_beyond_loopback(), "{near}");
        }
        for far in ["http://10.0.0.1:8080", "http://localhost.example", "http://box"] {
            assert!(
                !of(far).is_loopback() && of(far).is_plain_beyond_loopback(),
                "{far}"
            );
        }
        assert!(!of("https://box").is_plain_beyond_loopback());
    }

    #[test]
    fn host_names_and_origins_have_a_normal_form() {
        assert_eq!("MyBox".parse::<HostName>().unwrap().as_str(), "mybox");
        assert_eq!("[::1]".parse::<HostName>().unwrap().as_str(), "[::1]");
        for bad in ["", "*", "*.lan", "box:80", "http://box", "a b"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad} was accepted");
        }
        assert_eq!(
            "HTTP://Box:80".parse::<WebOrigin>().unwrap().as_str(),
            "http://box"
        );
        for bad in ["null", "*", "http://box/x", "box"] {
            assert!(bad.parse::<WebOrigin>().is_err(), "{bad} was accepted");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_normal_forms_are_stable(text in "\\PC{0,40}") {
            if let Ok(host) = text.parse::<HostName>() {
                prop_assert_eq!(host.as_str().parse::<HostName>().unwrap(), host);
            }
            if let Ok(origin) = text.parse::<WebOrigin>() {
                prop_assert_eq!(origin.as_str().parse::<WebOrigin>().unwrap(), origin);
            }
            let _ = text.parse::<GpuUuid>();
        }
    }
}
