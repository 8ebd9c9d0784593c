//! The tensor table: what each tensor is made of, where it lies, and that it lies inside the file.

use std::io::{Read, Seek};

use crate::error::ReadError;
use crate::input::Input;
use crate::limits::{LONGEST_NAME, MOST_DIMENSIONS};

const TABLE: &str = "the tensor table";

/// How numbers are packed: so many in so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorType {
    /// As engines call it.
    pub name: &'static str,
    /// Numbers per block.
    pub block: u64,
    /// Bytes per block.
    pub bytes: u64,
}

impl TensorType {
    /// `None` for a type that is not known here.
    #[must_use]
    pub const fn of(id: u32) -> Option<Self> {
        let (name, block, bytes) = match id {
            0 => ("F32", 1, 4),
            1 => ("F16", 1, 2),
            2 => ("Q4_0", 32, 18),
            3 => ("Q4_1", 32, 20),
            6 => ("Q5_0", 32, 22),
            7 => ("Q5_1", 32, 24),
            8 => ("Q8_0", 32, 34),
            9 => ("Q8_1", 32, 36),
            10 => ("Q2_K", 256, 84),
            11 => ("Q3_K", 256, 110),
            12 => ("Q4_K", 256, 144),
            13 => ("Q5_K", 256, 176),
            14 => ("Q6_K", 256, 210),
            15 => ("Q8_K", 256, 292),
            16 => ("IQ2_XXS", 256, 66),
            17 => ("IQ2_XS", 256, 74),
            18 => ("IQ3_XXS", 256, 98),
            19 => ("IQ1_S", 256, 50),
            20 => ("IQ4_NL", 32, 18),
            21 => ("IQ3_S", 256, 110),
            22 => ("IQ2_S", 256, 82),
            23 => ("IQ4_XS", 256, 136),
            24 => ("I8", 1, 1),
            25 => ("I16", 1, 2),
            26 => ("I32", 1, 4),
            27 => ("I64", 1, 8),
            28 => ("F64", 1, 8),
            29 => ("IQ1_M", 256, 56),
            30 => ("BF16", 1, 2),
            34 => ("TQ1_0", 256, 54),
            35 => ("TQ2_0", 256, 66),
            39 => ("MXFP4", 32, 17),
            40 => ("NVFP4", 64, 36),
            41 => ("Q1_0", 128, 18),
            42 => ("Q2_0", 64, 18),
            _ => return None,
        };
        Some(Self { name, block, bytes })
    }
}

/// One tensor of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Numbers in it.
    pub elements: u64,
    /// Length of a row.
    pub row: u64,
    /// The number of its type.
    pub kind: u32,
    /// Where it begins, from the start of the data.
    pub offset: u64,
}

impl Tensor {
    pub(super) fn read(from: &mut Input<impl Read + Seek>) -> Result<Self, ReadError> {
        let name = from.text("bytes of a tensor's name", LONGEST_NAME)?;
        let dimensions = from.u32(TABLE)?;
        if dimensions > MOST_DIMENSIONS {
            let (found, most) = (dimensions.into(), MOST_DIMENSIONS.into());
            let what = "dimensions of a tensor";
            return Err(ReadError::Limit { what, found, most });
        }
        let mut elements: u64 = 1;
        let mut row = 1;
        for at in 0..dimensions {
            let length = from.u64(TABLE)?;
            // The format has signed lengths; a product beyond them would wrap in an engine.
            let product = elements
                .checked_mul(length)
                .filter(|product| i64::try_from(*product).is_ok());
            let (Some(product), true) = (product, length > 0) else {
                return Err(ReadError::malformed(
                    name,
                    "its dimensions are zero or beyond any size",
                ));
            };
            elements = product;
            if at == 0 {
                row = length;
            }
        }
        let kind = from.u32(TABLE)?;
        let offset = from.u64(TABLE)?;
        Ok(Self {
            name,
            elements,
            row,
            kind,
            offset,
        })
    }

    /// Its bytes by its type; `None` for an unknown one.
    ///
    /// # Errors
    /// A row that is not a whole number of blocks.
    pub fn bytes(&self) -> Result<Option<u64>, ReadError> {
        let Some(of) = TensorType::of(self.kind) else {
            return Ok(None);
        };
        if !self.row.is_multiple_of(of.block) {
            return Err(ReadError::malformed(
                self.name.as_str(),
                "its rows are no whole blocks of its type",
            ));
        }
        let bytes = (self.elements / of.block).checked_mul(of.bytes);
        match bytes {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(ReadError::malformed(
                self.name.as_str(),
                "its size is beyond any file",
            )),
        }
    }
}
