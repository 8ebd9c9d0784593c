//! The source files of the project, read once for all rules.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Finding;
use super::rust_file::RustFile;

/// Folders that hold no source of ours.
const SKIPPED_FOLDERS: [&str; 4] = ["target", ".git", "node_modules", "__pycache__"];
/// Files with these endings are source text; a file without ending is if it starts as a script.
const SOURCE_ENDINGS: [&str; 6] = ["rs", "toml", "md", "sh", "py", "feature"];

/// Everything the file rules look at.
#[derive(Default)]
pub(super) struct Tree {
    /// All source files, Rust files included.
    pub(super) texts: Vec<TextFile>,
    /// The Rust files that parse.
    pub(super) rust: Vec<RustFile>,
    /// A finding for each Rust file that does not.
    pub(super) unparsed: Vec<Finding>,
    /// The paths of all files, of whatever kind.
    pub(super) paths: Vec<String>,
}

/// One source file.
#[derive(Debug)]
pub(super) struct TextFile {
    /// Relative to the root, with forward slashes.
    pub(super) path: String,
    pub(super) text: String,
}

impl Tree {
    /// Reads all files below `root`.
    ///
    /// # Errors
    /// Names the path that cannot be read.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        for path in files_below(root)? {
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            if let Some(text) = source_text(&path)? {
                tree.add(TextFile {
                    path: name.clone(),
                    text,
                });
            }
            tree.paths.push(name);
        }
        Ok(tree)
    }

    fn add(&mut self, file: TextFile) {
        if file.ending() == Some("rs") {
            match RustFile::parse(&file.path, &file.text) {
                Ok(rust) => self.rust.push(rust),
                Err(finding) => self.unparsed.push(finding),
            }
        }
        self.texts.push(file);
    }
}

impl TextFile {
    /// What follows the last dot of the file name.
    pub(super) fn ending(&self) -> Option<&str> {
        Path::new(&self.path).extension()?.to_str()
    }
}

fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            let kind = entry
                .file_type()
                .with_context(|| format!("reading {}", entry.path().display()))?;
            if kind.is_file() {
                files.push(entry.path());
            } else if kind.is_dir()
                && !SKIPPED_FOLDERS
                    .iter()
                    .any(|skipped| entry.file_name() == *skipped)
            {
                folders.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn source_text(path: &Path) -> Result<Option<String>> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    if ending.is_some_and(|ending| !SOURCE_ENDINGS.contains(&ending)) {
        return Ok(None);
    }
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    if ending.is_none() && !bytes.starts_with(b"#!") {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::tree;

    #[test]
    fn sources_are_read_and_everything_else_is_only_listed() {
        let tree = tree(&[
            ("src/a.rs", "//! A.\n"),
            (".ci/run", "#!/bin/sh\n"),
            ("LICENSE", "text"),
            ("data.json", "{}"),
            ("target/debug/b.rs", "fn"),
            (".git/c.rs", "fn"),
        ]);
        let texts: Vec<&str> = tree.texts.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(texts, [".ci/run", "src/a.rs"]);
        assert_eq!(tree.paths, [".ci/run", "LICENSE", "data.json", "src/a.rs"]);
        assert_eq!(tree.rust.len(), 1);
    }
}
