//! What this machine grants: cgroup layout, resource limits, an init system, a runc. Reads procfs and the file system;
//! what follows from it is decided in [`Adaptation`], which is pure.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::facts::{Backend, CgroupVersion, Facts};
use crate::search::SearchPath;

/// Podman's own default for open files; more is of no use to an engine.
const MOST_OPEN_FILES: u64 = 1 << 20;

/// What is mounted as cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CgroupLayout {
    /// Version 2 alone.
    Unified,
    /// Controllers of version 1 with version 2 beside them.
    Hybrid,
    /// Version 1 alone.
    Legacy,
    /// None.
    Absent,
}

impl CgroupLayout {
    /// Reads `/proc/self/mountinfo`.
    #[must_use]
    pub fn of_mountinfo(text: &str) -> Self {
        // The file system's type is the first field after the lone dash; the fields before it vary in number.
        let types = text
            .lines()
            .filter_map(|line| line.split_once(" - ")?.1.split(' ').next());
        let (mut v1, mut v2) = (false, false);
        for kind in types {
            v1 |= kind == "cgroup";
            v2 |= kind == "cgroup2";
        }
        match (v1, v2) {
            (true, true) => Self::Hybrid,
            (true, false) => Self::Legacy,
            (false, true) => Self::Unified,
            (false, false) => Self::Absent,
        }
    }
}

/// The machine, as far as it decides how containers must be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What is mounted as cgroups.
    pub cgroups: CgroupLayout,
    /// Most open files that this process may grant; `None` is without limit.
    pub open_files: Option<u64>,
    /// Most processes that this process may grant; `None` is without limit.
    pub processes: Option<u64>,
    /// Process ids end here.
    pub pid_max: Option<u64>,
    /// Whether systemd runs this machine.
    pub systemd: bool,
    /// Where runc is.
    pub runc: Option<PathBuf>,
}

impl Host {
    /// Looks at this machine. What cannot be read counts as absent or without limit.
    #[must_use]
    pub fn look(path: &SearchPath) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let pid_max = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
        Self {
            cgroups: CgroupLayout::of_mountinfo(&mounts),
            open_files: getrlimit(Resource::Nofile).maximum,
            processes: getrlimit(Resource::Nproc).maximum,
            pid_max: pid_max.and_then(|text| text.trim().parse().ok()),
            systemd: Path::new("/run/systemd/system").is_dir(),
            runc: path.find_also_in_sbin("runc"),
        }
    }
}

/// What must be said on the command line because of the machine; otherwise its containers do not start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adaptation {
    /// `--runtime`: crun starts no container on hybrid cgroups.
    pub oci_runtime: Option<PathBuf>,
    /// `--cgroup-manager cgroupfs`: systemd is asked for, and does not run.
    pub cgroupfs: bool,
    /// `--ulimit nofile`: Podman asks for more than a capped service may grant.
    pub open_files: Option<u64>,
    /// `--ulimit nproc`: the same, and Podman itself goes no higher than the last process id.
    pub processes: Option<u64>,
    /// Whether crun would have to be replaced, and there is no runc.
    pub runc_is_missing: bool,
}

