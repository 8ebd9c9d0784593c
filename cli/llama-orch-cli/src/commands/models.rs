//! `models …`: the catalog of this machine.

mod fetch;
mod watched;

use api_types::{Lifecycle, ModelEntry, ModelRef};
use catalog_core::{CatalogError, Filter, Located};
use narration_core::wall;
use serde::Serialize;
use serde_json::json;

use super::here::Here;
use crate::args::ModelsCommand;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::models;

pub(super) async fn perform(here: &Here<'_>, command: &ModelsCommand) -> Result<Exit, Failure> {
    match command {
        ModelsCommand::Pull(args) => fetch::pull(here, args).await?,
        ModelsCommand::Add(args) => fetch::add(here, args).await?,
        ModelsCommand::List { state, limit, cursor } => {
            let filter = Filter {
                state: *state,
                before: *cursor,
            };
            list(here, filter, *limit).await?;
        }
        ModelsCommand::Show { model } => show(here, model).await?,
        ModelsCommand::Verify { models, all } => return fetch::verify(here, models, *all).await,
        ModelsCommand::Retire { model } => turn(here, model, Lifecycle::Retired).await?,
        ModelsCommand::Activate { model } => turn(here, model, Lifecycle::Active).await?,
        ModelsCommand::Rm { models } => remove(here, models).await?,
    }
    Ok(Exit::Success)
}

/// The model that is meant.
fn find(here: &Here<'_>, model: &ModelRef) -> Result<Located, Failure> {
    let unknown = || CatalogError::Unknown {
        kind: "model",
        id: model.without_query().as_str().to_owned(),
    };
    Ok(here.catalog().locate(model)?.ok_or_else(unknown)?)
}

#[derive(Serialize)]
struct Page {
    models: Vec<ModelEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<u64>,
}

async fn list(here: &Here<'_>, filter: Filter, limit: u32) -> Result<(), Failure> {
    let page = here.catalog().models(filter, limit as usize)?;
    let page = Page {
        models: page.entries,
        next_cursor: page.next,
    };
    here.console
        .show(&page, |look| models::list(&page.models, look))
        .await?;
    if let Some(cursor) = page.next_cursor {
        here.console.note(&format!("more: --cursor {cursor}"));
    }
    Ok(())
}

async fn show(here: &Here<'_>, model: &ModelRef) -> Result<(), Failure> {
    let located = find(here, model)?;
    let document = json!({
        "model": located.entry,
        "paths": located.paths,
        "missing": located.missing,
    });
    here.console.show(&document, |_| models::show(&located)).await
}

async fn turn(here: &Here<'_>, model: &ModelRef, state: Lifecycle) -> Result<(), Failure> {
    let id = find(here, model)?.entry.id;
    let entry = here.catalog().set_model_state(&id, state, wall::unix_ms())?;
    here.console
        .show(&entry, |_| format!("{}\t{}\n", entry.id, entry.state))
        .await
}

async fn remove(here: &Here<'_>, models: &[ModelRef]) -> Result<(), Failure> {
    // A typing error in the last name shall not cost the models before it.
    let found: Vec<Located> = models
        .iter()
        .map(|model| find(here, model))
        .collect::<Result<_, _>>()?;
    let mut removed = Vec::new();
    for located in found {
        let id = located.entry.id;
        let gone = here.catalog().remove_model(&id, wall::unix_ms())?;
        if !gone.left.is_empty() {
            here.console.note(&models::left(&id, &gone.left));
        }
        removed.push(json!({"model": gone.entry, "left": gone.left}));
    }
    let text = |_| {
        let ids = removed.iter().filter_map(|gone| gone["model"]["id"].as_str());
        ids.map(|id| format!("{id}\n")).collect()
    };
    here.console.show(&removed, text).await
}
