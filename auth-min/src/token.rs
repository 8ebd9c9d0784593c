//! A token as its digest, and the fingerprint that stands for it in logs.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// SHA-256 of a token. Comparing digests of fixed size takes the same time whatever was presented,
/// so neither length nor prefix of the token can be measured (AUTH-1007).
#[derive(Clone)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token.
    #[must_use]
    pub fn of(token: &SecretString) -> Self {
        Self::of_text(token.expose_secret())
    }

    fn of_text(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether the presented text is the token.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.0.ct_eq(&Self::of_text(presented).0).into()
    }

    /// What stands for the token in logs.
    #[must_use]
    pub fn fp6(&self) -> Fp6 {
        let mut text = [0; 6];
        // Three bytes are six hex digits, so this cannot fail.
        let _ = hex::encode_to_slice(&self.0[..3], &mut text);
        Fp6(text)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({})", self.fp6())
    }
}

/// First six hex digits of the SHA-256 of a token (AUTH-1008): enough to tell tokens apart in a
/// log, far too little to find one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fp6([u8; 6]);

impl Fp6 {
    /// The fingerprint of a token.
    #[must_use]
    pub fn of(token: &SecretString) -> Self {
        TokenDigest::of(token).fp6()
    }

    /// Six lower-case hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Fp6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Fp6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fingerprint_is_the_head_of_sha256() {
        // sha256("abc") = ba7816bf…
        assert_eq!(Fp6::of(&"abc".into()).to_string(), "ba7816");
    }

    #[test]
    fn debug_shows_the_fingerprint_only() {
        let shown = format!("{:?}", TokenDigest::of(&"abc".into()));
        assert_eq!(shown, "TokenDigest(ba7816)");
    }

    proptest! {
        #[test]
        fn only_the_token_itself_matches(token in "[!-~]{1,40}", other in "[!-~]{0,40}") {
            let digest = TokenDigest::of(&token.clone().into());
            prop_assert!(digest.matches(&token));
            prop_assert_eq!(digest.matches(&other), token == other);
        }
    }
}
