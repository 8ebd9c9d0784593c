//! Versions as the tools print them: three numbers, whatever follows. Pure.

use std::fmt;

/// Major, minor and patch; what a distribution appends to them is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The first version in `text`: two or three numbers joined by dots, as in `podman version 4.3.1+ds1`.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        text.split(|c: char| c.is_whitespace() || c == ',')
            .find_map(|word| Self::parse(word.trim_start_matches('v')))
    }

    fn parse(word: &str) -> Option<Self> {
        let end = word.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let mut numbers = word[..end.unwrap_or(word.len())].split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        let patch = numbers
            .next()
            .and_then(|patch| patch.parse().ok())
            .unwrap_or_default();
        Some(Self(major, minor, patch))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_version_is_found_in_what_the_tools_print() {
        for (text, version) in [
            ("4.3.1", Version(4, 3, 1)),
            ("20.10.24+dfsg1", Version(20, 10, 24)),
            ("5.0.0-rc1", Version(5, 0, 0)),
            ("podman version 4.3.1", Version(4, 3, 1)),
            ("Docker version 28.2.2, build e6534b4", Version(28, 2, 2)),
            (
                "NVIDIA Container Toolkit CLI version 1.17.8\ncommit: f202b80a9b9d0db00d9b1d73c0128c8962c55f4d",
                Version(1, 17, 8),
            ),
            ("v27.1", Version(27, 1, 0)),
        ] {
            assert_eq!(Version::find(text), Some(version), "{text}");
        }
        for text in ["", "podman", "7", "1.", ".2", "99999999999.1.1"] {
            assert_eq!(Version::find(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn order_is_by_number_and_printing_reads_back(a: (u16, u16, u16), b: (u16, u16, u16)) {
            let version = |(x, y, z): (u16, u16, u16)| Version(x.into(), y.into(), z.into());
            prop_assert_eq!(version(a) < version(b), a < b);
            prop_assert_eq!(Version::find(&version(a).to_string()), Some(version(a)));
        }

        #[test]
        fn any_text_is_survived(text: String) {
            let _none_or_some = Version::find(&text);
        }
    }
}
