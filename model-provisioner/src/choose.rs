//! Which files of a repository are the model. Pure.

use model_files::kind::{FileKind, SplitName};

use crate::error::ProvisionError;

/// Chooses among the names of a repository: all safetensors with the text beside them, or the one GGUF model there is,
/// parts and projector included. Nothing that carries code.
pub(crate) fn whole<'a>(what: &str, names: &[&'a str]) -> Result<Vec<&'a str>, ProvisionError> {
    let of = |kind: FileKind| {
        names
            .iter()
            .copied()
            .filter(move |name| FileKind::of(name) == kind)
    };
    let safetensors: Vec<&str> = of(FileKind::Safetensors).collect();
    if !safetensors.is_empty() {
        return Ok(folder_of(&safetensors, of(FileKind::Text).collect()));
    }
    let gguf: Vec<&str> = of(FileKind::Gguf).collect();
    if !gguf.is_empty() {
        return one_gguf(what, &gguf);
    }
    match of(FileKind::Code).next() {
        Some(name) => Err(ProvisionError::Code {
            name: name.to_owned(),
        }),
        None => Err(ProvisionError::Ambiguous {
            what: what.to_owned(),
            hint: "it has neither GGUF nor safetensors files".to_owned(),
        }),
    }
}

/// A file, and where it is the first of several parts, the others too.
pub(crate) fn with_parts(name: &str) -> Result<Vec<String>, ProvisionError> {
    if FileKind::of(name) == FileKind::Code {
        return Err(ProvisionError::Code {
            name: name.to_owned(),
        });
    }
    let (folder, file) = match name.rsplit_once('/') {
        Some((folder, file)) => (format!("{folder}/"), file),
        None => (String::new(), name),
    };
    match SplitName::parse(file) {
        Some(split) if split.of > model_files::limits::MOST_PARTS => Err(ProvisionError::Ambiguous {
            what: name.to_owned(),
            hint: format!("no model has {} parts", split.of),
        }),
        Some(split) => Ok((1..=split.of)
            .map(|number| format!("{folder}{}", split.part(number)))
            .collect()),
        None => Ok(vec![name.to_owned()]),
    }
}

/// Weights that are there in two layouts are taken in the one that has an index, and text from where the weights are.
fn folder_of<'a>(weights: &[&'a str], texts: Vec<&'a str>) -> Vec<&'a str> {
    let folder = |name: &str| name.rsplit_once('/').map_or(0, |(folder, _)| folder.len());
    let top = weights.iter().map(|name| folder(name)).min().unwrap_or_default();
    let at_top: Vec<&str> = weights
        .iter()
        .copied()
        .filter(|name| folder(name) == top)
        .collect();
    let other = at_top.iter().any(|name| !is_consolidated(name));
    let weights = at_top
        .into_iter()
        .filter(|name| !(other && is_consolidated(name)));
    weights
        .chain(texts.into_iter().filter(|name| folder(name) == top))
        .collect()
}

fn is_consolidated(name: &str) -> bool {
    name.rsplit('/')
        .next()
        .unwrap_or(name)
        .starts_with("consolidated")
}

fn is_projector(name: &str) -> bool {
    name.rsplit('/')
        .next()
        .unwrap_or(name)
        .to_ascii_lowercase()
        .contains("mmproj")
}

fn one_gguf<'a>(what: &str, gguf: &[&'a str]) -> Result<Vec<&'a str>, ProvisionError> {
    let (projectors, models): (Vec<&str>, Vec<&str>) =
        gguf.iter().copied().partition(|name| is_projector(name));
    let stem = |name: &'a str| SplitName::parse(name).map_or(name, |split| split.stem);
    let mut stems: Vec<&str> = models.iter().map(|name| stem(name)).collect();
    stems.sort_unstable();
    stems.dedup();
    let ambiguous = |hint: String| ProvisionError::Ambiguous {
        what: what.to_owned(),
        hint,
    };
    let choice = |names: &[&str]| {
        names
            .iter()
            .take(20)
            .map(|name| format!("{what}/{name}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (stems.as_slice(), projectors.as_slice()) {
        ([_], [] | [_]) => Ok(models.into_iter().chain(projectors).collect()),
        ([_], several) => Err(ambiguous(format!(
            "it has several projectors; ask for one model file ({})",
            choice(several)
        ))),
        ([], _) => Err(ambiguous("it has a projector and no model".to_owned())),
        _ => {
            let firsts: Vec<&str> = models
                .iter()
                .copied()
                .filter(|name| SplitName::parse(name).is_none_or(|split| split.number == 1))
                .collect();
            Err(ambiguous(format!("ask for one of {}", choice(&firsts))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_safetensors_comes_with_its_text_and_without_code() {
        let names = [
            ".gitattributes",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "modeling_x.py",
            "original/consolidated.00.pth",
            "original/params.json",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let chosen = whole("hf:o/r", &names).unwrap();
        assert_eq!(
            chosen,
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "README.md",
                "config.json",
                "model.safetensors.index.json",
                "tokenizer.json"
            ]
        );
    }

    #[test]
    fn one_gguf_model_is_chosen_and_several_are_offered() {
        let one = [
            "m-00001-of-00002.gguf",
            "m-00002-of-00002.gguf",
            "mmproj-f16.gguf",
            "README.md",
        ];
        assert_eq!(whole("hf:o/r", &one).unwrap(), &one[..3]);
        let several = ["m-Q4_K_M.gguf", "m-Q8_0.gguf"];
        let refused = whole("hf:o/r", &several).unwrap_err().to_string();
        assert!(
            refused.ends_with("ask for one of hf:o/r/m-Q4_K_M.gguf, hf:o/r/m-Q8_0.gguf"),
            "{refused}"
        );
        assert!(matches!(
            whole("hf:o/r", &["mmproj.gguf"]),
            Err(ProvisionError::Ambiguous { .. })
        ));
    }

    /// REQ-MODEL-CODE.
    #[test]
    fn what_has_only_code_is_refused() {
        let refused = whole("hf:o/r", &["config.json", "pytorch_model.bin"]).unwrap_err();
        assert!(matches!(refused, ProvisionError::Code { .. }), "{refused}");
        assert!(matches!(
            with_parts("a/model.pt"),
            Err(ProvisionError::Code { .. })
        ));
        assert!(matches!(
            whole("hf:o/r", &["README.md"]),
            Err(ProvisionError::Ambiguous { .. })
        ));
    }

    #[test]
    fn any_part_stands_for_all() {
        assert_eq!(
            with_parts("q/m-00002-of-00002.gguf").unwrap(),
            ["q/m-00001-of-00002.gguf", "q/m-00002-of-00002.gguf"]
        );
        assert_eq!(with_parts("m.gguf").unwrap(), ["m.gguf"]);
    }
}
