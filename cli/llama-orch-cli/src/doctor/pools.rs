//! Whether pools could be started as they are configured: their GPUs, their models, their engines' programs.

use std::path::{Path, PathBuf};

use api_types::ModelRef;
use api_types::model_ref::ModelRefKind;
use config_schema::{Launcher, Pool};
use gpu_probe::GpuInventory;

use super::{Finding, Level};

/// Where a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It can be loaded.
    Here,
    /// The catalog has it, and it may not be used.
    Retired,
    /// It is not where it would be loaded from.
    Nowhere,
}

/// One pool. `gpus` is what the driver lists, where it answers; `engine` finds a program by its bare name, `place` a model.
pub(crate) fn check(
    pool: &Pool,
    gpus: Option<&GpuInventory>,
    engine: &dyn Fn(&Path) -> Option<PathBuf>,
    place: &dyn Fn(&ModelRef) -> Place,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(gpus) = gpus {
        let missing = pool.devices.iter().filter(|device| !gpus.has(device.as_str()));
        findings.extend(missing.map(|device| {
            let what = format!("{}: the driver lists no GPU {}", pool.id, device.as_str());
            Finding::problem("pool", what).fix(["nvidia-smi -L    # lists them, for `devices`"])
        }));
    }
    findings.extend(model(pool, &pool.model, place));
    let more = pool.models.iter();
    findings.extend(more.filter_map(|more| model(pool, &more.model, place)));
    findings.extend(program(pool, engine));
    if findings.is_empty() {
        let what = format!("{}: its model and its engine are here", pool.id);
        findings.push(Finding::ok("pool", what));
    }
    findings
}

fn model(pool: &Pool, model: &ModelRef, place: &dyn Fn(&ModelRef) -> Place) -> Option<Finding> {
    // A query may be a credential.
    let asked = model.without_query();
    let shown = asked.as_str();
    let fetchable = match model.kind() {
        ModelRefKind::Hub | ModelRefKind::Https | ModelRefKind::S3 | ModelRefKind::Oci => true,
        ModelRefKind::File | ModelRefKind::Relative | ModelRefKind::Catalog => false,
    };
    let (level, what, fix) = match place(model) {
        Place::Here => return None,
        Place::Retired => {
            let fix = format!("llama-orch models activate {shown}");
            (Level::Problem, "is retired", fix)
        }
        Place::Nowhere if fetchable => {
            let fix = format!("llama-orch models pull {shown}    # now");
            (Level::Note, "is fetched when the pool is to serve it", fix)
        }
        Place::Nowhere => {
            let fix = "llama-orch models list    # what is here, for the pool's `model`".to_owned();
            (Level::Problem, "is not there", fix)
        }
    };
    let what = format!("{}: its model {shown} {what}", pool.id);
    Some(Finding::new("pool", level, what).fix([fix]))
}

fn program(pool: &Pool, engine: &dyn Fn(&Path) -> Option<PathBuf>) -> Option<Finding> {
    let Launcher::Program(program) = pool.launcher() else {
        return None;
    };
    let found = if program.is_absolute() {
        program.exists()
    } else {
        engine(program).is_some()
    };
    if found {
        return None;
    }
    let what = format!("{}: its engine {} is not there", pool.id, program.display());
    Some(Finding::problem("pool", what).fix([
        "git clone https://github.com/ggml-org/llama.cpp && cd llama.cpp",
        "cmake -B build -DGGML_CUDA=ON && cmake --build build --target llama-server -j",
        "# then `binary` of the pool is the path of build/bin/llama-server",
    ]))
}

/// Said where nothing is configured.
pub(crate) fn none() -> Finding {
    Finding::new(
        "pool",
        Level::Warning,
        "no pool is configured: nothing will be served here",
    )
    .fix([
        "llama-orch node join --out ~/.config/llama-orch/config.toml    # writes a configuration to fill in",
    ])
}
