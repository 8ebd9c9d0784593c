//! The configuration as a daemon loads it: real files, an environment, flags.
#![expect(clippy::unwrap_used, reason = "helpers of tests; a panic is a failed test")]

#[path = "it/client.rs"]
mod client;
#[path = "it/dump.rs"]
mod dump;
#[path = "it/engines.rs"]
mod engines;
#[path = "it/errors.rs"]
mod errors;
#[path = "it/precedence.rs"]
mod precedence;
#[path = "it/shipped.rs"]
mod shipped;
#[path = "it/token.rs"]
mod token;

use std::path::PathBuf;

use config_schema::{ConfigErrors, Environment, Loaded, Overrides, load};
use tempfile::TempDir;

/// A configuration file in a directory of its own.
struct TestFile {
    dir: TempDir,
    path: PathBuf,
}

impl TestFile {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("llama-orch.toml");
        std::fs::write(&path, text).unwrap();
        Self { dir, path }
    }

    fn load(&self, vars: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
        self.load_with(vars, Overrides::default())
    }

    fn load_with(&self, vars: &[(&str, &str)], overrides: Overrides) -> Result<Loaded, ConfigErrors> {
        load(
            &environment(vars),
            &overrides.config_file(Some(self.path.clone())),
        )
    }

    /// The problems, without the directory's name.
    fn problems(&self, vars: &[(&str, &str)]) -> Vec<String> {
        let errors = self.load(vars).unwrap_err();
        let dir = format!("{}/", self.dir.path().display());
        errors
            .problems
            .iter()
            .map(|problem| problem.to_string().replace(&dir, ""))
            .collect()
    }
}

/// An environment whose default places hold no configuration file.
fn environment(vars: &[(&str, &str)]) -> Environment {
    let nowhere = ("XDG_CONFIG_HOME", "/nonexistent");
    Environment::of([nowhere].iter().chain(vars).copied())
}

fn load_env(vars: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    load(&environment(vars), &Overrides::default())
}

/// A file with one pool; `more` are lines of the pool.
fn pool_file(more: &str) -> TestFile {
    TestFile::new(&format!(
        r#"[[pool_managerd.pools]]
id = "a"
engine = "llamacpp"
model = "file:/models/Tiny-q4.gguf"
devices = ["GPU-1"]
{more}
"#
    ))
}
