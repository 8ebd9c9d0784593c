//! A whole header, and what its tensors take.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use super::tensors::Tensor;
use super::value::{self, Value};
use crate::error::ReadError;
use crate::input::Input;
use crate::limits::{LARGEST_ALIGNMENT, LONGEST_NAME, MOST_PAIRS, MOST_TENSORS};

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;

/// llama.cpp keeps the input embedding in system memory, where a lookup belongs; with tied weights a copy of it is the
/// output layer, which is offloaded like any other.
pub(super) const INPUT_EMBEDDING: &str = "token_embd.weight";
pub(super) const OUTPUT_LAYER: &str = "output.weight";

/// The header of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The pairs that are kept, by key.
    pub pairs: BTreeMap<String, Value>,
    /// The tensor table, in its order.
    pub tensors: Vec<Tensor>,
    /// Where the data begins, bytes.
    pub data: u64,
}

impl Header {
    /// Reads the header of a file and checks that every tensor lies inside the file. Blocking.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn of_file(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let header = Self::read(file)?;
        header.sizes(size)?;
        Ok(header)
    }

    /// Reads a header from its first byte on.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(from: impl Read + Seek) -> Result<Self, ReadError> {
        let mut from = Input::new(from);
        preamble(&mut from)?;
        let tensors = from.count("tensors", MOST_TENSORS)?;
        let pairs = from.count("key-value pairs", MOST_PAIRS)?;
        let pairs = read_pairs(&mut from, pairs)?;
        // Not reserved ahead: the count is only a claim.
        let mut table = Vec::new();
        for _ in 0..tensors {
            table.push(Tensor::read(&mut from)?);
        }
        let alignment = alignment(&pairs)?;
        Ok(Self {
            pairs,
            tensors: table,
            data: from.position().next_multiple_of(alignment),
        })
    }

    /// The bytes of each tensor, in the order of the table, in a file of this size. A tensor of a type that is not known
    /// reaches to the next one.
    ///
    /// # Errors
    /// [`ReadError::Beyond`], or a tensor that contradicts its type.
    pub fn sizes(&self, file: u64) -> Result<Vec<u64>, ReadError> {
        let beyond = |tensor: &Tensor, end: Option<u64>| ReadError::Beyond {
            tensor: tensor.name.clone(),
            end: end.and_then(|end| end.checked_add(self.data)).unwrap_or(u64::MAX),
            size: file,
        };
        let Some(end) = file.checked_sub(self.data) else {
            return match self.tensors.first() {
                Some(first) => Err(beyond(first, Some(first.offset))),
                None => Ok(Vec::new()),
            };
        };
        let mut offsets: Vec<u64> = self.tensors.iter().map(|tensor| tensor.offset).collect();
        offsets.push(end);
        offsets.sort_unstable();
        let to_next = |tensor: &Tensor| {
            let next = offsets.partition_point(|offset| *offset <= tensor.offset);
            offsets.get(next).map_or(0, |next| next - tensor.offset)
        };
        let size = |tensor: &Tensor| {
            let bytes = tensor.bytes()?.unwrap_or_else(|| to_next(tensor));
            let tensor_end = tensor.offset.checked_add(bytes);
            match tensor_end {
                Some(tensor_end) if tensor_end <= end => Ok(bytes),
                _ => Err(beyond(tensor, tensor_end)),
            }
        };
        self.tensors.iter().map(size).collect()
    }

    /// Whether it has an output layer of its own.
    #[must_use]
    pub fn is_untied(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.name == OUTPUT_LAYER)
    }

    /// A number by its key.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.pairs.get(key).and_then(Value::number)
    }

    /// A text by its key.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).and_then(Value::text)
    }
}

/// The bytes that are on the GPUs when every layer is, of tensors with their sizes.
pub(super) fn offloaded(untied: bool, tensors: &[Tensor], sizes: &[u64]) -> u64 {
    let on_gpu = tensors
        .iter()
        .zip(sizes)
        .filter(|(tensor, _)| !(untied && tensor.name == INPUT_EMBEDDING));
    on_gpu.fold(0, |sum: u64, (_, size)| sum.saturating_add(*size))
}

fn preamble(from: &mut Input<impl Read + Seek>) -> Result<(), ReadError> {
    let refuse = |found: String| {
        Err(ReadError::Format {
            format: "GGUF",
            found,
        })
    };
    let magic = from.bytes("the magic number")?;
    if magic != MAGIC {
        return refuse(format!("it begins with {:?}", String::from_utf8_lossy(&magic)));
    }
    match from.u32("the version")? {
        2..=3 => Ok(()),
        version if version.swap_bytes() <= 3 => refuse("its numbers are big-endian".to_owned()),
        version => refuse(format!("version {version}; 2 and 3 are read")),
    }
}

fn read_pairs(from: &mut Input<impl Read + Seek>, count: u64) -> Result<BTreeMap<String, Value>, ReadError> {
    let mut pairs = BTreeMap::new();
    for _ in 0..count {
        let key = from.text("bytes of a key", LONGEST_NAME)?;
        let value = value::read(from)?;
        if pairs.contains_key(&key) {
            return Err(ReadError::malformed(key, "the key is there twice"));
        }
        if let Some(value) = value {
            pairs.insert(key, value);
        }
    }
    Ok(pairs)
}

fn alignment(pairs: &BTreeMap<String, Value>) -> Result<u64, ReadError> {
    let alignment = pairs.get("general.alignment").and_then(Value::number);
    let alignment = alignment.unwrap_or(DEFAULT_ALIGNMENT);
    if alignment.is_power_of_two() && alignment <= LARGEST_ALIGNMENT {
        return Ok(alignment);
    }
    Err(ReadError::malformed(
        "general.alignment",
        "it must be a power of two up to 1048576",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes by distance: the type is none that is known.
    fn header(tensors: &[(&str, u64)], data: u64) -> Header {
        let tensors = tensors.iter().map(|&(name, offset)| Tensor {
            name: name.to_owned(),
            elements: 1,
            row: 1,
            kind: u32::MAX,
            offset,
        });
        Header {
            pairs: BTreeMap::new(),
            tensors: tensors.collect(),
            data,
        }
    }

    fn on_gpu(header: &Header, file: u64) -> Option<u64> {
        let sizes = header.sizes(file).ok()?;
        Some(offloaded(header.is_untied(), &header.tensors, &sizes))
    }

    #[test]
    fn the_input_embedding_counts_only_where_it_is_the_output_too() {
        let untied = [
            ("token_embd.weight", 0),
            ("blk.0.ffn_up.weight", 100),
            ("output.weight", 300),
        ];
        assert_eq!(on_gpu(&header(&untied, 50), 850), Some(700));
        assert_eq!(on_gpu(&header(&untied[..2], 50), 850), Some(800));
        assert_eq!(on_gpu(&header(&untied, 50), 300), None, "cut short");
        assert_eq!(on_gpu(&header(&untied, 50), 40), None, "cut in the header");
    }
}
