//! The `Authorization` header: exactly one bearer credential, or what is wrong with it.

use secrecy::{ExposeSecret, SecretString};

const SCHEME: &str = "Bearer";

/// What a request presents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// No `Authorization` header.
    Absent,
    /// One bearer token. Not yet compared with anything.
    Bearer(&'a str),
    /// A header, but not one bearer credential.
    Malformed(Malformed),
}

/// Why an `Authorization` header is not one bearer credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More than one header: which one counts would be a guess.
    #[error("there is more than one Authorization header")]
    Repeated,
    /// Another scheme than `Bearer`.
    #[error("the scheme of the Authorization header is not Bearer")]
    Scheme,
    /// Nothing after the scheme.
    #[error("there is no token after Bearer")]
    Empty,
    /// White space, control or non-ASCII characters in the token, or several tokens.
    #[error("the token has characters that no token has")]
    Characters,
}

impl<'a> Credential<'a> {
    /// Reads the values of all `Authorization` headers of a request.
    #[must_use]
    pub fn from_headers(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(_), Some(_)) => Self::Malformed(Malformed::Repeated),
            (Some(value), None) => parse(value).map_or_else(Self::Malformed, Self::Bearer),
        }
    }
}

impl std::fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Bearer(_) => f.write_str("Bearer(***)"),
            Self::Malformed(why) => write!(f, "Malformed({why:?})"),
        }
    }
}

fn parse(value: &[u8]) -> Result<&str, Malformed> {
    let value = value.trim_ascii();
    let scheme_end = value.iter().position(|b| *b == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) {
        return Err(Malformed::Scheme);
    }
    let token = rest.trim_ascii_start();
    if token.is_empty() {
        return Err(Malformed::Empty);
    }
    let text = std::str::from_utf8(token).map_err(|_| Malformed::Characters)?;
    let graphic = text.bytes().all(|b| b.is_ascii_graphic());
    graphic.then_some(text).ok_or(Malformed::Characters)
}

/// The value of the `Authorization` header that presents a token (AUTH-1003).
#[must_use]
pub fn bearer_value(token: &SecretString) -> SecretString {
    format!("{SCHEME} {}", token.expose_secret()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(value: &[u8]) -> Credential<'_> {
        Credential::from_headers([value])
    }

    #[test]
    fn the_scheme_is_case_insensitive_and_the_token_is_not_touched() {
        for value in [
            "Bearer aB+/=~",
            "bearer aB+/=~",
            "BEARER   aB+/=~",
            " Bearer aB+/=~ ",
        ] {
            assert_eq!(one(value.as_bytes()), Credential::Bearer("aB+/=~"), "{value:?}");
        }
    }

    #[test]
    fn every_malformed_kind_is_told_apart() {
        let cases: [(&[u8], Malformed); 8] = [
            (b"Basic abc", Malformed::Scheme),
            (b"", Malformed::Scheme),
            (b"Bearerabc", Malformed::Scheme),
            (b"Bearer", Malformed::Empty),
            (b"Bearer   ", Malformed::Empty),
            (b"Bearer a b", Malformed::Characters),
            (b"Bearer a\xff", Malformed::Characters),
            (b"Bearer a, Bearer b", Malformed::Characters),
        ];
        for (value, why) in cases {
            assert_eq!(one(value), Credential::Malformed(why), "{value:?}");
        }
        let twice: [&[u8]; 2] = [b"Bearer a", b"Bearer a"];
        assert_eq!(
            Credential::from_headers(twice),
            Credential::Malformed(Malformed::Repeated)
        );
        assert_eq!(Credential::from_headers([]), Credential::Absent);
    }

    #[test]
    fn debug_hides_the_token() {
        assert_eq!(format!("{:?}", one(b"Bearer hunter2")), "Bearer(***)");
    }

    proptest! {
        #[test]
        fn parsing_is_total(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Credential::Bearer(token) = one(&value) {
                prop_assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
            }
        }

        #[test]
        fn what_a_client_sends_is_what_the_server_reads(token in "[!-~]{1,60}") {
            let value = bearer_value(&token.clone().into());
            let value = value.expose_secret().as_bytes();
            prop_assert_eq!(one(value), Credential::Bearer(token.as_str()));
        }
    }
}
