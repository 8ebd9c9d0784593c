//! Podman as an ordinary user without an account: a `podman` in front of the real one gives up the rights of root first.
//!
//! Where `/dev/net/tun` is for root only, which is no ordinary machine, the user gets one that is not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use test_harness_support::containers;

use super::search_path;

/// Nobody's number, user and group.
pub(crate) const USER: u32 = 52_813;

/// One user has no range of numbers for others, so files of an image keep no owner.
const STORAGE: &str = "[storage.options.overlay]\nignore_chown_errors = \"true\"\n";

pub(super) fn environment(dir: &Path) -> Vec<(String, String)> {
    let mut environment = containers::environment(dir, "").unwrap();
    let storage = dir.join("storage.conf");
    let text = fs::read_to_string(&storage).unwrap();
    fs::write(&storage, text + STORAGE).unwrap();
    let tun = dir.join("tun");
    let made = Command::new("mknod")
        .arg(&tun)
        .args(["c", "10", "200"])
        .status()
        .unwrap();
    assert!(made.success());
    fs::set_permissions(&tun, PermissionsExt::from_mode(0o666)).unwrap();
    let programs = dir.join("bin");
    fs::create_dir(&programs).unwrap();
    // A pipe belongs to whoever made it, so the user gets one of its own.
    let as_user = executable(
        &programs.join("as-user"),
        &format!("cat | {} \"$@\"", real_podman().display()),
    );
    executable(
        &programs.join("podman"),
        &format!(
            "exec unshare --mount /bin/sh -c 'mount --bind {} /dev/net/tun && exec setpriv --reuid {USER} --regid {USER} \
             --clear-groups --inh-caps=-all --bounding-set=-all {as_user} \"$@\"' podman \"$@\"",
            tun.display()
        ),
    );
    let run = dir.join("user");
    fs::create_dir(&run).unwrap();
    environment.push(("XDG_RUNTIME_DIR".to_owned(), run.display().to_string()));
    for (name, value) in &mut environment {
        if name == "PATH" {
            *value = format!("{}:{value}", programs.display());
        }
    }
    environment
}

fn executable(path: &Path, commands: &str) -> String {
    fs::write(path, format!("#!/bin/sh\n{commands}\n")).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn real_podman() -> PathBuf {
    let path = search_path();
    let mut folders = std::env::split_paths(&path).map(|folder| folder.join("podman"));
    folders.find(|path| path.is_file()).unwrap()
}

/// The user owns the folder and what is in it.
pub(super) fn hand_over(dir: &Path) {
    chown(dir, Some(USER), Some(USER)).unwrap();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        chown(entry.path(), Some(USER), Some(USER)).unwrap();
    }
}

/// Podman leaves a process that holds the user's namespaces for the next call.
pub(super) fn end_pause(dir: &Path) {
    let pid = fs::read_to_string(dir.join("tmp/pause.pid")).unwrap_or_default();
    if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
        let _ended_or_gone = kill_process(pid, Signal::KILL);
    }
}
