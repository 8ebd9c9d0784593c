//! `models …`: the models of this machine.

use std::path::PathBuf;

use api_types::{Lifecycle, ModelId, ModelRef, Sha256Digest};
use clap::{Args, Subcommand};

use super::local::LocalArgs;

/// The models of this machine.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct ModelsArgs {
    /// Where its configuration is.
    #[command(flatten)]
    pub local: LocalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: ModelsCommand,
}

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Fetch a model, verify it, and take it into the catalog
    ///
    /// What came is kept when a pull fails or is stopped: the same command goes on from there. HF_TOKEN opens gated models;
    /// what may be fetched from where, the configuration says (catalog.downloads, catalog.allowed_hosts).
    Pull(PullArgs),
    /// Take a model of this machine into the catalog; its files stay where they are
    Add(AddArgs),
    /// List the catalog, newest first
    List {
        /// Only models in this state: Active or Retired
        #[arg(long, value_name = "STATE")]
        state: Option<Lifecycle>,
        /// Most models to list
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Where the page before ended
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<u64>,
    },
    /// Show a model: what it is, where its files are, what its header says
    Show {
        /// Its id, or the reference that it was fetched by
        model: ModelRef,
    },
    /// Read models again and compare them with their digests
    ///
    /// A model with wrong bytes is retired, and its wrong files are removed from the cache, so that the next pull fetches
    /// them; a file that was added stays as it is. Exit 10 when one is wrong or missing.
    Verify {
        /// Their ids, or the references that they were fetched by
        #[arg(required_unless_present = "all")]
        models: Vec<ModelRef>,
        /// Every model of the catalog
        #[arg(long, conflicts_with = "models")]
        all: bool,
    },
    /// Let new work not use a model any more; its files stay
    Retire {
        /// Its id, or the reference that it was fetched by
        model: ModelRef,
    },
    /// Let new work use a retired model again
    Activate {
        /// Its id, or the reference that it was fetched by
        model: ModelRef,
    },
    /// Take models out of the catalog, with their files in the cache; a file that was added stays where it is
    Rm {
        /// Their ids, or the references that they were fetched by
        #[arg(required = true)]
        models: Vec<ModelRef>,
    },
}

/// What to fetch.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// hf:org/repo[@revision][/file], https://host/path[#sha256=digits], s3://bucket/key or
    /// oci://registry/repository[:tag|@digest]
    pub model: ModelRef,
    /// What it is called [default: made of the reference]
    #[arg(long, value_name = "ID")]
    pub id: Option<ModelId>,
    /// The digest that its one file must have, as sha256: and 64 hexadecimal digits
    #[arg(long, value_name = "DIGEST")]
    pub sha256: Option<Sha256Digest>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What to take in.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// A GGUF file, the first of its parts, or a folder with a model
    pub path: PathBuf,
    /// What it is called [default: the file's name]
    #[arg(long, value_name = "ID")]
    pub id: Option<ModelId>,
    /// The digest that its one file must have, as sha256: and 64 hexadecimal digits
    #[arg(long, value_name = "DIGEST")]
    pub sha256: Option<Sha256Digest>,
}

#[cfg(test)]
mod tests {
    use crate::args::Cli;
    use clap::Parser;

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        for (line, reason) in [
            (&["pull", "ftp://host/m.gguf"][..], "unknown scheme"),
            (&["pull", "hf:org/repo/../x"], "component"),
            (&["pull", "hf:org/repo", "--id", "../x"], "ModelId"),
            (&["pull", "hf:org/repo", "--sha256", "abc"], "hexadecimal"),
            (&["verify"], "required"),
            (&["verify", "m", "--all"], "cannot be used with"),
            (&["rm"], "required"),
            (&["list", "--limit", "0"], "1..=1000"),
            (&["list", "--state", "gone"], "Active, Retired"),
        ] {
            let line = ["llama-orch", "models"].iter().chain(line);
            let error = Cli::try_parse_from(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
