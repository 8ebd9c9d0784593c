//! The catalog's models: a row each, one in full, and what was found of their bytes.

use api_types::{Lifecycle, ModelEntry, ModelFacts, ModelId, RelativePath};
use catalog_core::Located;
use comfy_table::Cell;
use model_provisioner::{Finding, Verification};

use super::table::{Look, Tone, cell, draw, pairs, toned};
use super::text::{bytes, clean_line, digest};

pub(crate) fn list(models: &[ModelEntry], look: Look) -> String {
    let header = [
        "MODEL",
        "STATE",
        "SIZE",
        "PARAMETERS",
        "TYPE",
        "CONTEXT",
        "DIGEST",
        "FROM",
    ];
    draw(look, &header, models.iter().map(|model| row(model, look)))
}

fn row(model: &ModelEntry, look: Look) -> Vec<Cell> {
    let facts = model.facts.as_ref();
    let or_none = |text: Option<String>| cell(text.unwrap_or_else(|| "-".to_owned()));
    vec![
        cell(model.id.as_str()),
        state(model.state, look),
        cell(bytes(model.bytes)),
        or_none(facts.map(|facts| parameters(facts.parameters))),
        or_none(facts.and_then(|facts| facts.quantization.clone())),
        or_none(
            facts
                .and_then(|facts| facts.context_length)
                .map(|tokens| tokens.to_string()),
        ),
        cell(digest(&model.digest.to_string())),
        cell(model.source.as_str()),
    ]
}

fn state(state: Lifecycle, look: Look) -> Cell {
    let tone = match state {
        Lifecycle::Active => Tone::Good,
        Lifecycle::Retired => Tone::Doubtful,
    };
    toned(state.as_str(), tone, look)
}

/// `8.0 B`, `350 M`: as people speak of models.
pub(super) fn parameters(count: u64) -> String {
    match count {
        0..1_000_000 => count.to_string(),
        1_000_000..1_000_000_000 => format!("{} M", count / 1_000_000),
        _ => {
            let tenths = count.saturating_add(50_000_000) / 100_000_000;
            format!("{}.{} B", tenths / 10, tenths % 10)
        }
    }
}

pub(crate) fn show(located: &Located) -> String {
    let model = &located.entry;
    let files: Vec<String> = model
        .files
        .iter()
        .zip(&located.paths)
        .map(|(file, path)| {
            let missing = if located.missing.contains(&file.name) {
                "  (missing, or not of its size)"
            } else {
                ""
            };
            format!("{}{missing}", clean_line(&path.display().to_string()))
        })
        .collect();
    let mut lines = vec![
        ("model", Some(model.id.to_string())),
        ("state", Some(model.state.to_string())),
        ("from", Some(model.source.as_str().to_owned())),
        ("which was", Some(model.resolved.clone())),
        ("digest", Some(model.digest.to_string())),
        ("size", Some(bytes(model.bytes))),
    ];
    lines.extend(model.facts.as_ref().map(header).into_iter().flatten());
    lines.push(("files", Some(files.join("\n"))));
    pairs(&lines)
}

fn header(facts: &ModelFacts) -> [(&'static str, Option<String>); 8] {
    let template = if facts.chat_template {
        "brings its template"
    } else {
        "has no template"
    };
    [
        ("format", Some(facts.format.to_string())),
        ("architecture", facts.architecture.clone()),
        ("name", facts.name.clone()),
        ("type", facts.quantization.clone()),
        ("parameters", Some(parameters(facts.parameters))),
        (
            "context",
            facts.context_length.map(|tokens| format!("{tokens} tokens")),
        ),
        ("layers", facts.layers.map(|layers| layers.to_string())),
        ("chat", Some(template.to_owned())),
    ]
}

/// Said after a model was taken in.
pub(crate) fn registered(located: &Located) -> String {
    let model = &located.entry;
    let place = located
        .first()
        .map(|path| clean_line(&path.display().to_string()));
    format!(
        "{}: {} · {} · {}",
        model.state,
        bytes(model.bytes),
        digest(&model.digest.to_string()),
        place.unwrap_or_default()
    )
}

/// Said of files that a removal had to leave.
pub(crate) fn left(id: &ModelId, left: &[RelativePath]) -> String {
    let names: Vec<&str> = left.iter().map(RelativePath::as_str).collect();
    format!(
        "{id}: these files could not be removed, and are tried again by the next removal: {}",
        clean_line(&names.join(", "))
    )
}

pub(crate) fn verified(found: &[Verification], look: Look) -> String {
    let rows = found.iter().flat_map(|verification| {
        let id = verification.model.id.as_str();
        verification.files.iter().map(move |file| {
            let finding = match file.finding {
                Finding::Sound => toned("sound", Tone::Good, look),
                Finding::Missing => toned("missing", Tone::Doubtful, look),
                Finding::Wrong(_) => toned("wrong", Tone::Bad, look),
            };
            vec![cell(id), cell(file.name.as_str()), finding]
        })
    });
    draw(look, &["MODEL", "FILE", "BYTES"], rows)
}

/// What follows for a model that is not sound, and what to do.
pub(crate) fn unsound(verification: &Verification) -> String {
    let model = &verification.model;
    let is_wrong = |finding: &Finding| matches!(finding, Finding::Wrong(_));
    let wrong = verification.files.iter().any(|file| is_wrong(&file.finding));
    let what = if wrong {
        "its bytes are wrong, so it is retired and what was wrong of it is removed from the cache"
    } else {
        "files of it are missing"
    };
    let source = model.source.as_str();
    let cure = match source.strip_prefix("file:") {
        Some(path) => format!(
            "put the file back at {path}, or `llama-orch models rm {}`",
            model.id
        ),
        None => format!(
            "`llama-orch models pull {source} --id {}` fetches them again",
            model.id
        ),
    };
    format!("{}: {what}; {}\n", model.id, clean_line(&cure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn models_in_a_table_and_one_in_full() {
        let model = samples::model();
        insta::assert_snapshot!("models", list(std::slice::from_ref(&model), Look::Piped));
        let located = Located {
            paths: vec!["/var/lib/llama-orch/catalog/models/tiny/0123/tiny.gguf".into()],
            missing: vec![model.files[0].name.clone()],
            entry: model,
        };
        insta::assert_snapshot!("model", show(&located));
    }

    #[test]
    fn parameters_are_told_as_people_do() {
        let told = [999, 350_000_000, 8_030_261_248].map(parameters);
        assert_eq!(told, ["999", "350 M", "8.0 B"]);
    }
}