impl Adaptation {
    /// What `facts` on `host` need. Docker's daemon grants its own limits, so nothing is asked of it.
    #[must_use]
    pub fn of(facts: &Facts, host: &Host) -> Self {
        if facts.backend == Backend::Docker {
            return Self::default();
        }
        let needs_runc = facts.oci_runtime == "crun"
            && facts.cgroups == CgroupVersion::V1
            && host.cgroups == CgroupLayout::Hybrid;
        let least = |limits: [Option<u64>; 2]| limits.into_iter().flatten().min();
        Self {
            oci_runtime: host.runc.clone().filter(|_| needs_runc),
            cgroupfs: facts.cgroup_manager == "systemd" && !host.systemd,
            open_files: least([host.open_files, Some(MOST_OPEN_FILES)]),
            processes: least([host.processes, host.pid_max]),
            runc_is_missing: needs_runc && host.runc.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Network;
    use crate::version::Version;
    use proptest::prelude::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str =
        "25 22 0:23 / /sys/fs/cgroup rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn facts() -> Facts {
        Facts {
            backend: Backend::Podman,
            program: "/usr/bin/podman".into(),
            version: Version(4, 3, 1),
            rootless: false,
            oci_runtime: "crun".into(),
            cgroup_manager: "cgroupfs".into(),
            cgroups: CgroupVersion::V1,
            limits_memory: true,
            limits_pids: true,
            selinux: false,
            network: Network::Slirp4netns,
        }
    }

    fn host() -> Host {
        Host {
            cgroups: CgroupLayout::Hybrid,
            open_files: Some(20_000),
            processes: Some(96_364),
            pid_max: Some(32_768),
            systemd: false,
            runc: Some("/usr/sbin/runc".into()),
        }
    }

    #[test]
    fn the_layout_is_read_from_the_mounts() {
        assert_eq!(CgroupLayout::of_mountinfo(HYBRID), CgroupLayout::Hybrid);
        assert_eq!(CgroupLayout::of_mountinfo(UNIFIED), CgroupLayout::Unified);
        let legacy: String = HYBRID.lines().take(2).collect::<Vec<_>>().join("\n");
        assert_eq!(CgroupLayout::of_mountinfo(&legacy), CgroupLayout::Legacy);
        assert_eq!(CgroupLayout::of_mountinfo(""), CgroupLayout::Absent);
    }

    /// REQ-CONTAINER-MACHINES.
    #[test]
    fn crun_gives_way_to_runc_on_hybrid_cgroups_only() {
        let adapted = Adaptation::of(&facts(), &host());
        assert_eq!(adapted.oci_runtime, Some("/usr/sbin/runc".into()));
        assert!(!adapted.runc_is_missing);
        let without = Host { runc: None, ..host() };
        let missing = Adaptation::of(&facts(), &without);
        assert!(missing.runc_is_missing && missing.oci_runtime.is_none());
        let unified = Facts {
            cgroups: CgroupVersion::V2,
            ..facts()
        };
        assert_eq!(Adaptation::of(&unified, &host()).oci_runtime, None);
        let other = Facts {
            oci_runtime: "runc".into(),
            ..facts()
        };
        assert_eq!(Adaptation::of(&other, &without), Adaptation::of(&other, &host()));
    }

    /// REQ-CONTAINER-MACHINES.
    #[test]
    fn a_manager_that_does_not_run_is_not_asked() {
        let facts = Facts {
            cgroup_manager: "systemd".into(),
            ..facts()
        };
        assert!(Adaptation::of(&facts, &host()).cgroupfs);
        let booted = Host {
            systemd: true,
            ..host()
        };
        assert!(!Adaptation::of(&facts, &booted).cgroupfs);
    }

    proptest! {
        /// REQ-CONTAINER-MACHINES: nothing above what the machine grants is ever asked for.
        #[test]
        fn limits_stay_within_what_is_granted(
            open_files: Option<u64>, processes: Option<u64>, pid_max: Option<u64>,
        ) {
            let host = Host { open_files, processes, pid_max, ..host() };
            let adapted = Adaptation::of(&facts(), &host);
            let asked = adapted.open_files.unwrap();
            prop_assert!(asked <= MOST_OPEN_FILES && open_files.is_none_or(|most| asked <= most));
            match adapted.processes {
                Some(asked) => {
                    prop_assert!(processes.is_none_or(|most| asked <= most));
                    prop_assert!(pid_max.is_none_or(|most| asked <= most));
                }
                None => prop_assert!(processes.is_none() && pid_max.is_none()),
            }
        }
    }

    #[test]
    fn dockers_daemon_has_limits_of_its_own() {
        let docker = Facts {
            backend: Backend::Docker,
            ..facts()
        };
        assert_eq!(Adaptation::of(&docker, &host()), Adaptation::default());
    }
}
