//! System packages that commands need: found by a trial, installed through apt-get where this may be done.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::process::{Cmd, Probe};

/// A Debian package and the trial that shows whether what it brings is there.
#[derive(Debug)]
pub(crate) struct DebianPackage {
    name: &'static str,
    /// A command that ends with status 0 exactly if the package is not missing.
    trial: &'static [&'static str],
    needed_for: &'static str,
}

/// Python with virtual environments: the real engine comes as a Python package.
pub(crate) const PYTHON_VENV: DebianPackage = DebianPackage {
    name: "python3-venv",
    trial: &["python3", "-c", "import venv, ensurepip"],
    needed_for: "the runs with a real engine",
};

/// nginx, not necessarily running as a service. Its folder is not on an ordinary user's search path.
pub(crate) const NGINX: DebianPackage = DebianPackage {
    name: "nginx",
    trial: &["sh", "-c", "PATH=$PATH:/usr/sbin nginx -v"],
    needed_for: "the comparisons of the benchmark",
};

/// Both container runtimes, the two programs that make containers for Podman, its network in user space, a registry, and
/// the tool for a bridge of Docker's own. None of them needs to run as a service. Some are in folders of the system.
pub(crate) const CONTAINERS: [DebianPackage; 7] = [
    container_package("podman", &["podman", "--version"]),
    container_package("runc", &["sh", "-c", "PATH=$PATH:/usr/sbin runc --version"]),
    container_package("crun", &["crun", "--version"]),
    container_package("slirp4netns", &["slirp4netns", "--version"]),
    container_package(
        "docker.io",
        &["sh", "-c", "PATH=$PATH:/usr/sbin dockerd --version"],
    ),
    container_package("docker-registry", &["docker-registry", "--version"]),
    container_package(
        "iproute2",
        &["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin ip -Version"],
    ),
];

const fn container_package(name: &'static str, trial: &'static [&'static str]) -> DebianPackage {
    DebianPackage {
        name,
        trial,
        needed_for: "the tests of containers",
    }
}

/// Installs what is missing.
///
/// # Errors
/// Something is missing and cannot be installed here; says what to type instead.
pub(crate) fn ensure(packages: &[DebianPackage], dir: &Path) -> Result<()> {
    let missing: Vec<&DebianPackage> = packages
        .iter()
        .filter(|package| package.trial(dir) == Probe::Fails)
        .collect();
    if !missing.is_empty() {
        install(&missing, dir)?;
    }
    for package in packages {
        println!("{}: present", package.name);
    }
    Ok(())
}

/// All at once: most of the time goes by per run of the package manager.
fn install(missing: &[&DebianPackage], dir: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() || apt_get(dir, &["--version"]).probe() == Probe::Fails {
        bail!("{}", advice(missing));
    }
    apt_get(dir, &["update"]).run()?;
    let install = ["install", "--yes", "--no-install-recommends"];
    let names = missing.iter().map(|package| package.name);
    let install: Vec<&str> = install.into_iter().chain(names).collect();
    apt_get(dir, &install).run().with_context(|| advice(missing))?;
    match missing.iter().find(|package| package.trial(dir) == Probe::Fails) {
        None => Ok(()),
        Some(package) => bail!(
            "{} is installed, yet `{}` still fails",
            package.name,
            package.trial.join(" ")
        ),
    }
}

fn advice(missing: &[&DebianPackage]) -> String {
    let texts: Vec<String> = missing.iter().map(|package| package.advice()).collect();
    texts.join("\n")
}

fn apt_get(dir: &Path, args: &[&str]) -> Cmd {
    Cmd::new("apt-get", dir)
        .args(args.iter().copied())
        .env("DEBIAN_FRONTEND", "noninteractive")
}

impl DebianPackage {
    fn trial(&self, dir: &Path) -> Probe {
        match self.trial {
            [program, args @ ..] => Cmd::new(*program, dir).args(args.iter().copied()).probe(),
            [] => Probe::Fails,
        }
    }

    fn advice(&self) -> String {
        format!(
            "`{}` fails, which {} need: run `sudo apt-get install {}`, or install the same with your system's package \
             manager",
            self.trial.join(" "),
            self.needed_for,
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESENT: DebianPackage = DebianPackage {
        name: "sh",
        trial: &["sh", "-c", "exit 0"],
        needed_for: "tests",
    };
    const ABSENT: DebianPackage = DebianPackage {
        name: "nothing",
        trial: &["sh", "-c", "exit 1"],
        needed_for: "tests",
    };

    #[test]
    fn a_present_package_is_left_alone() {
        assert!(ensure(&[PRESENT], Path::new("/")).is_ok());
    }

    #[test]
    fn the_advice_says_what_to_type() {
        assert_eq!(ABSENT.trial(Path::new("/")), Probe::Fails);
        assert!(
            ABSENT.advice().contains("sudo apt-get install nothing"),
            "{}",
            ABSENT.advice()
        );
    }
}
