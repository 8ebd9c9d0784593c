//! The workspace as cargo describes it: where it is, its crates with their layers, and every locked package.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use crate::cargo;

/// The folders that commands work in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The workspace root.
    pub(crate) root: PathBuf,
    /// The build output folder.
    pub(crate) target: PathBuf,
}

impl Place {
    /// Finds the workspace from the current directory.
    ///
    /// # Errors
    /// There is no workspace here, or cargo cannot read it.
    pub(crate) fn find() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .context("finding the workspace")?;
        Ok(Self {
            root: metadata.workspace_root.into(),
            target: metadata.target_directory.into(),
        })
    }

    /// Where a debug build puts the binaries.
    pub(crate) fn binaries(&self) -> PathBuf {
        self.target.join("debug")
    }

    /// Where [`cargo::build_static_engine`] puts the scripted engine.
    pub(crate) fn static_engine(&self) -> PathBuf {
        let folder = self.target.join(cargo::static_target());
        folder.join("debug/scripted-engine")
    }

    /// Where a release build puts the binaries.
    pub(crate) fn release_binaries(&self) -> PathBuf {
        self.target.join("release")
    }
}

/// The crates of the workspace and every package in its lock file.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Workspace members, by name.
    pub(crate) crates: Vec<Crate>,
    /// Members and everything they use, on every platform.
    pub(crate) packages: Vec<Locked>,
}

/// One workspace member.
#[derive(Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Its folder, relative to the workspace root.
    pub(crate) dir: PathBuf,
    /// `[package.metadata.orch] layer`, if it is there and a number.
    pub(crate) layer: Option<u64>,
    /// The other workspace members it depends on, by name.
    pub(crate) edges: Vec<Edge>,
    /// The packages from outside that it is built on, by name.
    pub(crate) external: Vec<String>,
    /// The text of its manifest.
    pub(crate) manifest: String,
}

/// A dependency on another workspace member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) to: String,
    pub(crate) purpose: Purpose,
}

/// What a dependency is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// The crate itself or its build script.
    Product,
    /// Its tests, benches and examples only.
    Tests,
}

/// One package of the lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locked {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) source: Source,
}

/// Where a package comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Path,
    DefaultRegistry,
    Other(String),
}

impl Workspace {
    /// Reads the workspace at `root`.
    ///
    /// # Errors
    /// Cargo cannot resolve it, or a manifest cannot be read.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .exec()
            .with_context(|| format!("reading the workspace at {}", root.display()))?;
        let mut crates = metadata
            .workspace_packages()
            .into_iter()
            .map(|package| Crate::read(package, &metadata))
            .collect::<Result<Vec<_>>>()?;
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            crates,
            packages: metadata.packages.iter().map(Locked::from).collect(),
        })
    }

    /// The member called `name`.
    pub(crate) fn member(&self, name: &str) -> Option<&Crate> {
        self.crates.iter().find(|member| member.name == name)
    }
}

impl Crate {
    fn read(package: &Package, metadata: &Metadata) -> Result<Self> {
        let path = package.manifest_path.as_std_path();
        let manifest =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let dir = path.parent().unwrap_or(path);
        Ok(Self {
            name: package.name.to_string(),
            dir: dir
                .strip_prefix(&metadata.workspace_root)
                .unwrap_or(dir)
                .to_owned(),
            layer: package
                .metadata
                .pointer("/orch/layer")
                .and_then(|layer| layer.as_u64()),
            edges: edges(package, metadata),
            external: external(package),
            manifest,
        })
    }

    /// The path of a file in this crate, relative to the workspace root, with forward slashes.
    pub(crate) fn path(&self, file: &str) -> String {
        self.dir.join(file).to_string_lossy().into_owned()
    }
}

fn edges(package: &Package, metadata: &Metadata) -> Vec<Edge> {
    let members = metadata.workspace_packages();
    let is_member = |name: &str| members.iter().any(|member| *member.name == name);
    let mut edges: Vec<Edge> = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.path.is_some() && is_member(&dependency.name))
        .map(|dependency| Edge {
            to: dependency.name.clone(),
            purpose: purpose(dependency.kind),
        })
        .collect();
    edges.sort();
    edges.dedup();
    edges
}

fn external(package: &Package) -> Vec<String> {
    let outside = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.path.is_none());
    outside
        .filter(|dependency| purpose(dependency.kind) == Purpose::Product)
        .map(|dependency| dependency.name.clone())
        .collect()
}

fn purpose(kind: DependencyKind) -> Purpose {
    match kind {
        DependencyKind::Development => Purpose::Tests,
        _ => Purpose::Product,
    }
}

impl From<&Package> for Locked {
    fn from(package: &Package) -> Self {
        let source = match &package.source {
            None => Source::Path,
            Some(source) if source.is_crates_io() => Source::DefaultRegistry,
            Some(source) => Source::Other(source.repr.clone()),
        };
        Self {
            name: package.name.to_string(),
            version: package.version.to_string(),
            source,
        }
    }
}
