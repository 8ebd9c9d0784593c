//! Writes headers byte by byte, also wrong ones.

use std::io::Cursor;

use model_files::gguf::Header;
use model_files::{ReadError, safetensors};

/// A GGUF file in the making.
#[derive(Clone, Default)]
pub(crate) struct Gguf {
    pairs: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: u64,
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Gguf {
    pub(crate) fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.pairs
            .push([&text(key), kind.to_le_bytes().as_slice(), value].concat());
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.raw(key, 8, &text(value))
    }

    pub(crate) fn array(self, key: &str, kind: u32, values: &[Vec<u8>]) -> Self {
        let head = [
            kind.to_le_bytes().as_slice(),
            &(values.len() as u64).to_le_bytes(),
        ]
        .concat();
        self.raw(key, 9, &[head, values.concat()].concat())
    }

    pub(crate) fn u32s(self, key: &str, values: &[u32]) -> Self {
        let values: Vec<_> = values.iter().map(|value| value.to_le_bytes().to_vec()).collect();
        self.array(key, 4, &values)
    }

    /// A tensor behind the ones before, of a type that takes this many bytes.
    pub(crate) fn tensor(mut self, name: &str, dimensions: &[u64], kind: u32, bytes: u64) -> Self {
        let offset = self.data;
        self.data += bytes.next_multiple_of(32);
        self.tensor_at(name, dimensions, kind, offset)
    }

    pub(crate) fn tensor_at(mut self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Self {
        let mut tensor = [text(name).as_slice(), &(dimensions.len() as u32).to_le_bytes()].concat();
        tensor.extend(dimensions.iter().flat_map(|length| length.to_le_bytes()));
        tensor.extend(kind.to_le_bytes());
        tensor.extend(offset.to_le_bytes());
        self.tensors.push(tensor);
        self
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        let counts = [self.tensors.len() as u64, self.pairs.len() as u64]
            .map(u64::to_le_bytes)
            .concat();
        let parts = [self.pairs.concat(), self.tensors.concat()].concat();
        [b"GGUF".as_slice(), &3_u32.to_le_bytes(), &counts, &parts].concat()
    }

    /// Header and data.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut file = self.header();
        file.resize(
            file.len().next_multiple_of(32) + usize::try_from(self.data).unwrap(),
            0,
        );
        file
    }

    /// Read back, with the sizes of its tensors.
    pub(crate) fn read(&self) -> Result<(Header, Vec<u64>), ReadError> {
        read(&self.file())
    }
}

pub(crate) fn read(file: &[u8]) -> Result<(Header, Vec<u64>), ReadError> {
    let header = Header::read(Cursor::new(file))?;
    let sizes = header.sizes(file.len() as u64)?;
    Ok((header, sizes))
}

/// A safetensors file with this header and so many bytes of data.
pub(crate) fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [length.as_slice(), header.as_bytes(), &vec![0; data]].concat()
}

pub(crate) fn read_safetensors(file: &[u8]) -> Result<safetensors::Header, ReadError> {
    safetensors::Header::read(Cursor::new(file))
}
