//! `doctor`: looks at everything at once, each with its own limit, so that the whole takes less than a second.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use api_types::link::NodeReport;
use api_types::model_ref::ModelRefKind;
use api_types::{Lifecycle, ModelRef};
use catalog_core::Catalog;
use config_schema::{BaseUrl, Config, Environment, Loaded, Overrides, Pool, load_local};
use container_runtime::{CDI_DIRS, Deadlines, DeviceMask, Needs, Preflight, Setup, detect, preflight};
use gpu_probe::{GpuInventory, GpuState, NVML_LIBRARY, NvmlGpus, look_once};
use llama_orch_client::{ClientConfig, ClientError, NodeClient, OrchestratorClient, Timeouts};
use narration_core::wall;
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::args::{DoctorArgs, Global};
use crate::console::Console;
use crate::doctor::distribution::Distribution;
use crate::doctor::pools::Place;
use crate::doctor::ports::Listener;
use crate::doctor::{Finding, Level, containers, disk, gpus, pools, ports, system};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::doctor;

/// For each thing that is looked at; all are looked at together.
const LIMIT: Duration = Duration::from_millis(800);

/// The daemons are on this machine.
const PATIENCE: Timeouts = Timeouts {
    connect: Duration::from_millis(300),
    request: LIMIT,
    idle: LIMIT,
};

pub(super) async fn perform(
    console: &Console,
    environment: &Environment,
    global: &Global,
    args: &DoctorArgs,
) -> Result<Exit, Failure> {
    let overrides = Overrides::default().config_file(args.local.config.clone());
    let loaded = load_local(environment, &overrides);
    let doctor = Doctor::new(environment, global)?;
    let findings = match &loaded {
        Ok(loaded) => doctor.of_machine(loaded).await?,
        Err(errors) => {
            let mut findings = system::broken(errors);
            findings.extend(doctor.without_configuration().await?);
            findings
        }
    };
    console
        .show(&doctor::document(&findings), |look| doctor::text(&findings, look))
        .await?;
    let problems = findings.iter().any(|finding| finding.level == Level::Problem);
    Ok(if problems { Exit::Unfit } else { Exit::Success })
}

struct Doctor<'c> {
    environment: &'c Environment,
    client: ClientConfig,
    here: Distribution,
}

impl<'c> Doctor<'c> {
    fn new(environment: &'c Environment, global: &Global) -> Result<Self, Failure> {
        let client = super::configuration(global, environment)?;
        // What cannot be read tells nothing.
        let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        Ok(Self {
            environment,
            client: ClientConfig {
                timeouts: PATIENCE,
                ..ClientConfig::new(client.url.as_str(), client.token)
            },
            here: Distribution::of(&os_release),
        })
    }

    async fn of_machine(&self, loaded: &Loaded) -> Result<Vec<Finding>, Failure> {
        let config = &loaded.config;
        let (node, orchestrator) = (&config.pool_managerd, &config.orchestratord);
        let library = node.nvml_library.as_deref();
        let (state, report, answers, found, clock, room) = tokio::join!(
            self.driver(library),
            self.node(config),
            self.orchestrator(config),
            self.containers(&node.pools),
            clock(),
            room(&config.catalog.root),
        );
        let state = state?;
        let mut findings = system::configuration(loaded.file.as_deref(), &loaded.warnings);
        findings.extend(self.cards(&state, report.as_ref().ok()));
        findings.extend(self.pools(config, state.as_deref().ok()));
        findings.extend(room);
        let orchestratord = listener(
            answers.as_ref().err().filter(|_| answers.is_err()),
            answers.is_ok(),
        );
        findings.push(ports::check(
            "orchestratord",
            orchestrator.addr.get(),
            &orchestratord,
        ));
        let pool_managerd = listener(report.as_ref().err(), report.is_ok());
        findings.push(ports::check("pool-managerd", node.addr.get(), &pool_managerd));
        findings.extend(found);
        findings.push(self.toolkit());
        findings.push(clock);
        Ok(findings)
    }

    /// What needs none.
    async fn without_configuration(&self) -> Result<Vec<Finding>, Failure> {
        let (state, clock) = tokio::join!(self.driver(None), clock());
        let mut findings = self.cards(&state?, None);
        findings.extend([self.toolkit(), clock]);
        Ok(findings)
    }

    async fn driver(&self, library: Option<&Path>) -> Result<GpuState, Failure> {
        let library = library.unwrap_or_else(|| Path::new(NVML_LIBRARY)).to_owned();
        look_once(Box::new(NvmlGpus::new(library)), LIMIT)
            .await
            .map_err(|source| Failure::io("asking the driver", source))
    }

    /// The cards as the driver has them; whose engines hold what, as pool-managerd tells it.
    fn cards(&self, state: &GpuState, report: Option<&NodeReport>) -> Vec<Finding> {
        let inventory = state.as_deref();
        let mut findings = gpus::driver(inventory, self.here);
        let Ok(inventory) = inventory else {
            return findings;
        };
        for gpu in &inventory.gpus {
            let known = report.and_then(|report| report.gpus.iter().find(|known| known.uuid == gpu.uuid));
            let card = match known {
                Some(known) => known.clone(),
                None => api_types::pool::GpuReport {
                    used_by_others_bytes: gpu.memory_used_bytes,
                    ..gpu.clone()
                },
            };
            findings.extend(gpus::card(&card, &program));
        }
        findings
    }

