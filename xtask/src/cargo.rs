//! Every cargo invocation of this project's commands. One set of packages and features for all, so that nothing
//! compiles twice: features unify per invocation.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::process::Cmd;

/// The whole workspace with everything on; what is built is what is tested.
const WHOLE_WORKSPACE: [&str; 3] = ["--workspace", "--all-features", "--locked"];

/// `cargo fmt`, which writes.
pub(crate) fn format(root: &Path) -> Cmd {
    cargo(root, ["fmt", "--all"])
}

/// `cargo fmt` as a check.
pub(crate) fn format_check(root: &Path) -> Cmd {
    format(root).args(["--", "--check"])
}

/// Clippy over all targets, warnings are errors.
pub(crate) fn clippy(root: &Path) -> Cmd {
    workspace(root, "clippy").args(["--all-targets", "--", "-D", "warnings"])
}

/// Debug build of all targets: the binaries that integration tests start, and the tests themselves.
pub(crate) fn build(root: &Path) -> Cmd {
    workspace(root, "build").args(["--all-targets"])
}

/// Debug build of the scripted engine, linked with everything it needs. The flag goes to what is built for the named
/// target, so what runs during the build is the same as in the other builds.
pub(crate) fn build_static_engine(root: &Path) -> Cmd {
    #[expect(
        clippy::disallowed_methods,
        reason = "the developer's flags stay, one is added"
    )]
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    workspace(root, "build")
        .args(["--bin", "scripted-engine", "--target", &static_target()])
        .env(
            "RUSTFLAGS",
            format!("{flags} -C target-feature=+crt-static -C strip=symbols").trim(),
        )
}

/// This machine as a target.
pub(crate) fn static_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Debug build of the programs only.
pub(crate) fn build_programs(root: &Path) -> Cmd {
    workspace(root, "build").args(["--bins"])
}

/// Release build of the programs only, for measurements.
pub(crate) fn build_release_programs(root: &Path) -> Cmd {
    workspace(root, "build").args(["--release", "--bins"])
}

/// All tests.
pub(crate) fn test(root: &Path) -> Cmd {
    workspace(root, "test")
}

/// Tests of the integration suites by the beginnings of their names, built with numbers that make them long.
///
/// # Errors
/// One of them failed, or could not be built.
pub(crate) fn long_tests(root: &Path, names: &[&str], numbers: &[(&str, u32)]) -> Result<ExitCode> {
    build_programs(root).run()?;
    let tests = test(root)
        .args(["--test", "it", "--"])
        .args(names.iter().copied());
    let numbered = numbers.iter().fold(tests, |tests, (name, number)| {
        tests.env(*name, number.to_string())
    });
    numbered.run()?;
    Ok(ExitCode::SUCCESS)
}

/// The unit tests of the library crates only.
pub(crate) fn test_libraries(root: &Path) -> Cmd {
    workspace(root, "test").args(["--lib"])
}

fn workspace(root: &Path, command: &str) -> Cmd {
    cargo(root, [command]).args(WHOLE_WORKSPACE)
}

fn cargo<'a>(root: &Path, args: impl IntoIterator<Item = &'a str>) -> Cmd {
    Cmd::new("cargo", root).args(args)
}
