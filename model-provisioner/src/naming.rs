//! What a model is called when nobody says. Pure.

use api_types::{ModelId, ModelRef, ModelRefParts, OciReference};

use crate::error::ProvisionError;

/// A name made of what was asked for: the file's without its ending and part, else the repository's.
pub(crate) fn name_for(reference: &ModelRef) -> Result<ModelId, ProvisionError> {
    let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let text = match reference.parts() {
        ModelRefParts::Hub { file: Some(path), .. }
        | ModelRefParts::File { path }
        | ModelRefParts::Relative { path }
        | ModelRefParts::S3 { key: path, .. } => last(path),
        ModelRefParts::Hub { repo, .. } => last(repo),
        ModelRefParts::Https { url, .. } => last(url.split('?').next().unwrap_or(url)),
        ModelRefParts::Oci {
            repository,
            reference,
            ..
        } => match reference {
            OciReference::Tag("latest") | OciReference::Malformed(_) => last(repository),
            OciReference::Tag(tag) => format!("{}-{tag}", last(repository)),
            OciReference::Digest(digest) => {
                format!("{}-{}", last(repository), &digest.hex()[..12])
            }
        },
        ModelRefParts::Catalog { id } => id.to_owned(),
    };
    let text = match model_files::kind::SplitName::parse(&text) {
        Some(split) => split.stem.to_owned(),
        None => ["gguf", "safetensors"]
            .iter()
            .find_map(|ending| text.strip_suffix(&format!(".{ending}")))
            .unwrap_or(&text)
            .to_owned(),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let text: String = text
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(128)
        .collect();
    ModelId::new(text.trim_start_matches('.')).map_err(|error| ProvisionError::Settings {
        field: "id",
        rule: format!("no name can be made of the reference ({error}); give one"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_what_was_asked_for() {
        for (text, name) in [
            ("hf:org/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-Q4_K_M"),
            ("hf:org/Llama@main", "Llama"),
            ("hf:org/r/q/m-00001-of-00003.gguf", "m"),
            ("https://h/a/m%20x.gguf?sig=1", "m-20x"),
            ("s3://bucket/k/m.gguf", "m"),
            ("oci://registry.ollama.ai/library/llama3:8b", "llama3-8b"),
            ("oci://r/a/model", "model"),
            ("file:/srv/models/.hidden.gguf", "hidden"),
        ] {
            assert_eq!(name_for(&text.parse().unwrap()).unwrap().as_str(), name, "{text}");
        }
    }
}
