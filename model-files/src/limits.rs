//! Bounds of what a header may claim. Real models stay far below each.

/// Key-value pairs of a GGUF header; real ones have some dozens.
pub const MOST_PAIRS: u64 = 1 << 16;
/// Tensors of one file; real ones have some thousands.
pub const MOST_TENSORS: u64 = 1 << 17;
/// Elements of an array in a GGUF header: vocabularies have some hundred thousand.
pub const MOST_ELEMENTS: u64 = 1 << 24;
/// Longest key or tensor name, bytes. llama.cpp takes tensor names of 63 bytes.
pub const LONGEST_NAME: u64 = 256;
/// Longest text that is kept (a chat template), bytes. Longer ones are passed over.
pub const LONGEST_TEXT: u64 = 1 << 20;
/// Longest text that is passed over, bytes.
pub const LONGEST_SKIPPED: u64 = 64 << 20;
/// Layers that have a number of their own in an array.
pub const MOST_LAYERS: u64 = 4096;
/// Dimensions of a tensor.
pub const MOST_DIMENSIONS: u32 = 4;
/// Largest alignment of tensor data, bytes.
pub const LARGEST_ALIGNMENT: u64 = 1 << 20;
/// Parts of one model.
pub const MOST_PARTS: u64 = 1024;
/// Longest safetensors header, bytes.
pub const LONGEST_SAFETENSORS_HEADER: u64 = 32 << 20;
/// Longest configuration file that is read, bytes.
pub const LONGEST_CONFIG: u64 = 16 << 20;
