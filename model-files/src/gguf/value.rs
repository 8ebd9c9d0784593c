//! Key-value pairs: which are kept, which are passed over.

use std::io::{Read, Seek};

use crate::error::ReadError;
use crate::input::Input;
use crate::limits::{LONGEST_SKIPPED, LONGEST_TEXT, MOST_ELEMENTS, MOST_LAYERS};

/// A value of the header.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any integer that is not negative, or a truth value.
    Number(u64),
    /// An integer below zero.
    Negative(i64),
    /// A fraction.
    Real(f64),
    /// A text of at most [`LONGEST_TEXT`] bytes.
    Text(String),
    /// An array of integers or truth values, of at most [`MOST_LAYERS`] elements.
    Numbers(Vec<u64>),
    /// Of any other array, how many elements it has.
    Count(u64),
}

impl Value {
    /// The number, where it is one.
    #[must_use]
    pub const fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, where it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Type numbers.
mod kind {
    pub(super) const U8: u32 = 0;
    pub(super) const I8: u32 = 1;
    pub(super) const U16: u32 = 2;
    pub(super) const I16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const TEXT: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const U64: u32 = 10;
    pub(super) const I64: u32 = 11;
    pub(super) const F64: u32 = 12;
}

const VALUE: &str = "a value";

/// Reads a value; `None` for one that is passed over.
pub(super) fn read(from: &mut Input<impl Read + Seek>) -> Result<Option<Value>, ReadError> {
    match from.u32(VALUE)? {
        kind::TEXT => text(from),
        kind::ARRAY => array(from).map(Some),
        other => scalar(from, other).map(Some),
    }
}

fn text(from: &mut Input<impl Read + Seek>) -> Result<Option<Value>, ReadError> {
    let length = from.count("bytes of a text", LONGEST_SKIPPED)?;
    if length > LONGEST_TEXT {
        from.skip(length, VALUE)?;
        return Ok(None);
    }
    from.text_of(VALUE, length).map(Value::Text).map(Some)
}

fn scalar(from: &mut Input<impl Read + Seek>, of: u32) -> Result<Value, ReadError> {
    let signed = |number: i64| u64::try_from(number).map_or(Value::Negative(number), Value::Number);
    Ok(match of {
        kind::U8 => Value::Number(from.bytes::<1>(VALUE)?[0].into()),
        kind::BOOL => match from.bytes::<1>(VALUE)?[0] {
            truth @ 0..=1 => Value::Number(truth.into()),
            _ => return Err(ReadError::malformed(VALUE, "a truth value is 0 or 1")),
        },
        kind::I8 => signed(i8::from_le_bytes(from.bytes(VALUE)?).into()),
        kind::U16 => Value::Number(u16::from_le_bytes(from.bytes(VALUE)?).into()),
        kind::I16 => signed(i16::from_le_bytes(from.bytes(VALUE)?).into()),
        kind::U32 => Value::Number(from.u32(VALUE)?.into()),
        kind::I32 => signed(i32::from_le_bytes(from.bytes(VALUE)?).into()),
        kind::F32 => Value::Real(f32::from_le_bytes(from.bytes(VALUE)?).into()),
        kind::U64 => Value::Number(from.u64(VALUE)?),
        kind::I64 => signed(i64::from_le_bytes(from.bytes(VALUE)?)),
        kind::F64 => Value::Real(f64::from_le_bytes(from.bytes(VALUE)?)),
        _ => return Err(ReadError::malformed(VALUE, "its type is unknown")),
    })
}

/// Bytes of a value of fixed size.
const fn width(of: u32) -> Option<u64> {
    Some(match of {
        kind::U8 | kind::I8 | kind::BOOL => 1,
        kind::U16 | kind::I16 => 2,
        kind::U32 | kind::I32 | kind::F32 => 4,
        kind::U64 | kind::I64 | kind::F64 => 8,
        _ => return None,
    })
}

fn array(from: &mut Input<impl Read + Seek>) -> Result<Value, ReadError> {
    let of = from.u32(VALUE)?;
    let length = from.count("elements of an array", MOST_ELEMENTS)?;
    if of == kind::TEXT {
        for _ in 0..length {
            let bytes = from.count("bytes of a text", LONGEST_SKIPPED)?;
            from.skip(bytes, VALUE)?;
        }
        return Ok(Value::Count(length));
    }
    let Some(width) = width(of) else {
        return Err(ReadError::malformed(
            "an array",
            "its elements are numbers or texts",
        ));
    };
    let whole = !matches!(of, kind::F32 | kind::F64);
    if !whole || length > MOST_LAYERS {
        // Both factors are bounded far below where their product could wrap.
        from.skip(length * width, VALUE)?;
        return Ok(Value::Count(length));
    }
    let numbers = (0..length).map(|_| Ok(scalar(from, of)?.number().unwrap_or_default()));
    numbers.collect::<Result<_, ReadError>>().map(Value::Numbers)
}
