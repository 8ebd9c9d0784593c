//! Docker's command line: GPUs by `--gpus`, everything else by its daemon.

use std::path::Path;

use serde::Deserialize;

use super::{Dialect, Reading, strings};
use crate::facts::{Backend, CgroupVersion, Facts, Network};
use crate::host::Adaptation;
use crate::spec::DeviceMask;
use crate::version::Version;

/// See the module.
#[derive(Debug)]
pub(super) struct Docker;

/// `docker info`, as far as we need it. Fields of the daemon are empty when it is not reached.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    server_version: String,
    #[serde(default)]
    default_runtime: String,
    #[serde(default)]
    cgroup_driver: String,
    #[serde(default)]
    cgroup_version: String,
    #[serde(default)]
    memory_limit: bool,
    #[serde(default)]
    pids_limit: bool,
    #[serde(default)]
    security_options: Option<Vec<String>>,
    #[serde(default)]
    operating_system: String,
    #[serde(default)]
    server_errors: Option<Vec<String>>,
}

impl Info {
    fn has(&self, option: &str) -> bool {
        let options = self.security_options.as_deref().unwrap_or_default();
        options
            .iter()
            .any(|one| one.split(',').next() == Some(&format!("name={option}")))
    }
}

impl Dialect for Docker {
    fn backend(&self) -> Backend {
        Backend::Docker
    }

    /// The oldest that distributions still maintain; `--gpus` is older.
    fn oldest(&self) -> Version {
        Version(20, 10, 0)
    }

    fn info(&self) -> &'static [&'static str] {
        &["info", "--format", "{{json .}}"]
    }

    fn read_info(&self, stdout: &[u8], program: &Path) -> Result<Reading, String> {
        let info: Info = serde_json::from_slice(stdout).map_err(|error| error.to_string())?;
        if info.server_version.is_empty() {
            let errors = info.server_errors.unwrap_or_default();
            return Ok(Reading::NoDaemon(errors.join("; ")));
        }
        if info.operating_system.contains("Docker Desktop") {
            return Ok(Reading::NotLocal(info.operating_system));
        }
        Ok(Reading::Facts(Facts {
            backend: Backend::Docker,
            program: program.to_owned(),
            version: Version::find(&info.server_version).ok_or("no version")?,
            rootless: info.has("rootless"),
            cgroups: match info.cgroup_version.as_str() {
                "2" => CgroupVersion::V2,
                _ => CgroupVersion::V1,
            },
            limits_memory: info.memory_limit,
            limits_pids: info.pids_limit,
            selinux: info.has("selinux"),
            network: Network::Bridge,
            oci_runtime: info.default_runtime,
            cgroup_manager: info.cgroup_driver,
        }))
    }

    fn before(&self, _: &Adaptation) -> Vec<String> {
        Vec::new()
    }

    /// The value is read as a line of comma-separated values, so the list of devices stands in quotation marks.
    fn devices(&self, mask: &DeviceMask) -> Vec<String> {
        let uuids: Vec<&str> = mask.iter().map(|uuid| uuid.as_str()).collect();
        vec!["--gpus".to_owned(), format!("\"device={}\"", uuids.join(","))]
    }

    fn run_flags(&self, facts: &Facts, _: &Adaptation) -> Vec<String> {
        // Two files of half the size: the driver counts per file.
        let mut flags = strings([
            "--log-driver",
            "local",
            "--log-opt",
            "max-size=5m",
            "--log-opt",
            "max-file=2",
        ]);
        if facts.selinux {
            // The policy for containers forbids NVIDIA's devices.
            flags.extend(strings(["--security-opt", "label=disable"]));
        }
        flags
    }

    fn remove(&self) -> &'static [&'static str] {
        &["rm", "--force", "--volumes"]
    }
}
