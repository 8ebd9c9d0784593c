//! Catalogs in temporary folders and entries for them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use api_types::{
    EngineEntry, EngineKind, EngineMode, FilePlace, Lifecycle, ModelEntry, ModelFile, ModelId, RelativePath,
    Sha256Digest,
};
use catalog_core::{Catalog, layout};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) catalog: Catalog,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::at(&dir.path().join("cache"));
        Self { dir, catalog }
    }

    pub(crate) fn root(&self) -> &Path {
        self.catalog.root()
    }

    /// A model with one file below the root, as a provisioner publishes it; not registered.
    pub(crate) fn published(&self, id: &str, content: &str) -> ModelEntry {
        publish(self.root(), id, content).unwrap()
    }

    pub(crate) fn registered(&self, id: &str, content: &str) -> ModelEntry {
        let entry = self.published(id, content);
        self.catalog.register_model(entry, 1_000).unwrap().into_entry()
    }
}

pub(crate) fn digest(content: &str) -> Sha256Digest {
    Sha256Digest::new(Sha256::digest(content).into())
}

pub(crate) fn publish(root: &Path, id: &str, content: &str) -> io::Result<ModelEntry> {
    let (id, sha256) = (ModelId::new(id).unwrap(), digest(content));
    let name: RelativePath = "m.gguf".parse().unwrap();
    let blob = root.join(layout::blob(&sha256));
    let path = layout::published_file(&id, &sha256, &name).unwrap();
    let file = root.join(path.as_path());
    for parent in [&blob, &file].map(|path| path.parent().unwrap()) {
        fs::create_dir_all(parent)?;
    }
    fs::write(&blob, content)?;
    if !file.exists() {
        fs::hard_link(&blob, &file)?;
    }
    Ok(ModelEntry {
        source: format!("hf:org/{id}/m.gguf").parse().unwrap(),
        resolved: format!("hf:org/{id}@c0ffee/m.gguf"),
        state: Lifecycle::Active,
        digest: sha256,
        bytes: content.len() as u64,
        files: vec![ModelFile {
            name,
            bytes: content.len() as u64,
            sha256,
            place: FilePlace::Cached(path),
        }],
        facts: None,
        created_unix_ms: 1_000,
        state_unix_ms: 1_000,
        verified_unix_ms: Some(1_000),
        id,
    })
}

pub(crate) fn engine(id: &str, version: &str) -> EngineEntry {
    EngineEntry {
        id: id.parse().unwrap(),
        state: Lifecycle::Active,
        engine: EngineKind::Llamacpp,
        version: version.to_owned(),
        mode: EngineMode::Source,
        build_ref: Some("b1234".to_owned()),
        digest: Some(digest(version)),
        flags: vec!["GGML_CUDA=ON".to_owned()],
        compute_capabilities: vec!["8.9".to_owned()],
        binary: Some("/opt/engines/llama-server".to_owned()),
        image: None,
        args: vec!["--no-ui".to_owned()],
        env: [("LLAMA_CACHE".to_owned(), "/nowhere".to_owned())].into(),
        source: "git".to_owned(),
        previous: None,
        created_unix_ms: 1_000,
        state_unix_ms: 1_000,
    }
}

/// Every file and folder below, with what tells whether it was written to.
pub(crate) fn everything(below: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    let mut found = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            found.push((
                path.clone(),
                metadata.ino(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ));
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}
