//! A Docker daemon of our own: its files in a folder, its containers on a bridge of its own, no rule in the firewall.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use test_harness_support::daemon::{self, Process};
use test_harness_support::wait::{Look, wait_for};

use super::{PATIENCE, search_path};

/// See the module.
pub(super) struct Daemon {
    process: Option<Process>,
    bridge: String,
}

impl Daemon {
    pub(super) async fn start(dir: &Path) -> Self {
        let hooks = dir.join("hooks");
        fs::create_dir(&hooks).unwrap();
        let hook = hooks.join("nvidia-container-runtime-hook");
        fs::write(&hook, "#!/bin/sh\ncat > /dev/null\n").unwrap();
        fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).unwrap();
        let bridge = make_bridge();
        let file = |name: &str| dir.join(name).display().to_string();
        let options = [
            ("--data-root", file("data")),
            ("--exec-root", file("exec")),
            ("--pidfile", file("docker.pid")),
            ("--host", socket(dir)),
            ("--bridge", bridge.clone()),
        ];
        let process = daemon::Command::new("dockerd")
            .args(options.iter().flat_map(|(name, value)| [*name, value]))
            .args(["--iptables=false", "--ip-forward=false", "--ip-masq=false"])
            .env("PATH", format!("{}:{}", hooks.display(), search_path()))
            .spawn()
            .unwrap();
        let daemon = Self {
            process: Some(process),
            bridge,
        };
        let process = daemon.process.as_ref().unwrap();
        wait_for("Docker's daemon", PATIENCE, || async {
            if process.stderr().contains("API listen on") {
                Look::Ready(())
            } else {
                Look::NotYet(process.logs())
            }
        })
        .await
        .unwrap();
        daemon
    }

    pub(super) fn environment(&self, dir: &Path) -> Vec<(String, String)> {
        [
            ("PATH", search_path()),
            ("HOME", dir.display().to_string()),
            ("DOCKER_HOST", socket(dir)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            // With grace it takes its own mounts and its containerd along; dropping the process ends what is left.
            let _asked_or_gone = process.signal(rustix::process::Signal::TERM);
            for _look in 0..100 {
                if process.exit_status().is_some() {
                    break;
                }
                std::thread::sleep(super::PAUSE);
            }
        }
        ip(&["link", "delete", &self.bridge]);
    }
}

fn socket(dir: &Path) -> String {
    format!("unix://{}/docker.sock", dir.display())
}

/// Names of network devices have 15 characters at most; the subnet is one that nothing here uses.
fn make_bridge() -> String {
    let mark = uuid::Uuid::new_v4().as_u128();
    let bridge = format!("orch-{:08x}", mark as u32);
    let subnet = format!("10.213.{}.1/24", (mark >> 32) as u8);
    ip(&["link", "add", &bridge, "type", "bridge"]);
    ip(&["address", "add", &subnet, "dev", &bridge]);
    bridge
}

fn ip(args: &[&str]) {
    let output = Command::new("ip")
        .args(args)
        .env("PATH", search_path())
        .output()
        .unwrap();
    assert!(
        output.status.success() || std::thread::panicking(),
        "ip {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
