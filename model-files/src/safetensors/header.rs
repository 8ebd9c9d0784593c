//! The header of one file: tensors that fill the data without gaps and without sharing a byte.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::ReadError;
use crate::input::Input;
use crate::limits::{LONGEST_NAME, LONGEST_SAFETENSORS_HEADER, MOST_TENSORS};

const HEADER: &str = "the header";
/// Not a tensor: free text about the file.
const METADATA: &str = "__metadata__";

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorInfo {
    /// The type of its numbers.
    pub dtype: String,
    /// Its dimensions.
    pub shape: Vec<u64>,
    /// Where it begins and ends, from the start of the data.
    pub data_offsets: [u64; 2],
}

impl TensorInfo {
    /// Numbers in it.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        self.shape
            .iter()
            .try_fold(1_u64, |product, length| product.checked_mul(*length))
    }

    /// Bytes of it.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.data_offsets[1].saturating_sub(self.data_offsets[0])
    }
}

/// The header of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its tensors, by name.
    pub tensors: BTreeMap<String, TensorInfo>,
}

impl Header {
    /// Reads the header of a file and checks that its tensors are the rest of the file. Blocking.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn of_file(path: &Path) -> Result<Self, ReadError> {
        Self::read(File::open(path)?)
    }

    /// The same of anything that can be read.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(from: impl Read + Seek) -> Result<Self, ReadError> {
        let mut from = Input::new(from);
        let length = from.count("bytes of a safetensors header", LONGEST_SAFETENSORS_HEADER)?;
        let text = from.text_of(HEADER, length)?;
        if !text.starts_with('{') {
            let found = "its header does not begin with '{'".to_owned();
            let format = "safetensors";
            return Err(ReadError::Format { format, found });
        }
        let Table(tensors) = serde_json::from_str(&text).map_err(|error| ReadError::Format {
            format: "safetensors",
            found: format!("its header is none: {error}"),
        })?;
        let size = from.size()?;
        check(&tensors, size, from.position())?;
        Ok(Self { tensors })
    }
}

/// Every byte of the data belongs to exactly one tensor, which has as many as its type and shape say.
fn check(tensors: &BTreeMap<String, TensorInfo>, size: u64, data: u64) -> Result<(), ReadError> {
    let mut in_order: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    in_order.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut at = 0;
    for (name, tensor) in in_order {
        let [begin, end] = tensor.data_offsets;
        if begin != at || end < begin {
            return Err(ReadError::malformed(
                name.as_str(),
                "tensors must follow each other without gaps",
            ));
        }
        let bits = tensor
            .elements()
            .zip(bits(&tensor.dtype))
            .map(|(n, bits)| n.checked_mul(bits));
        match bits {
            None => {
                let rule = "its type is unknown or its shape beyond any size";
                return Err(ReadError::malformed(name.as_str(), rule));
            }
            Some(Some(bits)) if bits.is_multiple_of(8) && bits / 8 == end - begin => {}
            Some(_) => {
                let rule = "its bytes are not those of its type and shape";
                return Err(ReadError::malformed(name.as_str(), rule));
            }
        }
        let end_in_file = data.saturating_add(end);
        if end_in_file > size {
            return Err(ReadError::Beyond {
                tensor: name.clone(),
                end: end_in_file,
                size,
            });
        }
        at = end;
    }
    if data.checked_add(at) != Some(size) {
        return Err(ReadError::malformed(
            "the data",
            "the file is longer than its tensors",
        ));
    }
    Ok(())
}

/// Bits of one number.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

/// The table as it is read: bounded while it is read, no name twice.
struct Table(BTreeMap<String, TensorInfo>);

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Table;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
                let mut tensors = BTreeMap::new();
                let mut described = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name.len() as u64 > LONGEST_NAME {
                        return Err(A::Error::custom("a name is too long"));
                    }
                    if name == METADATA {
                        map.next_value::<BTreeMap<String, String>>()?;
                        if std::mem::replace(&mut described, true) {
                            return Err(A::Error::custom("the metadata is there twice"));
                        }
                        continue;
                    }
                    if tensors.len() as u64 >= MOST_TENSORS {
                        return Err(A::Error::custom("more tensors than any model has"));
                    }
                    let tensor: TensorInfo = map.next_value()?;
                    if tensor.shape.len() > 16 || tensors.insert(name, tensor).is_some() {
                        return Err(A::Error::custom(
                            "a tensor is there twice or has too many dimensions",
                        ));
                    }
                }
                Ok(Table(tensors))
            }
        }
        from.deserialize_map(Reader)
    }
}
