//! Podman's command line: CDI devices, networks in user space, a runtime and limits that fit the machine.

use std::path::Path;

use serde::Deserialize;

use super::{Dialect, Reading, strings};
use crate::facts::{Backend, CgroupVersion, Facts, Network};
use crate::host::Adaptation;
use crate::spec::DeviceMask;
use crate::version::Version;

/// See the module.
#[derive(Debug)]
pub(super) struct Podman;

/// `podman info`, as far as we need it.
#[derive(Debug, Deserialize)]
struct Info {
    host: Host,
    version: VersionInfo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    cgroup_manager: String,
    cgroup_version: String,
    #[serde(default)]
    cgroup_controllers: Option<Vec<String>>,
    oci_runtime: OciRuntime,
    security: Security,
    #[serde(default)]
    service_is_remote: bool,
    #[serde(default)]
    pasta: Helper,
    #[serde(default)]
    slirp4netns: Helper,
}

#[derive(Debug, Deserialize)]
struct OciRuntime {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Security {
    rootless: bool,
    #[serde(default)]
    selinux_enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Helper {
    #[serde(default)]
    executable: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersionInfo {
    version: String,
}

impl Host {
    /// An engine gets a network of its own. On the bridge, containers reach each other's ports, and the firewall of this
    /// machine changes.
    fn network(&self) -> Network {
        let helpers = [
            (&self.pasta, Network::Pasta),
            (&self.slirp4netns, Network::Slirp4netns),
        ];
        let present = helpers
            .into_iter()
            .find(|(helper, _)| !helper.executable.is_empty());
        present.map_or(Network::Bridge, |(_, network)| network)
    }
}

impl Dialect for Podman {
    fn backend(&self) -> Backend {
        Backend::Podman
    }

    /// The first that resolves CDI devices.
    fn oldest(&self) -> Version {
        Version(4, 1, 0)
    }

    fn info(&self) -> &'static [&'static str] {
        &["info", "--format", "json"]
    }

    fn read_info(&self, stdout: &[u8], program: &Path) -> Result<Reading, String> {
        let Info { host, version } = serde_json::from_slice(stdout).map_err(|error| error.to_string())?;
        if host.service_is_remote {
            return Ok(Reading::NotLocal("its service is remote".to_owned()));
        }
        let version = Version::find(&version.version).ok_or("no version")?;
        let cgroups = match host.cgroup_version.as_str() {
            "v1" => CgroupVersion::V1,
            "v2" => CgroupVersion::V2,
            other => return Err(format!("cgroupVersion {other:?}")),
        };
        // Podman ignores limits of rootless containers on cgroups of version 1: an ordinary user makes none there.
        let without_limits = host.security.rootless && cgroups == CgroupVersion::V1;
        let controllers = host.cgroup_controllers.as_deref().unwrap_or_default();
        let limits = |controller: &str| !without_limits && controllers.iter().any(|name| name == controller);
        Ok(Reading::Facts(Facts {
            backend: Backend::Podman,
            program: program.to_owned(),
            version,
            rootless: host.security.rootless,
            limits_memory: limits("memory"),
            limits_pids: limits("pids"),
            selinux: host.security.selinux_enabled,
            network: host.network(),
            oci_runtime: host.oci_runtime.name,
            cgroup_manager: host.cgroup_manager,
            cgroups,
        }))
    }

    fn before(&self, adaptation: &Adaptation) -> Vec<String> {
        // Warnings would push what matters out of a bounded quotation.
        let mut flags = strings(["--log-level", "error"]);
        if let Some(runtime) = &adaptation.oci_runtime {
            flags.extend(["--runtime".to_owned(), runtime.display().to_string()]);
        }
        if adaptation.cgroupfs {
            flags.extend(strings(["--cgroup-manager", "cgroupfs"]));
        }
        flags
    }

    /// By CDI. The variable overrides an image that asks NVIDIA's older hook for all devices.
    fn devices(&self, mask: &DeviceMask) -> Vec<String> {
        let devices = mask
            .iter()
            .flat_map(|uuid| ["--device".to_owned(), format!("nvidia.com/gpu={uuid}")]);
        let void = strings(["--env", "NVIDIA_VISIBLE_DEVICES=void"]);
        devices.chain(void).collect()
    }

    fn run_flags(&self, facts: &Facts, adaptation: &Adaptation) -> Vec<String> {
        let mut flags = strings([
            "--read-only-tmpfs=false",
            "--http-proxy=false",
            "--systemd=false",
            "--log-driver",
            "k8s-file",
            "--log-opt",
            "max-size=10485760",
        ]);
        flags.extend(match facts.network {
            Network::Pasta => strings(["--network", "pasta"]),
            Network::Slirp4netns => strings(["--network", "slirp4netns"]),
            Network::Bridge => Vec::new(),
        });
        if facts.selinux {
            // The policy for containers forbids NVIDIA's devices.
            flags.extend(strings(["--security-opt", "label=disable"]));
        }
        let ulimits = [("nofile", adaptation.open_files), ("nproc", adaptation.processes)];
        for (name, limit) in ulimits {
            if let Some(limit) = limit {
                flags.extend(["--ulimit".to_owned(), format!("{name}={limit}:{limit}")]);
            }
        }
        flags
    }

    fn remove(&self) -> &'static [&'static str] {
        &["rm", "--force", "--volumes", "-t", "0"]
    }
}
