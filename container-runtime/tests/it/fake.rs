//! Clients that follow a script: `podman` and `docker` as small shell programs in a folder that is the search path. They
//! write down how they were called, and answer each command as the test says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use container_runtime::{Choice, ContainerRuntime, Deadlines, Environment, Redaction, Setup, detect};
use tempfile::TempDir;

/// What `podman info` says on a machine where nothing needs to be adapted.
pub(crate) const PODMAN_INFO: &str = r#"{"host":{"cgroupManager":"cgroupfs","cgroupVersion":"v2",
    "cgroupControllers":["cpu","memory","pids"],"ociRuntime":{"name":"runc"},
    "security":{"rootless":true,"selinuxEnabled":false},"serviceIsRemote":false,
    "slirp4netns":{"executable":"/usr/bin/slirp4netns"}},"version":{"Version":"4.3.1"}}"#;

/// What `docker info` says.
pub(crate) const DOCKER_INFO: &str = r#"{"ServerVersion":"20.10.24+dfsg1","DefaultRuntime":"runc","CgroupDriver":"systemd",
    "CgroupVersion":"2","MemoryLimit":true,"PidsLimit":true,"SecurityOptions":["name=seccomp,profile=default"],
    "OperatingSystem":"Debian GNU/Linux 12 (bookworm)"}"#;

/// Long enough for a shell on a busy machine, short enough to wait for.
pub(crate) const SHORT: Duration = Duration::from_secs(2);

/// Never reached unless something hangs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A folder of scripted programs.
pub(crate) struct Fakes {
    dir: TempDir,
}

impl Fakes {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A program that does these shell commands.
    pub(crate) fn program(&self, name: &str, commands: &str) {
        // Renamed into its place, since a file that is open for writing cannot be executed.
        let new = self.path().join(format!("{name}.new"));
        fs::write(&new, format!("#!/bin/sh\n{commands}\n")).unwrap();
        fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename(new, self.path().join(name)).unwrap();
    }

    /// A client that answers `info` well and each of `answers`' commands by its shell commands. Any other command ends
    /// with 1.
    pub(crate) fn client(&self, name: &str, answers: &[(&str, &str)]) {
        let info = if name == "podman" {
            PODMAN_INFO
        } else {
            DOCKER_INFO
        };
        let info = format!("cat <<'END'\n{info}\nEND");
        self.client_without_info(name, &[&[("info", &*info)], answers].concat());
    }

    /// The same, without an answer to `info` beside those of `answers`; the first of a command counts.
    pub(crate) fn client_without_info(&self, name: &str, answers: &[(&str, &str)]) {
        let calls = self.path().join(format!("{name}.calls"));
        let mut script = format!(
            "printf '%s\\n' \"$*\" >> {}\nwhile case \"$1\" in --log-level|--runtime|--cgroup-manager) true;; *) false;; esac; do shift 2; done\n\
             command=$1\n[ \"$1 $2\" = 'image inspect' ] && command=image\n[ \"$1 $2\" = 'container inspect' ] && command=inspect\n\
             case $command in\n",
            calls.display()
        );
        for (command, commands) in answers {
            script.push_str(&format!("{command})\n{commands}\n;;\n"));
        }
        script.push_str("*) echo unexpected \"$command\" >&2; exit 1;;\nesac");
        self.program(name, &script);
    }

    /// How `name` was called: a line of arguments each time, from the command on.
    pub(crate) fn calls(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path().join(format!("{name}.calls"))).unwrap_or_default();
        let command = |line: &str| line.trim_start_matches("--log-level error ").to_owned();
        text.lines().map(command).collect()
    }

    /// Finds the programs of this folder, then the shell's.
    pub(crate) fn setup(&self, choice: Choice, deadline: Duration) -> Setup {
        let path = format!("{}:/usr/bin:/bin", self.path().display());
        Setup {
            choice,
            // The system's own clients must not be found.
            environment: Environment::of([("PATH", self.only_tools(&path))]),
            deadlines: Deadlines {
                query: deadline,
                change: deadline,
                pull: deadline,
            },
            redaction: Redaction::default(),
        }
    }

    /// The folder of fakes, and one of links to the tools that scripts use.
    fn only_tools(&self, path: &str) -> String {
        let tools = self.path().join("tools");
        let _made_or_there = fs::create_dir(&tools);
        for tool in [
            "cat", "sleep", "echo", "printf", "yes", "head", "touch", "rm", "seq",
        ] {
            let found = path
                .split(':')
                .skip(1)
                .map(|folder| PathBuf::from(folder).join(tool))
                .find(|path| path.is_file());
            if let Some(found) = found {
                let _made_or_there = std::os::unix::fs::symlink(found, tools.join(tool));
            }
        }
        format!("{}:{}", self.path().display(), tools.display())
    }

    /// The runtime that is found here.
    pub(crate) async fn runtime(&self, choice: Choice, deadline: Duration) -> ContainerRuntime {
        detect(&self.setup(choice, deadline)).await.unwrap()
    }
}
