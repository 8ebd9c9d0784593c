//! Where control groups of version 2 can be made for engines: below the daemon's own, which a service manager has to
//! delegate. They only serve to end everything of an engine at once; nothing is limited by them.

use std::fs;
use std::path::{Path, PathBuf};

/// The daemon's own control group, when groups can be made in it.
#[must_use]
pub fn delegated() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = mount_point(&mounts)?.join(own_path(&own)?);
    can_have_children(&group).then_some(group)
}

/// `36 25 0:31 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw`: the fifth field; the type follows the dash.
fn mount_point(mounts: &str) -> Option<&Path> {
    let of = |line: &str| {
        line.split_once(" - ")
            .is_some_and(|(_, rest)| rest.starts_with("cgroup2 "))
    };
    let line = mounts.lines().find(|line| of(line))?;
    line.split_ascii_whitespace().nth(4).map(Path::new)
}

/// `0::/system.slice/pool-managerd.service`, relative to the mount point.
fn own_path(own: &str) -> Option<&str> {
    own.lines().find_map(|line| line.strip_prefix("0::/"))
}

fn can_have_children(group: &Path) -> bool {
    let probe = group.join(format!("llama-orch-probe-{}", std::process::id()));
    fs::create_dir(&probe)
        .and_then(|()| fs::remove_dir(&probe))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_version_2_is_found_beside_older_ones() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup \
                      cgroup rw,memory\n32 30 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mounts), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(mount_point("30 25 0:26 / / rw - ext4 /dev/x rw"), None);
        let own = "9:memory:/user\n0::/system.slice/pool-managerd.service\n";
        assert_eq!(own_path(own), Some("system.slice/pool-managerd.service"));
        assert_eq!(own_path("0::/\n"), Some(""));
    }

    #[test]
    fn a_folder_that_takes_no_children_is_none_for_engines() {
        assert!(!can_have_children(Path::new("/proc")));
    }
}
