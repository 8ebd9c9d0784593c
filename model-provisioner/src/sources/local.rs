//! `file:` and relative references: files of this machine, which stay where they are. Links are followed first; where they
//! lead has to be inside a folder that the configuration names. Blocking.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use api_types::{RelativePath, Sha256Digest};
use downloader::FetchError;
use model_files::kind::FileKind;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::Resolved;
use crate::choose;
use crate::error::ProvisionError;
use crate::plan::{Place, PlannedFile};

/// Read at once.
const CHUNK: usize = 1 << 20;

/// A file with the parts that belong to it, or a folder of files.
pub(crate) fn resolve(path: &Path, roots: &[PathBuf]) -> Result<Resolved, ProvisionError> {
    let path = inside(path, roots)?;
    let (folder, names) = if path.is_dir() {
        let names = names_in(&path)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let chosen = choose::whole(&path.display().to_string(), &names)?;
        (path.clone(), chosen.into_iter().map(str::to_owned).collect())
    } else {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| no_text(&path))?;
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        (folder.to_owned(), choose::with_parts(name)?)
    };
    let mut files = Vec::new();
    for name in names {
        // A link in the folder may lead elsewhere.
        let file = inside(&folder.join(&name), roots)?;
        let metadata = file.metadata().map_err(FetchError::at(&file))?;
        if !metadata.is_file() {
            return Err(ProvisionError::malformed(
                file.display().to_string(),
                "it is no file",
            ));
        }
        let name = RelativePath::new(&name);
        files.push(PlannedFile {
            name: name
                .map_err(|error| ProvisionError::malformed(file.display().to_string(), error.to_string()))?,
            bytes: Some(metadata.len()),
            sha256: None,
            etag: None,
            place: Place::Local(file),
            cached: true,
        });
    }
    Ok(Resolved {
        pinned: format!("file:{}", path.to_str().ok_or_else(|| no_text(&path))?),
        files,
    })
}

/// The path without links, if it is inside one of the roots.
fn inside(path: &Path, roots: &[PathBuf]) -> Result<PathBuf, ProvisionError> {
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ProvisionError::NotFound {
                source_name: "this machine".to_owned(),
                what: path.display().to_string(),
            });
        }
        Err(error) => return Err(FetchError::at(path)(error).into()),
    };
    let is_inside = |root: &PathBuf| root.canonicalize().is_ok_and(|root| real.starts_with(root));
    if roots.iter().any(is_inside) {
        return Ok(real);
    }
    Err(ProvisionError::Outside {
        path: real,
        roots: roots.to_vec(),
    })
}

fn names_in(folder: &Path) -> Result<Vec<String>, ProvisionError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(FetchError::at(folder))? {
        let entry = entry.map_err(FetchError::at(folder))?;
        let name = entry.file_name().into_string();
        // What has another name than text is no file of a model.
        names.extend(name.ok().filter(|name| FileKind::of(name) != FileKind::Other));
    }
    names.sort_unstable();
    Ok(names)
}

fn no_text(path: &Path) -> ProvisionError {
    ProvisionError::malformed(path.display().to_string(), "its name is no UTF-8")
}

/// The digest of a file, which must not change meanwhile.
pub(crate) fn hash(
    path: &Path,
    stop: &CancellationToken,
    mut read: impl FnMut(u64),
) -> Result<(Sha256Digest, u64), ProvisionError> {
    let at = || FetchError::at(path);
    let mut file = File::open(path).map_err(at())?;
    let identity = |file: &File| {
        let of = file.metadata().map_err(at())?;
        Ok::<_, FetchError>((of.ino(), of.len(), of.mtime(), of.mtime_nsec()))
    };
    let before = identity(&file)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        if stop.is_cancelled() {
            return Err(FetchError::Stopped.into());
        }
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&chunk[..count]);
                read(count as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(at()(error).into()),
        }
    }
    if identity(&file)? != before {
        return Err(ProvisionError::Stale {
            name: path.display().to_string(),
        });
    }
    Ok((Sha256Digest::new(hasher.finalize().into()), before.1))
}
