//! Whether models have room, and whether this user may write there. Looks at the folder, or at the one that it would be made in.

use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use super::{Finding, Level};

/// Less than this holds no model.
const LEAST: u64 = 2 << 30;
/// Less than this holds one more at most.
const LITTLE: u64 = 20 << 30;

pub(crate) fn check(folder: &Path) -> Vec<Finding> {
    let there = folder
        .ancestors()
        .find(|at| at.exists())
        .unwrap_or_else(|| Path::new("/"));
    let shown = folder.display();
    let Ok(disk) = statvfs(there) else {
        return vec![
            Finding::problem("disk", format!("{shown} cannot be looked at")).fix([format!("ls -ld {shown}")]),
        ];
    };
    let mut findings = vec![room(folder, disk.f_bavail.saturating_mul(disk.f_frsize))];
    if access(there, Access::WRITE_OK).is_err() {
        let what = format!("this user may not write to {}", there.display());
        let fix = format!(
            "sudo chown \"$USER\" {}    # or pull models as the daemons' user",
            there.display()
        );
        findings.push(Finding::new("disk", Level::Warning, what).fix([fix]));
    }
    findings
}

fn room(folder: &Path, free: u64) -> Finding {
    let shown = folder.display();
    let what = format!("{} GiB free for models at {shown}", free >> 30);
    let level = match free {
        0..LEAST => Level::Problem,
        LEAST..LITTLE => Level::Warning,
        _ => return Finding::ok("disk", what),
    };
    Finding::new("disk", level, what).fix([
        "llama-orch models list".to_owned(),
        "llama-orch models rm MODEL".to_owned(),
        format!("du -sh {shown}/*"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told_with_what_frees_some() {
        let level = |free| room(Path::new("/models"), free).level;
        assert_eq!(
            [1 << 30, 10 << 30, 100 << 30].map(level),
            [Level::Problem, Level::Warning, Level::Ok]
        );
        assert!(
            room(Path::new("/models"), 0)
                .fix
                .iter()
                .any(|line| line.contains("models rm"))
        );
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_that_of_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let found = check(&folder.path().join("a/b"));
        assert!(found[0].what.contains("a/b"), "{found:?}");
    }
}
