//! The container: metadata, tensor table, aligned data. Weights are made while they are written, so
//! a file larger than memory costs none. Pure encoding into a writer.

use std::f32::consts::TAU;
use std::io::{self, Write};

const VERSION: u32 = 3;
const ALIGNMENT: u64 = 32;

/// Type numbers of metadata values.
mod kind {
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const TEXT: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
}

/// The type number of 32-bit floats in the tensor table.
const TENSOR_F32: u32 = 0;

/// Collects the parts of a file.
#[derive(Default)]
pub(super) struct GgufWriter {
    entries: u64,
    metadata: Vec<u8>,
    tensors: Vec<Tensor>,
}

/// A tensor of 32-bit floats, described; the numbers are made when they are written.
pub(super) struct Tensor {
    name: String,
    /// Fastest-running first, as the format wants it.
    dimensions: Vec<u32>,
    fill: Fill,
}

#[derive(Clone, Copy)]
enum Fill {
    Ones,
    /// Normally distributed with this deviation.
    Random(f32),
}

impl Tensor {
    /// A matrix of random numbers.
    pub(super) fn random(name: impl Into<String>, columns: u32, rows: u32, deviation: f32) -> Self {
        Self {
            name: name.into(),
            dimensions: vec![columns, rows],
            fill: Fill::Random(deviation),
        }
    }

    /// A vector of ones.
    pub(super) fn ones(name: impl Into<String>, length: u32) -> Self {
        Self {
            name: name.into(),
            dimensions: vec![length],
            fill: Fill::Ones,
        }
    }

    fn elements(&self) -> u64 {
        self.dimensions.iter().copied().map(u64::from).product()
    }

    /// Bytes in the file, alignment included.
    fn size(&self) -> u64 {
        (4 * self.elements()).next_multiple_of(ALIGNMENT)
    }
}

impl GgufWriter {
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.entry(key, kind::TEXT);
        put_text(&mut self.metadata, value.as_bytes());
    }

    pub(super) fn number(&mut self, key: &str, value: u32) {
        self.entry(key, kind::U32);
        self.metadata.extend(value.to_le_bytes());
    }

    pub(super) fn real(&mut self, key: &str, value: f32) {
        self.entry(key, kind::F32);
        self.metadata.extend(value.to_le_bytes());
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.entry(key, kind::BOOL);
        self.metadata.push(u8::from(value));
    }

    pub(super) fn texts(&mut self, key: &str, values: &[Vec<u8>]) {
        self.array(key, kind::TEXT, values.len());
        for value in values {
            put_text(&mut self.metadata, value);
        }
    }

    pub(super) fn reals(&mut self, key: &str, values: &[f32]) {
        self.array(key, kind::F32, values.len());
        self.metadata
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    pub(super) fn integers(&mut self, key: &str, values: &[i32]) {
        self.array(key, kind::I32, values.len());
        self.metadata
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    pub(super) fn tensor(&mut self, tensor: Tensor) {
        self.tensors.push(tensor);
    }

    /// Writes the file.
    pub(super) fn finish(&self, out: &mut impl Write, seed: u64) -> io::Result<()> {
        out.write_all(&self.head())?;
        let mut random = Random(seed);
        self.tensors
            .iter()
            .try_for_each(|tensor| put_data(out, tensor, &mut random))
    }

    /// Bytes of the tensors in the file.
    pub(super) fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(Tensor::size).sum()
    }

    /// Everything before the data.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = b"GGUF".to_vec();
        head.extend(VERSION.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend(self.entries.to_le_bytes());
        head.extend(&self.metadata);
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            put_text(&mut head, tensor.name.as_bytes());
            head.extend((tensor.dimensions.len() as u32).to_le_bytes());
            head.extend(
                tensor
                    .dimensions
                    .iter()
                    .flat_map(|length| u64::from(*length).to_le_bytes()),
            );
            head.extend(TENSOR_F32.to_le_bytes());
            head.extend(offset.to_le_bytes());
            offset += tensor.size();
        }
        pad(&mut head);
        head
    }

    fn entry(&mut self, key: &str, kind: u32) {
        self.entries += 1;
        put_text(&mut self.metadata, key.as_bytes());
        self.metadata.extend(kind.to_le_bytes());
    }

    fn array(&mut self, key: &str, kind: u32, length: usize) {
        self.entry(key, kind::ARRAY);
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend((length as u64).to_le_bytes());
    }
}

fn put_data(out: &mut impl Write, tensor: &Tensor, random: &mut Random) -> io::Result<()> {
    for _ in 0..tensor.elements() {
        let number = match tensor.fill {
            Fill::Ones => 1.0,
            Fill::Random(deviation) => deviation * random.normal(),
        };
        out.write_all(&number.to_le_bytes())?;
    }
    let surplus = tensor.size() - 4 * tensor.elements();
    (0..surplus).try_for_each(|_| out.write_all(&[0]))
}

/// Texts carry their length and no terminator.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

fn pad(out: &mut Vec<u8>) {
    let aligned = (out.len() as u64).next_multiple_of(ALIGNMENT);
    out.resize(usize::try_from(aligned).unwrap_or(out.len()), 0);
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In (0, 1]: 24 bits fill a float's mantissa.
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit a float exactly")]
    fn unit(&mut self) -> f32 {
        ((self.next() >> 40) + 1) as f32 / (1_u32 << 24) as f32
    }

    /// Box and Muller's transform.
    fn normal(&mut self) -> f32 {
        let (radius, angle) = (self.unit(), self.unit());
        (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
    }
}
