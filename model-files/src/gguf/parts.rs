//! Models in several files: `NAME-00001-of-0000N.gguf`, all in one folder.

use std::path::{Path, PathBuf};

use super::header::{Header, offloaded};
use crate::error::ReadError;
use crate::kind::SplitName;
use crate::limits::MOST_PARTS;

/// The headers of a model, of its one file or of all its parts, with the sizes of their tensors. Blocking.
///
/// # Errors
/// [`ReadError`] of any part; a part that is not there is [`ReadError::Io`].
pub fn read_parts(first: &Path) -> Result<Vec<(Header, Vec<u64>)>, ReadError> {
    paths(first)?.iter().map(|path| read_sized(path)).collect()
}

/// Bytes of the tensors that a fully offloaded model has on its GPUs at least; all parts of one in parts. Blocking.
///
/// # Errors
/// As for [`read_parts`].
pub fn offloaded_bytes(first: &Path) -> Result<u64, ReadError> {
    Ok(offloaded_of(&read_parts(first)?))
}

pub(super) fn offloaded_of(parts: &[(Header, Vec<u64>)]) -> u64 {
    let untied = parts.iter().any(|(header, _)| header.is_untied());
    let each = parts
        .iter()
        .map(|(header, sizes)| offloaded(untied, &header.tensors, sizes));
    each.fold(0, u64::saturating_add)
}

fn read_sized(path: &Path) -> Result<(Header, Vec<u64>), ReadError> {
    let size = path.metadata()?.len();
    let header = Header::read(std::fs::File::open(path)?)?;
    let sizes = header.sizes(size)?;
    Ok((header, sizes))
}

fn paths(first: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let split = first
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(SplitName::parse);
    let Some(split) = split else {
        return Ok(vec![first.to_owned()]);
    };
    if split.of > MOST_PARTS {
        return Err(ReadError::Limit {
            what: "parts of a model",
            found: split.of,
            most: MOST_PARTS,
        });
    }
    Ok((1..=split.of)
        .map(|number| first.with_file_name(split.part(number)))
        .collect())
}
