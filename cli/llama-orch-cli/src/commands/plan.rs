//! `plan`: whether a model fits on this machine's GPUs.

use std::path::{Path, PathBuf};

use api_types::{EngineKind, MeasuredUsage, ModelFacts, ModelRef, Sha256Digest};
use model_files::{Part, inspect};
use vram_planner::{Allowance, Load, Request, need, plan};

use super::gpus;
use super::here::Here;
use crate::args::{Global, PlanArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::plan::{Answer, document, text};

/// What was never measured of any version is measured of none.
const NO_VERSION: &str = "";

pub(super) async fn perform(here: &Here<'_>, global: &Global, args: &PlanArgs) -> Result<Exit, Failure> {
    let subject = subject(here, &args.model)?;
    let measured = measured(here, &subject)?;
    let load = load(args, &measured);
    let gpus = gpus::look(here, global).await?;
    let request = Request {
        model: subject.digest.unwrap_or_else(unmeasured),
        facts: &subject.facts,
        load: load.clone(),
        devices: args.gpus,
        allowance: Allowance::default(),
    };
    let need = need(
        &request.model,
        request.facts,
        &request.load,
        request.devices,
        &measured,
        request.allowance,
    )?;
    let plan = plan(&request, &gpus::devices(&gpus.reports), &measured)?;
    let answer = Answer {
        model: &subject.name,
        facts: &subject.facts,
        load: &load,
        gpus: args.gpus,
        need: &need,
        plan: &plan,
        trouble: gpus.trouble.as_deref(),
    };
    here.console
        .show(&document(&answer), |look| text(&answer, look))
        .await?;
    if let Some(caveat) = gpus.caveat {
        here.console.note(caveat);
    }
    Ok(if plan.fits() { Exit::Success } else { Exit::Unfit })
}

/// The model in question.
struct Subject {
    name: String,
    /// Known for models of the catalog.
    digest: Option<Sha256Digest>,
    facts: ModelFacts,
}

fn subject(here: &Here<'_>, asked: &str) -> Result<Subject, Failure> {
    let located = match asked.parse::<ModelRef>() {
        Ok(reference) => here.catalog().locate(&reference)?,
        Err(_) => None,
    };
    let path = Path::new(asked.strip_prefix("file:").unwrap_or(asked));
    match located {
        Some(located) => {
            let facts = match (&located.entry.facts, located.first()) {
                (Some(facts), _) => facts.clone(),
                (None, Some(first)) => facts_of(first)?,
                (None, None) => return Err(no_model(asked)),
            };
            Ok(Subject {
                name: located.entry.id.to_string(),
                digest: Some(located.entry.digest),
                facts,
            })
        }
        None if path.exists() => Ok(Subject {
            name: path.display().to_string(),
            digest: None,
            facts: facts_of(path)?,
        }),
        None => Err(no_model(asked)),
    }
}

fn no_model(asked: &str) -> Failure {
    Failure::NoModel {
        model: asked.to_owned(),
    }
}

fn facts_of(path: &Path) -> Result<ModelFacts, Failure> {
    let unusable = |source| Failure::Model {
        path: path.to_owned(),
        source,
    };
    let parts = parts(path).map_err(|source| Failure::io("looking for the model's files", source))?;
    Ok(inspect(&parts).map_err(unusable)?.facts)
}

/// The file, or those of the folder.
fn parts(path: &Path) -> std::io::Result<Vec<Part>> {
    let part = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        Some(Part { name, path })
    };
    if !path.is_dir() {
        return Ok(part(path.to_owned()).into_iter().collect());
    }
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        parts.extend(Some(path).filter(|path| path.is_file()).and_then(part));
    }
    Ok(parts)
}

/// What was seen of this model's loads.
fn measured(here: &Here<'_>, subject: &Subject) -> Result<Vec<MeasuredUsage>, Failure> {
    let Some(digest) = subject.digest else {
        return Ok(Vec::new());
    };
    let mut measured = here.catalog().usage()?;
    measured.retain(|seen| seen.key.model == digest);
    Ok(measured)
}

/// Stands for a model of which nothing was measured.
fn unmeasured() -> Sha256Digest {
    Sha256Digest::new([0; 32])
}

fn load(args: &PlanArgs, measured: &[MeasuredUsage]) -> Load {
    Load {
        engine: args.engine,
        engine_version: version(args.engine, measured),
        ctx: args.ctx,
        slots: args.slots,
        cache_k: args.cache_k,
        cache_v: args.cache_v,
        ubatch: args.ubatch,
        flash_attention: !args.no_flash_attention,
        unified: args.kv_unified,
    }
}

/// The version that was measured last: the one that is in use.
fn version(engine: EngineKind, measured: &[MeasuredUsage]) -> String {
    let of = measured.iter().filter(|seen| seen.key.engine == engine);
    let last = of.max_by_key(|seen| seen.measured_unix_ms);
    last.map_or_else(|| NO_VERSION.to_owned(), |seen| seen.key.engine_version.clone())
}
