//! Images as a runtime holds them: what it says of one, and whether that is what was asked for. Pure.

use std::fmt;

use api_types::container::{Digest, ImageRef};
use serde::Deserialize;

/// An image that is on this machine and is what its reference says. Only pulling or looking makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// As it was asked for.
    pub reference: ImageRef,
    /// The image's own digest, by which it is run: a tag that moves meanwhile changes nothing.
    pub id: Digest,
    /// The manifest's digest, where the runtime knows one: what to write into a configuration.
    pub digest: Option<Digest>,
    /// What is not as it should be.
    pub warning: Option<ImageWarning>,
}

/// What is not as it should be about an image that can be run all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageWarning {
    /// Named by a tag alone: the next pull may bring another program.
    Unpinned {
        /// The reference that stays.
        instead: Option<String>,
    },
}

impl fmt::Display for ImageWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpinned {
                instead: Some(pinned),
            } => {
                write!(f, "a tag may name another image tomorrow: write {pinned}")
            }
            Self::Unpinned { instead: None } => {
                f.write_str("a tag may name another image tomorrow: write its digest")
            }
        }
    }
}

/// `image inspect`, of both runtimes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawImage {
    id: String,
    digest: Option<String>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

/// What `image inspect` says of the image that `reference` names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inspected {
    /// It is what was asked for.
    Is(LocalImage),
    /// It has other digests.
    IsNot(Vec<Digest>),
}

/// Reads the answer to `image inspect`; the error says what is wrong with it.
pub(crate) fn inspected(reference: &ImageRef, stdout: &[u8]) -> Result<Inspected, String> {
    let images: Vec<RawImage> = serde_json::from_slice(stdout).map_err(|error| error.to_string())?;
    let [image]: [RawImage; 1] = images
        .try_into()
        .map_err(|images: Vec<RawImage>| format!("{} images instead of one", images.len()))?;
    let id = Digest::parse(&image.id).ok_or_else(|| "the image's id is no digest".to_owned())?;
    let named = image.repo_digests.unwrap_or_default();
    let of_repository = named.iter().filter_map(|name| name.split_once('@'));
    let mut digests: Vec<Digest> = image
        .digest
        .as_deref()
        .and_then(Digest::parse)
        .into_iter()
        .collect();
    digests.extend(of_repository.filter_map(|(_, digest)| Digest::parse(digest)));
    Ok(match reference.digest() {
        Some(wanted) if !digests.contains(wanted) => Inspected::IsNot(digests),
        Some(wanted) => Inspected::Is(LocalImage {
            reference: reference.clone(),
            id,
            digest: Some(wanted.clone()),
            warning: None,
        }),
        None => {
            let digest = digests.into_iter().next();
            let instead = digest.as_ref().map(|digest| reference.pinned(digest));
            Inspected::Is(LocalImage {
                reference: reference.clone(),
                id,
                digest,
                warning: Some(ImageWarning::Unpinned { instead }),
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(digit: char) -> String {
        std::iter::repeat_n(digit, 64).collect()
    }

    fn read(text: &str) -> ImageRef {
        ImageRef::parse(text).unwrap()
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(junk: Vec<u8>) {
            prop_assert!(inspected(&read("localhost/x:1"), &junk).is_err());
        }
    }

    fn answer(id: char, digests: &[String]) -> Vec<u8> {
        let names: Vec<String> = digests
            .iter()
            .map(|digest| format!("localhost/x@{digest}"))
            .collect();
        serde_json::to_vec(&serde_json::json!([{"Id": hex(id), "RepoDigests": names, "Size": 5}])).unwrap()
    }

    /// REQ-CONTAINER-DIGEST.
    #[test]
    fn an_image_is_what_its_digest_says_or_refused() {
        let (a, b) = (format!("sha256:{}", hex('a')), format!("sha256:{}", hex('b')));
        let pinned = read(&format!("localhost/x:1@{a}"));
        let found = inspected(&pinned, &answer('1', &[b.clone(), a.clone()])).unwrap();
        let Inspected::Is(image) = found else {
            panic!("{found:?}")
        };
        assert_eq!(image.id.as_str(), format!("sha256:{}", hex('1')));
        assert_eq!((image.digest, image.warning), (Digest::parse(&a), None));
        assert_eq!(
            inspected(&pinned, &answer('1', std::slice::from_ref(&b))).unwrap(),
            Inspected::IsNot(vec![Digest::parse(&b).unwrap()])
        );
        assert_eq!(
            inspected(&pinned, &answer('1', &[])).unwrap(),
            Inspected::IsNot(Vec::new())
        );
        let docker = format!(r#"[{{"Id":"sha256:{}","RepoDigests":null}}]"#, hex('1'));
        assert_eq!(
            inspected(&pinned, docker.as_bytes()).unwrap(),
            Inspected::IsNot(Vec::new())
        );
    }

    /// REQ-CONTAINER-DIGEST.
    #[test]
    fn a_tag_alone_warns_and_names_what_stays() {
        let a = format!("sha256:{}", hex('a'));
        let found = inspected(&read("localhost/x:1"), &answer('1', std::slice::from_ref(&a))).unwrap();
        let Inspected::Is(image) = found else {
            panic!("{found:?}")
        };
        let warning = image.warning.unwrap().to_string();
        assert!(warning.ends_with(&format!("write localhost/x@{a}")), "{warning}");
    }

    #[test]
    fn other_answers_are_no_answer() {
        for junk in ["", "[]", "{}", r#"[{"Id":"x"}]"#, r#"[{"RepoDigests":[]}]"#] {
            assert!(
                inspected(&read("localhost/x:1"), junk.as_bytes()).is_err(),
                "{junk}"
            );
        }
    }
}
