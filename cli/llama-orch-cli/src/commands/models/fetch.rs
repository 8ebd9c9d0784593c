//! `models pull`, `models add`, `models verify`: what takes its time, with somebody watching.

use std::path::{Path, PathBuf};

use api_types::model_ref::ModelRefKind;
use api_types::{ModelEntry, ModelId, ModelRef, Sha256Digest};
use catalog_core::Filter;
use model_provisioner::{Plan, ProvisionError, Provisioner, configured};
use narration_core::wall;

use super::watched::{Helm, watched};
use super::{Here, find};
use crate::args::{AddArgs, PullArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::models;

pub(super) async fn pull(here: &Here<'_>, args: &PullArgs) -> Result<(), Failure> {
    if matches!(args.model.kind(), ModelRefKind::File | ModelRefKind::Relative) {
        return Err(Failure::Provision(ProvisionError::Settings {
            field: "model",
            rule: "it is a file of this machine: `llama-orch models add PATH` takes it in".to_owned(),
        }));
    }
    let wanted = Wanted {
        model: &args.model,
        id: args.id.as_ref(),
        sha256: args.sha256,
    };
    let provisioner = provisioner(here, Vec::new())?;
    // A query may be a credential.
    let shown = args.model.without_query();
    if args.dry_run {
        let plan = watched(here.console, shown.as_str(), |helm| {
            planned(&provisioner, wanted, helm)
        });
        let plan = plan.await?;
        return here.console.show(&plan, |_| format!("{plan}\n")).await;
    }
    let entry = watched(here.console, shown.as_str(), |helm| {
        carried_out(&provisioner, wanted, helm)
    });
    registered(here, &provisioner, &entry.await?).await
}

/// The folder of the file is all that is looked into: who types a path means it.
pub(super) async fn add(here: &Here<'_>, args: &AddArgs) -> Result<(), Failure> {
    let path = real(&args.path)?;
    let root = if path.is_dir() {
        Some(path.as_path())
    } else {
        path.parent()
    };
    let model = reference(&path)?;
    let wanted = Wanted {
        model: &model,
        id: args.id.as_ref(),
        sha256: args.sha256,
    };
    let provisioner = provisioner(here, root.map(Path::to_owned).into_iter().collect())?;
    let shown = args.path.to_string_lossy();
    let entry = watched(here.console, &shown, |helm| {
        carried_out(&provisioner, wanted, helm)
    });
    registered(here, &provisioner, &entry.await?).await
}

pub(super) async fn verify(here: &Here<'_>, named: &[ModelRef], all: bool) -> Result<Exit, Failure> {
    let provisioner = provisioner(here, Vec::new())?;
    let ids = if all { everything(here)? } else { ids(here, named)? };
    let mut found = Vec::new();
    for id in &ids {
        let verification = watched(here.console, id.as_str(), |helm| async {
            let Helm { reporter, stop } = helm;
            provisioner.verify(id, reporter, &stop).await
        });
        found.push(verification.await?);
    }
    here.console
        .show(&found, |look| models::verified(&found, look))
        .await?;
    let unsound = found.iter().filter(|found| !found.is_sound());
    for verification in unsound.clone() {
        here.console.error(&models::unsound(verification));
    }
    Ok(match unsound.count() {
        0 => Exit::Success,
        _ => Exit::Unfit,
    })
}

fn ids(here: &Here<'_>, named: &[ModelRef]) -> Result<Vec<ModelId>, Failure> {
    let id = |model| find(here, model).map(|located| located.entry.id);
    named.iter().map(id).collect()
}

fn everything(here: &Here<'_>) -> Result<Vec<ModelId>, Failure> {
    let page = here.catalog().models(Filter::default(), usize::MAX)?;
    Ok(page.entries.into_iter().map(|entry| entry.id).collect())
}

fn provisioner(here: &Here<'_>, model_roots: Vec<PathBuf>) -> Result<Provisioner, Failure> {
    let configured = configured(&here.config.catalog, model_roots, here.environment)?;
    for notice in &configured.notices {
        here.console.note(notice);
    }
    Ok(Provisioner::new(configured.settings, wall::unix_ms)?)
}

/// What shall be in the catalog.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    model: &'a ModelRef,
    id: Option<&'a ModelId>,
    sha256: Option<Sha256Digest>,
}

async fn planned(with: &Provisioner, wanted: Wanted<'_>, helm: Helm) -> Result<Plan, ProvisionError> {
    with.plan(wanted.model, wanted.id.cloned(), wanted.sha256, &helm.stop)
        .await
}

async fn carried_out(
    with: &Provisioner,
    wanted: Wanted<'_>,
    helm: Helm,
) -> Result<ModelEntry, ProvisionError> {
    let plan = with
        .plan(wanted.model, wanted.id.cloned(), wanted.sha256, &helm.stop)
        .await?;
    with.execute(&plan, helm.reporter, &helm.stop).await
}

/// Only the id is data: a script can take it as it is.
async fn registered(here: &Here<'_>, with: &Provisioner, entry: &ModelEntry) -> Result<(), Failure> {
    here.console.show(entry, |_| format!("{}\n", entry.id)).await?;
    let located = with.catalog().locate(&ModelRef::from(&entry.id))?;
    if let Some(located) = located {
        here.console.note(&models::registered(&located));
    }
    Ok(())
}

fn real(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|source| {
        let named = std::io::Error::new(source.kind(), format!("{}: {source}", path.display()));
        Failure::io("finding the model", named)
    })
}

fn reference(path: &Path) -> Result<ModelRef, Failure> {
    format!("file:{}", path.display()).parse().map_err(|error| {
        Failure::Provision(ProvisionError::Settings {
            field: "path",
            rule: format!("{error}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_reference_can_name_is_refused() {
        assert!(reference(Path::new("/models/a.gguf")).is_ok());
        let refusal = reference(Path::new("/models/a b.gguf")).unwrap_err();
        assert!(refusal.to_string().contains("' '"), "{refusal}");
    }
}
