//! A whole model: which of its files say what it is, and what they say.

use std::path::{Path, PathBuf};

use api_types::ModelFacts;

use crate::error::ReadError;
use crate::kind::{FileKind, SplitName};
use crate::{gguf, safetensors};

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name inside the model.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What a model's files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// In the catalog's words.
    pub facts: ModelFacts,
    /// The template of its conversations, where there is one that is not too long to be kept.
    pub chat_template: Option<String>,
    /// Whether its configuration names programs that its maker wants to be run. They are never fetched; an engine that has no
    /// support of its own for the model will not load it.
    pub names_code: bool,
    /// The file that an engine is given: the name of the first part, or of the one file.
    pub first: String,
}

/// Reads the headers of a model. A folder of GGUF files is the model of the first that is no projector and no adapter;
/// otherwise its safetensors files are one model together. Every header is checked, also those that say nothing of the
/// model. Blocking.
///
/// # Errors
/// [`ReadError`] of the first file that cannot be believed.
pub fn inspect(parts: &[Part]) -> Result<Inspection, ReadError> {
    let mut parts: Vec<&Part> = parts.iter().collect();
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    let of = |kind| {
        parts
            .iter()
            .copied()
            .filter(move |part| FileKind::of(&part.name) == kind)
    };
    let mut main = None;
    for part in of(FileKind::Gguf) {
        let header = gguf::Header::of_file(&part.path)?;
        if main.is_none() && !gguf::is_companion(&header) && is_first(&part.name) {
            main = Some((part, gguf::chat_template(&header).map(str::to_owned)));
        }
    }
    if let Some((part, chat_template)) = main {
        let facts = gguf::facts(&gguf::read_parts(&part.path)?).ok_or(ReadError::NoModel)?;
        return Ok(Inspection {
            facts,
            chat_template,
            names_code: false,
            first: part.name.clone(),
        });
    }
    let weights: Vec<&Part> = of(FileKind::Safetensors).collect();
    let Some(first) = weights.first() else {
        return Err(ReadError::NoModel);
    };
    let beside = |name: &str| {
        let folder = first.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let name = [folder, name].join("/");
        let name = name.trim_start_matches('/').to_owned();
        parts
            .iter()
            .find(|part| part.name == name)
            .map(|part| part.path.as_path())
    };
    let headers = weights
        .iter()
        .map(|part| safetensors::Header::of_file(&part.path));
    let headers = headers.collect::<Result<Vec<_>, _>>()?;
    let config = beside("config.json")
        .map(safetensors::Config::of_file)
        .transpose()?;
    let chat_template = template(&beside)?;
    let config = config.unwrap_or_default();
    let mut facts = safetensors::facts(&headers, &config);
    facts.chat_template = chat_template.is_some();
    Ok(Inspection {
        facts,
        chat_template,
        names_code: config.names_code(),
        first: first.name.clone(),
    })
}

fn is_first(name: &str) -> bool {
    SplitName::parse(name).is_none_or(|split| split.number == 1)
}

/// A file of its own, or a field of the tokenizer's configuration.
fn template<'a>(beside: &impl Fn(&str) -> Option<&'a Path>) -> Result<Option<String>, ReadError> {
    if let Some(path) = beside("chat_template.jinja") {
        return safetensors::read_text(path).map(Some);
    }
    match beside("tokenizer_config.json") {
        Some(path) => safetensors::tokenizer_template(path),
        None => Ok(None),
    }
}
