//! Whether pools could be started as they are configured: their GPUs, their models, their engines' programs.

use std::path::{Path, PathBuf};

use config_schema::{Launcher, Pool};
use gpu_probe::GpuInventory;

use super::{Finding, Level};

/// One pool. `gpus` is what the driver lists, where it answers; `engine` finds a program by its bare name.
pub(crate) fn check(
    pool: &Pool,
    gpus: Option<&GpuInventory>,
    engine: &dyn Fn(&Path) -> Option<PathBuf>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(gpus) = gpus {
        let missing = pool.devices.iter().filter(|device| !gpus.has(device.as_str()));
        findings.extend(missing.map(|device| {
            let what = format!("{}: the driver lists no GPU {}", pool.id, device.as_str());
            Finding::problem("pool", what).fix(["nvidia-smi -L    # lists them, for `devices`"])
        }));
    }
    findings.extend(model(pool));
    findings.extend(program(pool, engine));
    if findings.is_empty() {
        let what = format!("{}: its model and its engine are here", pool.id);
        findings.push(Finding::ok("pool", what));
    }
    findings
}

fn model(pool: &Pool) -> Option<Finding> {
    let path = pool.model.file_path()?;
    if Path::new(path).exists() {
        return None;
    }
    let what = format!("{}: its model {path} is not there", pool.id);
    Some(Finding::problem("pool", what).fix([
        "llama-orch models pull hf:ORG/REPO/FILE.gguf".to_owned(),
        format!(
            "llama-orch models show MODEL    # its path, for `model` of pool {}",
            pool.id
        ),
    ]))
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
