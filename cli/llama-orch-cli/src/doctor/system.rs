//! The clock, the compiler for GPUs, and the configuration. Pure.

use std::path::{Path, PathBuf};

use config_schema::ConfigErrors;

use super::distribution::Distribution;
use super::{Finding, Level};

/// The clock of a machine that was never set; when this was written it was later.
const EARLIEST_UNIX_MS: u64 = 1_767_225_600_000;

/// `synchronized` is what the service manager says, where it says anything.
pub(crate) fn clock(unix_ms: u64, synchronized: Option<bool>) -> Finding {
    let fix = "sudo timedatectl set-ntp true";
    if unix_ms < EARLIEST_UNIX_MS {
        let what = "the clock is years behind: certificates of servers will be refused";
        return Finding::problem("clock", what).fix([fix]);
    }
    match synchronized {
        Some(true) => Finding::ok("clock", "is kept by the network"),
        Some(false) => Finding::new("clock", Level::Warning, "is not kept by the network").fix([fix]),
        None => Finding::new("clock", Level::Note, "is set; who keeps it cannot be told")
            .fix(["timedatectl status"]),
    }
}

/// Only needed to build engines.
pub(crate) fn cuda_toolkit(nvcc: Option<&Path>, here: Distribution) -> Finding {
    match nvcc {
        Some(path) => Finding::ok("cuda", format!("the toolkit is at {}", path.display())),
        None => Finding::new(
            "cuda",
            Level::Note,
            "there is no toolkit, which only building engines needs",
        )
        .fix([here.cuda_toolkit()]),
    }
}

/// Where distributions and NVIDIA's own packages put the compiler, after the search path.
pub(crate) fn nvcc_places(search_path: &str) -> Vec<PathBuf> {
    let listed = search_path.split(':').filter(|folder| folder.starts_with('/'));
    let known = ["/opt/cuda/bin", "/usr/local/cuda/bin"];
    listed
        .chain(known)
        .map(|folder| Path::new(folder).join("nvcc"))
        .collect()
}

/// The configuration, as it was read.
pub(crate) fn configuration(file: Option<&Path>, warnings: &[String]) -> Vec<Finding> {
    let what = match file {
        Some(file) => format!("{} is sound", file.display()),
        None => "there is no file: everything has its default".to_owned(),
    };
    let warning = |warning: &String| {
        Finding::new("config", Level::Warning, warning.as_str()).fix(["pool-managerd config dump"])
    };
    let mut findings = vec![Finding::ok("config", what)];
    findings.extend(warnings.iter().map(warning));
    findings
}

/// A configuration that cannot be used: a finding for each of its problems.
pub(crate) fn broken(errors: &ConfigErrors) -> Vec<Finding> {
    let problem = |problem: &config_schema::Problem| {
        Finding::problem("config", problem.to_string()).fix(["pool-managerd config check"])
    };
    errors.problems.iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_right_wrong_or_nobody_s() {
        let levels = [
            (0, Some(true)),
            (EARLIEST_UNIX_MS, Some(true)),
            (EARLIEST_UNIX_MS, Some(false)),
            (EARLIEST_UNIX_MS, None),
        ]
        .map(|(now, synchronized)| clock(now, synchronized).level);
        assert_eq!(levels, [Level::Problem, Level::Ok, Level::Warning, Level::Note]);
    }

    #[test]
    fn the_compiler_is_looked_for_where_it_is_put() {
        let places = nvcc_places("/usr/bin:bin:/x");
        let places: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            places,
            [
                "/usr/bin/nvcc",
                "/x/nvcc",
                "/opt/cuda/bin/nvcc",
                "/usr/local/cuda/bin/nvcc"
            ]
        );
        assert!(cuda_toolkit(None, Distribution::Arch).fix[0].contains("pacman -S --needed cuda"));
    }
}
