//! `artifact …`: what is kept beside tasks.

use std::path::PathBuf;

use api_types::artifact::ArtifactTag;
use api_types::{ArtifactId, ArtifactKind};
use clap::{Args, Subcommand};

/// What to do with artifacts.
#[derive(Debug, Subcommand)]
pub enum ArtifactCommand {
    /// Store a file and print its id, sha256: and the digest of its bytes
    Put(ArtifactPutArgs),
    /// Write an artifact's bytes to stdout, exactly as stored
    Get {
        /// The artifact
        id: ArtifactId,
    },
    /// List artifacts, newest first. The trace of a task has the tag task:TASK
    List {
        /// Only artifacts with this tag
        #[arg(long, value_name = "TAG")]
        tag: Option<ArtifactTag>,
        /// Only artifacts of this kind: plan, summary, diff, trace or other
        #[arg(long, value_name = "KIND")]
        kind: Option<ArtifactKind>,
        /// Most artifacts to list
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// Where the page before ended
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
    },
}

/// What to store.
#[derive(Debug, Args)]
pub struct ArtifactPutArgs {
    /// The file; - reads stdin
    pub file: PathBuf,
    /// What it is: plan, summary, diff, trace or other
    #[arg(long, value_name = "KIND", default_value_t = ArtifactKind::Other)]
    pub kind: ArtifactKind,
    /// A word to find it by; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<ArtifactTag>,
    /// What its bytes mean [default: text/plain; charset=utf-8, or application/octet-stream if it is no text]
    #[arg(long, value_name = "TYPE")]
    pub media_type: Option<String>,
}

#[cfg(test)]
mod tests {
    use crate::args::Cli;
    use clap::Parser;

    fn refusal(line: &[&str]) -> String {
        let line = ["llama-orch", "artifact"].iter().chain(line);
        Cli::try_parse_from(line).unwrap_err().to_string()
    }

    /// REQ-ARTIFACT-ID.
    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        assert!(refusal(&["get", "sha256:../../etc"]).contains("64 lower-case hexadecimal digits"));
        assert!(refusal(&["put", "x", "--kind", "song"]).contains("plan, summary, diff, trace, other"));
        assert!(refusal(&["put", "x", "--tag", "a b"]).contains("1 to 128 characters"));
    }
}
