//! The `Host` of a request: `name[:port]`, `IPv4[:port]` or `[IPv6][:port]`, nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a text is not a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is no host.
    #[error("the request has no Host")]
    Missing,
    /// There are several, and they differ or repeat.
    #[error("the request has more than one Host")]
    Repeated,
    /// It is not of the form `name[:port]`.
    #[error("the Host is malformed")]
    Malformed,
}

/// A host taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRef<'a> {
    /// An IP literal.
    Ip(IpAddr),
    /// A name, without its port and without a final dot.
    Name(&'a str),
}

impl<'a> HostRef<'a> {
    /// Takes the text of a `Host` header or `:authority` apart.
    ///
    /// # Errors
    /// [`HostError::Malformed`] for user info, paths, white space, bad ports and bad literals.
    pub fn parse(text: &'a str) -> Result<Self, HostError> {
        let (host, port) = split_port(text)?;
        let port_fits =
            port.is_none_or(|port| !port.is_empty() && port.parse::<u16>().is_ok() && !port.starts_with('+'));
        if !port_fits {
            return Err(HostError::Malformed);
        }
        if let Some(literal) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let ip = literal.parse::<Ipv6Addr>().map_err(|_| HostError::Malformed)?;
            return Ok(Self::Ip(ip.to_canonical()));
        }
        match host.parse::<Ipv4Addr>() {
            Ok(ip) => Ok(Self::Ip(ip.into())),
            Err(_) => name(host),
        }
    }

    /// Whether the host can only mean this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(ip) => ip.is_loopback(),
            Self::Name(name) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), HostError> {
    let literal_end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']').ok_or(HostError::Malformed)? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(literal_end);
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(HostError::Malformed),
    }
}

fn name(host: &str) -> Result<HostRef<'_>, HostError> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let fits = host.len() <= 253 && host.split('.').all(label);
    fits.then_some(HostRef::Name(host)).ok_or(HostError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        let ip = |text: &str| HostRef::Ip(text.parse().unwrap());
        for (text, host) in [
            ("localhost", HostRef::Name("localhost")),
            ("LocalHost:8080", HostRef::Name("LocalHost")),
            ("my-box.lan.:80", HostRef::Name("my-box.lan")),
            ("127.0.0.1:1", ip("127.0.0.1")),
            ("[::1]:8080", ip("::1")),
            ("[::ffff:127.0.0.1]", ip("127.0.0.1")),
            // No other spelling of an address is one; resolvers disagree about them.
            ("127.1", HostRef::Name("127.1")),
            ("2130706433", HostRef::Name("2130706433")),
        ] {
            assert_eq!(HostRef::parse(text), Ok(host), "{text}");
        }
    }

    #[test]
    fn malformed_hosts_are_refused() {
        for text in [
            "",
            ":80",
            "a:",
            "a:b",
            "a:+1",
            "a:70000",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[127.0.0.1]",
            "u@localhost",
            "localhost/x",
            "local host",
            "a..b",
            ".a",
            "localhost\0",
            "localhost,evil",
            "é",
        ] {
            assert_eq!(HostRef::parse(text), Err(HostError::Malformed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(text in "\\PC{0,60}") {
            if let Ok(HostRef::Name(name)) = HostRef::parse(&text) {
                prop_assert!(text.starts_with(name));
            }
        }
    }
}
