//! Artifacts: what became of one that was stored, many in a table.

use api_types::{ArtifactInfo, ArtifactList};
use comfy_table::Cell;
use llama_orch_client::StoredArtifact;

use super::table::{Look, cell, draw};
use super::text::bytes;

/// What follows the id.
pub(crate) fn stored(stored: &StoredArtifact) -> String {
    let what = if stored.created { "stored" } else { "was there" };
    let info = &stored.info;
    let tags = match info.tags.as_slice() {
        [] => String::new(),
        tags => format!(" · {}", words(tags)),
    };
    format!("▸ {what}: {} of {}{tags}", info.kind, bytes(info.bytes))
}

pub(crate) fn list(list: &ArtifactList, look: Look) -> String {
    draw(
        look,
        &["ARTIFACT", "KIND", "SIZE", "TYPE", "TAGS"],
        list.artifacts.iter().map(row),
    )
}

/// The whole id: it is what the next command needs.
fn row(info: &ArtifactInfo) -> Vec<Cell> {
    vec![
        cell(info.id.to_string()),
        cell(info.kind.as_str()),
        cell(bytes(info.bytes)),
        cell(&info.media_type),
        cell(words(&info.tags)),
    ]
}

fn words(tags: &[api_types::ArtifactTag]) -> String {
    let tags: Vec<&str> = tags.iter().map(|tag| tag.as_str()).collect();
    tags.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn artifacts_in_a_table_and_one_that_was_stored() {
        let artifacts = samples::artifacts();
        insta::assert_snapshot!("artifacts", list(&artifacts, Look::Piped));
        let said = |created| {
            let info = artifacts.artifacts[0].clone();
            stored(&StoredArtifact { info, created })
        };
        assert_eq!(said(true), "▸ stored: diff of 1.5 KiB · release-7 review");
        assert_eq!(said(false), "▸ was there: diff of 1.5 KiB · release-7 review");
    }
}
