//! Facts about the machine and the build, without which figures mean nothing. Reads `/proc`, asks git and nginx.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::cpus::Cpus;
use crate::relay::nginx_version;

/// The facts.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    cores_used: String,
    kernel: String,
    /// Runnable processes over the last minute when the run began: what else was going on.
    load_average: f64,
    commit: String,
    nginx: String,
}

impl Machine {
    /// Collects them; to be called before the run.
    ///
    /// # Errors
    /// There is no nginx, or this is not Linux.
    pub(crate) fn look(cpus: &Cpus) -> Result<Self> {
        let cpu_info = read("/proc/cpuinfo")?;
        let load = read("/proc/loadavg")?;
        let load = load.split(' ').next().and_then(|minute| minute.parse().ok());
        Ok(Self {
            cpu: field(&cpu_info, "model name").unwrap_or("unknown").to_owned(),
            cores: cpu_info
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            cores_used: cpus.describe(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load_average: load.context("the load average")?,
            commit: commit(Path::new(env!("CARGO_MANIFEST_DIR"))),
            nginx: nginx_version()?,
        })
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// The checked-out commit, marked when files differ from it.
fn commit(folder: &Path) -> String {
    let describe = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    let output = Command::new("git")
        .args(describe)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "no commit".to_owned(),
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} × {}, Linux {}", self.cores, self.cpu, self.kernel)?;
        writeln!(
            f,
            "{}; load average before the run {}",
            self.cores_used, self.load_average
        )?;
        write!(f, "commit {}, {}", self.commit, self.nginx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_cpuinfo() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 3 GHz"));
        assert_eq!(field(text, "absent"), None);
    }

    #[test]
    fn a_folder_without_a_repository_has_no_commit() {
        assert_eq!(commit(Path::new("/proc")), "no commit");
    }
}
