//! Manifests of registries: which layers are files of a model, and what they are called. Pure.

use api_types::{RelativePath, Sha256Digest};
use model_files::kind::FileKind;
use serde::Deserialize;

use crate::error::ProvisionError;

/// What is asked for, by preference.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Media types of models that come without a file name, and the name they get.
const NAMED: [(&str, &str); 3] = [
    ("application/vnd.ollama.image.model", "model.gguf"),
    ("application/vnd.ollama.image.projector", "mmproj.gguf"),
    ("application/vnd.docker.ai.gguf.v3", "model.gguf"),
];
/// Annotations that hold a file name.
const TITLES: [&str; 2] = ["org.opencontainers.image.title", "org.cncf.model.filepath"];

/// A manifest, or an index of several.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Sha256Digest,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// A file of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) name: RelativePath,
    pub(crate) digest: Sha256Digest,
    pub(crate) size: u64,
}

impl Manifest {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Of an index, the manifest for this machine: models have none for other ones, so the only one there is will do.
    pub(crate) fn only(&self, what: &str) -> Result<Option<Sha256Digest>, ProvisionError> {
        if self.manifests.is_empty() {
            return Ok(None);
        }
        let is_real = |of: &&Descriptor| {
            of.platform
                .as_ref()
                .is_none_or(|platform| platform.os != "unknown")
        };
        let is_ours = |of: &&Descriptor| {
            let platform = of.platform.as_ref();
            platform.is_some_and(|platform| {
                (platform.os.as_str(), platform.architecture.as_str()) == ("linux", "amd64")
            })
        };
        let real: Vec<&Descriptor> = self.manifests.iter().filter(is_real).collect();
        let ours = real.iter().copied().find(|of| is_ours(of));
        let only = ours.or_else(|| real.first().copied().filter(|_| real.len() == 1));
        match only {
            Some(only) => Ok(Some(only.digest)),
            None => Err(ProvisionError::Ambiguous {
                what: what.to_owned(),
                hint: format!(
                    "it is an index of {} manifests, none of them for linux/amd64",
                    real.len()
                ),
            }),
        }
    }

    /// The layers that are files of a model.
    pub(crate) fn files(&self, what: &str) -> Result<Vec<Layer>, ProvisionError> {
        let mut files = Vec::new();
        for layer in &self.layers {
            let Some(name) = name_of(layer) else {
                continue;
            };
            let refuse = |rule: String| Err(ProvisionError::malformed(what, rule));
            if is_archive(&layer.media_type) {
                return refuse(format!(
                    "{name} is an archive ({}); only plain files are fetched",
                    layer.media_type
                ));
            }
            let name = match RelativePath::new(name) {
                Ok(name) => name,
                Err(error) => return refuse(format!("a layer is called {name:?}: {error}")),
            };
            match FileKind::of(name.as_str()) {
                FileKind::Code => {
                    return Err(ProvisionError::Code {
                        name: name.to_string(),
                    });
                }
                FileKind::Other => continue,
                FileKind::Gguf | FileKind::Safetensors | FileKind::Text => {}
            }
            if files.iter().any(|known: &Layer| known.name == name) {
                return refuse(format!("two layers are called {name}"));
            }
            files.push(Layer {
                name,
                digest: layer.digest,
                size: layer.size,
            });
        }
        let has_weights = |file: &Layer| {
            matches!(
                FileKind::of(file.name.as_str()),
                FileKind::Gguf | FileKind::Safetensors
            )
        };
        if files.iter().any(has_weights) {
            return Ok(files);
        }
        Err(ProvisionError::Ambiguous {
            what: what.to_owned(),
            hint: "none of its layers is a GGUF or safetensors file".to_owned(),
        })
    }
}

fn name_of(layer: &Descriptor) -> Option<&str> {
    let title = TITLES
        .iter()
        .find_map(|title| layer.annotations.get(*title))
        .map(String::as_str);
    title.or_else(|| {
        NAMED
            .iter()
            .find(|(of, _)| *of == layer.media_type)
            .map(|(_, name)| *name)
    })
}

fn is_archive(media_type: &str) -> bool {
    ["tar", "gzip", "zstd", "zip"]
        .iter()
        .any(|word| media_type.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Manifest {
        let digest = format!("sha256:{}", "0a".repeat(32));
        Manifest::parse(text.replace("DIGEST", &digest).as_bytes()).unwrap()
    }

    fn layer(media_type: &str, title: Option<&str>) -> String {
        let annotations =
            title.map(|title| format!(r#","annotations":{{"org.opencontainers.image.title":"{title}"}}"#));
        let annotations = annotations.unwrap_or_default();
        format!(r#"{{"layers":[{{"mediaType":"{media_type}","digest":"DIGEST","size":3{annotations}}}]}}"#)
    }

    #[test]
    fn layers_of_the_common_tools() {
        for (media_type, title, name) in [
            ("application/vnd.ollama.image.model", None, "model.gguf"),
            ("application/vnd.docker.ai.gguf.v3", None, "model.gguf"),
            ("application/vnd.docker.ai.gguf.v3", Some("m.gguf"), "m.gguf"),
            ("application/octet-stream", Some("q/m.gguf"), "q/m.gguf"),
        ] {
            let files = of(&layer(media_type, title)).files("r").unwrap();
            assert_eq!((files.len(), files[0].name.as_str(), files[0].size), (1, name, 3));
        }
    }

    #[test]
    fn layers_that_are_no_model_or_lead_elsewhere_are_refused() {
        for (media_type, title) in [
            ("application/octet-stream", Some("../m.gguf")),
            ("application/octet-stream", Some("/etc/m.gguf")),
            ("application/octet-stream", Some("m.bin")),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Some("m.gguf")),
            ("application/vnd.oci.image.layer.v1.tar+gzip", None),
            ("application/vnd.ollama.image.params", None),
        ] {
            assert!(
                of(&layer(media_type, title)).files("r").is_err(),
                "{media_type} {title:?}"
            );
        }
        assert!(
            Manifest::parse(br#"{"layers":[{"mediaType":"x","digest":"sha256:../..","size":1}]}"#).is_err()
        );
    }

    #[test]
    fn of_an_index_the_one_for_this_machine_is_taken() {
        let entry = |os: &str, architecture: &str| {
            format!(
                r#"{{"mediaType":"m","digest":"DIGEST","size":1,"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
            )
        };
        let index = |entries: &[String]| of(&format!(r#"{{"manifests":[{}]}}"#, entries.join(",")));
        assert!(
            index(&[entry("linux", "arm64"), entry("linux", "amd64")])
                .only("r")
                .unwrap()
                .is_some()
        );
        assert!(
            index(&[entry("unknown", "unknown"), entry("linux", "arm64")])
                .only("r")
                .unwrap()
                .is_some()
        );
        assert!(
            index(&[entry("linux", "arm64"), entry("windows", "arm64")])
                .only("r")
                .is_err()
        );
    }
}