    fn pools(&self, config: &Config, inventory: Option<&GpuInventory>) -> Vec<Finding> {
        let configured = &config.pool_managerd.pools;
        if configured.is_empty() {
            return vec![pools::none()];
        }
        let engine = |name: &Path| self.in_path(name);
        let catalog = Catalog::at(&config.catalog.root);
        let models = config.pool_managerd.state_dir.join("models");
        let place = |model: &ModelRef| place(model, &catalog, &models);
        let each = configured
            .iter()
            .map(|pool| pools::check(pool, inventory, &engine, &place));
        each.flatten().collect()
    }

    fn in_path(&self, name: &Path) -> Option<PathBuf> {
        let path = self.environment.get("PATH")?;
        let folders = path.split(':').filter(|folder| folder.starts_with('/'));
        folders
            .map(|folder| Path::new(folder).join(name))
            .find(|path| path.is_file())
    }

    async fn node(&self, config: &Config) -> Result<NodeReport, ClientError> {
        let url = BaseUrl::http(config.pool_managerd.addr.reachable());
        NodeClient::new(self.client.token.clone(), PATIENCE)?
            .node(url.as_str())
            .await
    }

    /// The orchestrator of this machine, which need not be the one that the node is of.
    async fn orchestrator(&self, config: &Config) -> Result<(), ClientError> {
        let url = BaseUrl::http(config.orchestratord.addr.reachable());
        let client = OrchestratorClient::new(ClientConfig {
            base_url: url.as_str().to_owned(),
            ..self.client.clone()
        })?;
        client.capabilities().await.map(drop)
    }

    /// Asked with the devices of the pools, so that their specifications are checked; without pools, only for itself.
    async fn containers(&self, pools: &[Pool]) -> Vec<Finding> {
        let needed = pools.iter().any(|pool| pool.container.is_some());
        let setup = Setup {
            environment: container_runtime::Environment::looked_up(|name| self.environment.get(name)),
            deadlines: Deadlines {
                query: LIMIT,
                ..Deadlines::default()
            },
            ..Setup::default()
        };
        match timeout(LIMIT, found(&setup, pools)).await {
            Ok(found) => containers::findings(&found, needed, self.here),
            Err(_elapsed) => vec![containers::late(needed)],
        }
    }

    fn toolkit(&self) -> Finding {
        let places = system::nvcc_places(self.environment.get("PATH").unwrap_or_default());
        let nvcc = places.iter().find(|path| path.is_file());
        system::cuda_toolkit(nvcc.map(PathBuf::as_path), self.here)
    }
}

async fn found(setup: &Setup, pools: &[Pool]) -> Preflight {
    let mut devices: Vec<&str> = pools
        .iter()
        .flat_map(|pool| pool.devices.iter().map(|device| device.as_str()))
        .collect();
    devices.sort_unstable();
    devices.dedup();
    match DeviceMask::parse(devices) {
        Ok(devices) => {
            let needs = Needs {
                devices,
                driver: None,
                port: None,
                paths: Vec::new(),
                cdi_dirs: CDI_DIRS.map(PathBuf::from).into(),
            };
            preflight(setup, &needs).await
        }
        Err(_) => match detect(setup).await {
            Ok(runtime) => Preflight {
                runtime: Some(runtime),
                findings: Vec::new(),
            },
            Err(none) => Preflight {
                runtime: None,
                findings: vec![container_runtime::Finding {
                    severity: container_runtime::Severity::Refusal,
                    problem: container_runtime::Problem::NoRuntime(none),
                }],
            },
        },
    }
}

/// A refusal is an answer of the daemon too: it wants a token.
fn listener(error: Option<&ClientError>, answers: bool) -> Listener {
    if answers || matches!(error, Some(ClientError::Api(_))) {
        Listener::Daemon
    } else {
        Listener::Other
    }
}

/// Where pool-managerd would look for it.
fn place(model: &ModelRef, catalog: &Catalog, models: &Path) -> Place {
    let file = match model.kind() {
        ModelRefKind::File => model.file_path().map(PathBuf::from),
        ModelRefKind::Relative | ModelRefKind::Catalog => Some(models.join(model.as_str())),
        ModelRefKind::Hub | ModelRefKind::Https | ModelRefKind::S3 | ModelRefKind::Oci => None,
    };
    let in_catalog = match model.kind() {
        ModelRefKind::File | ModelRefKind::Relative => Ok(None),
        ModelRefKind::Catalog
        | ModelRefKind::Hub
        | ModelRefKind::Https
        | ModelRefKind::S3
        | ModelRefKind::Oci => catalog.locate(model),
    };
    match in_catalog {
        Ok(Some(located)) if located.entry.state == Lifecycle::Retired => Place::Retired,
        Ok(Some(located)) if located.missing.is_empty() => Place::Here,
        // A catalog that cannot be read is told by every command that needs it.
        Ok(Some(_)) | Err(_) => Place::Nowhere,
        Ok(None) if file.is_some_and(|file| file.exists()) => Place::Here,
        Ok(None) => Place::Nowhere,
    }
}

/// The name of a program that runs.
fn program(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

async fn clock() -> Finding {
    system::clock(wall::unix_ms(), within(synchronized()).await.flatten())
}

/// As systemd tells it; others have no common way to.
async fn synchronized() -> Option<bool> {
    let output = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    match output.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

/// A disk that hangs is told instead of waited for.
async fn room(folder: &Path) -> Vec<Finding> {
    let (looked, shown) = (folder.to_owned(), folder.display());
    match within(spawn_blocking(move || disk::check(&looked))).await {
        Some(Ok(findings)) => findings,
        Some(Err(_)) | None => {
            let what = format!("{shown} does not answer");
            vec![Finding::problem("disk", what).fix(["mount", "sudo dmesg | tail"])]
        }
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    timeout(LIMIT, work).await.ok()
}
