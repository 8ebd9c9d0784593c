//! How much of a GGUF file has to be on the GPUs: the sizes of its tensors, by its own table. Reads the header only.
//!
//! The format is GGUF versions 2 and 3, little-endian: magic, version, counts, key-value pairs, tensor table; then the
//! data, aligned. A tensor's size is the distance to the next one's offset, so no table of types is needed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;

/// llama.cpp keeps the input embedding in system memory, where a lookup belongs; with tied weights a copy of it is the
/// output layer, which is offloaded like any other.
const INPUT_EMBEDDING: &str = "token_embd.weight";
const OUTPUT_LAYER: &str = "output.weight";

/// Bounds of what a header may claim; real ones stay far below.
const MOST_ENTRIES: u64 = 1 << 20;
const LONGEST_NAME: u64 = 64 << 10;
const DEEPEST_ARRAY: u32 = 4;

/// Bytes of the tensors that a fully offloaded model has on its GPUs at least. Blocking.
///
/// # Errors
/// When the file cannot be read or is not such a file.
pub(super) fn offloaded_bytes(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let header = Header::read(BufReader::new(file))?;
    header
        .offloaded(size)
        .ok_or_else(|| malformed("tensors beyond the end of the file"))
}

struct Tensor {
    name: String,
    offset: u64,
}

struct Header {
    tensors: Vec<Tensor>,
    data: u64,
}

impl Header {
    fn read(mut from: impl Read + Seek) -> io::Result<Self> {
        let mut magic = [0; 4];
        from.read_exact(&mut magic)?;
        let version = u32(&mut from)?;
        if magic != MAGIC || !(2..=3).contains(&version) {
            return Err(malformed("not GGUF version 2 or 3"));
        }
        let (tensors, pairs) = (count(&mut from)?, count(&mut from)?);
        let mut alignment = DEFAULT_ALIGNMENT;
        for _ in 0..pairs {
            let key = name(&mut from)?;
            let kind = u32(&mut from)?;
            if key == "general.alignment" && kind == UINT32 {
                alignment = u64::from(u32(&mut from)?.max(1));
            } else {
                skip_value(&mut from, kind, DEEPEST_ARRAY)?;
            }
        }
        let tensors = (0..tensors)
            .map(|_| tensor(&mut from))
            .collect::<io::Result<_>>()?;
        let data = from.stream_position()?.next_multiple_of(alignment);
        Ok(Self { tensors, data })
    }

    fn offloaded(&self, file: u64) -> Option<u64> {
        let end = file.checked_sub(self.data)?;
        let mut offsets: Vec<u64> = self.tensors.iter().map(|tensor| tensor.offset).collect();
        offsets.push(end);
        offsets.sort_unstable();
        let size = |tensor: &Tensor| {
            offsets
                .iter()
                .find(|next| **next > tensor.offset)
                .map(|next| next - tensor.offset)
        };
        let untied = self.tensors.iter().any(|tensor| tensor.name == OUTPUT_LAYER);
        let offloaded = self
            .tensors
            .iter()
            .filter(|tensor| !(untied && tensor.name == INPUT_EMBEDDING));
        offsets.last().filter(|last| **last <= end)?;
        Some(offloaded.filter_map(size).sum())
    }
}

fn tensor(from: &mut impl Read) -> io::Result<Tensor> {
    let name = name(from)?;
    let dimensions = u32(from)?;
    // Dimensions and type.
    skip(from, u64::from(dimensions.min(8)) * 8 + 4)?;
    Ok(Tensor {
        name,
        offset: u64(from)?,
    })
}

const UINT32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

fn skip_value(from: &mut impl Read, kind: u32, depth: u32) -> io::Result<()> {
    match kind {
        STRING => {
            let length = u64(from)?;
            skip(from, length)
        }
        ARRAY if depth > 0 => {
            let (kind, length) = (u32(from)?, count(from)?);
            match width(kind) {
                Some(width) => skip(from, length * width),
                None => (0..length).try_for_each(|_| skip_value(from, kind, depth - 1)),
            }
        }
        _ => skip(
            from,
            width(kind).ok_or_else(|| malformed("an unknown type of value"))?,
        ),
    }
}

/// Bytes of a value of fixed size.
const fn width(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

fn skip(from: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(bytes), &mut io::sink())?;
    if skipped == bytes {
        return Ok(());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn name(from: &mut impl Read) -> io::Result<String> {
    let length = u64(from)?;
    if length > LONGEST_NAME {
        return Err(malformed("a name that is too long"));
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| malformed("a name that is no text"))
}

fn count(from: &mut impl Read) -> io::Result<u64> {
    let count = u64(from)?;
    if count > MOST_ENTRIES {
        return Err(malformed("more entries than any model has"));
    }
    Ok(count)
}

fn u32(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn u64(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed GGUF: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_harness_support::gguf::TinyModel;

    #[test]
    fn the_weights_of_a_model_are_nearly_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.gguf");
        let model = TinyModel::default();
        model.write(&path).unwrap();
        let (file, weights) = (path.metadata().unwrap().len(), offloaded_bytes(&path).unwrap());
        assert!(weights < file && weights > file / 2, "{weights} of {file}");
    }

    fn header(tensors: &[(&str, u64)], data: u64) -> Header {
        let tensors = tensors.iter().map(|&(name, offset)| Tensor {
            name: name.to_owned(),
            offset,
        });
        Header {
            tensors: tensors.collect(),
            data,
        }
    }

    #[test]
    fn the_input_embedding_counts_only_where_it_is_the_output_too() {
        let untied = [
            ("token_embd.weight", 0),
            ("blk.0.ffn_up.weight", 100),
            ("output.weight", 300),
        ];
        assert_eq!(header(&untied, 50).offloaded(850), Some(700));
        assert_eq!(header(&untied[..2], 50).offloaded(850), Some(800));
        assert_eq!(header(&untied, 50).offloaded(300), None, "cut short");
    }

    #[test]
    fn what_is_no_model_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, b"GGUF and nothing else").unwrap();
        assert!(offloaded_bytes(&path).is_err());
        assert!(offloaded_bytes(&dir.path().join("nothing")).is_err());
    }

    proptest! {
        /// A header of anybody's making is read or refused, in memory bounded by its own size.
        #[test]
        fn no_header_does_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let start = [b"GGUF".as_slice(), &[3, 0, 0, 0], &[2, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
            bytes.splice(0..0, start);
            let _read_or_refused = Header::read(io::Cursor::new(bytes)).map(|header| header.offloaded(1 << 40));
        }
    }
}
