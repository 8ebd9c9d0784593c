//! Writes a tiny model file that the real llama.cpp loads: llama architecture, random weights, a
//! vocabulary of bytes and some words. Deterministic by seed. What such a model says is noise; what
//! matters is that everything around it is real. Touches the one file it writes.
//!
//! Format: GGUF version 3 (little-endian; metadata, tensor table, tensor data aligned to 32 bytes).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

mod vocabulary;
mod writer;

use writer::{GgufWriter, Tensor};

/// Sizes of the model. The default makes a file of about 3 MB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TinyModel {
    /// Other seeds give other weights.
    pub seed: u64,
    /// Context length that the model claims to be trained with, tokens.
    pub ctx: u32,
    /// Layers.
    pub layers: u32,
    /// Width.
    pub embedding: u32,
    /// Width of the feed-forward part.
    pub feed_forward: u32,
    /// Attention heads; divides the width.
    pub heads: u32,
    /// Heads of keys and values; divides `heads`.
    pub heads_kv: u32,
}

impl Default for TinyModel {
    fn default() -> Self {
        Self {
            seed: 1,
            ctx: 2048,
            layers: 4,
            embedding: 128,
            feed_forward: 352,
            heads: 4,
            heads_kv: 2,
        }
    }
}

impl TinyModel {
    /// Over 400 MiB of weights, more than what a driver keeps for any program with a context. To be written hollow.
    pub const HEAVY: Self = Self {
        seed: 1,
        ctx: 2048,
        layers: 1,
        embedding: 4096,
        feed_forward: 4096,
        heads: 32,
        heads_kv: 32,
    };

    /// Writes the model; an existing file is replaced as a whole or not at all.
    ///
    /// # Errors
    /// The sizes do not fit each other ([`io::ErrorKind::InvalidInput`]), or the file cannot be
    /// written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        replace(path, |file| {
            let mut out = BufWriter::new(file);
            self.writer().finish(&mut out, self.seed)?;
            out.flush()
        })
    }

    /// Writes the model with holes in place of its weights: its header is true, its size too, and it takes no room. An
    /// engine that looks at the numbers would make nothing of them.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_hollow(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        replace(path, |mut file| {
            let writer = self.writer();
            let head = writer.head();
            file.write_all(&head)?;
            file.set_len(head.len() as u64 + writer.data_bytes())
        })
    }

    fn check(&self) -> io::Result<()> {
        let sizes = [
            self.ctx,
            self.layers,
            self.embedding,
            self.feed_forward,
            self.heads,
            self.heads_kv,
        ];
        let fits = sizes.iter().all(|size| *size > 0)
            && self.embedding.is_multiple_of(2 * self.heads)
            && self.heads.is_multiple_of(self.heads_kv);
        if fits {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{self:?}: sizes do not fit"),
            ))
        }
    }

    fn writer(&self) -> GgufWriter {
        let mut writer = GgufWriter::default();
        self.metadata(&mut writer);
        for tensor in self.tensors() {
            writer.tensor(tensor);
        }
        writer
    }

    fn metadata(&self, writer: &mut GgufWriter) {
        writer.text("general.architecture", "llama");
        writer.text("general.name", "llama-orch tiny test model");
        writer.text("general.description", "random weights: it answers with noise");
        writer.number("general.file_type", 0);
        writer.number("llama.context_length", self.ctx);
        writer.number("llama.embedding_length", self.embedding);
        writer.number("llama.block_count", self.layers);
        writer.number("llama.feed_forward_length", self.feed_forward);
        writer.number("llama.attention.head_count", self.heads);
        writer.number("llama.attention.head_count_kv", self.heads_kv);
        writer.real("llama.attention.layer_norm_rms_epsilon", 1e-5);
        writer.number("llama.rope.dimension_count", self.embedding / self.heads);
        writer.real("llama.rope.freq_base", 10_000.0);
        vocabulary::describe(writer);
    }

    fn tensors(&self) -> Vec<Tensor> {
        let (width, wide) = (self.embedding, self.feed_forward);
        let kv = width / self.heads * self.heads_kv;
        let words = vocabulary::size();
        let mut tensors = vec![
            Tensor::random("token_embd.weight", width, words, 1.0),
            Tensor::ones("output_norm.weight", width),
            Tensor::random("output.weight", width, words, 0.4),
        ];
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            tensors.extend([
                Tensor::ones(name("attn_norm"), width),
                Tensor::random(name("attn_q"), width, width, 0.1),
                Tensor::random(name("attn_k"), width, kv, 0.1),
                Tensor::random(name("attn_v"), width, kv, 0.1),
                Tensor::random(name("attn_output"), width, width, 0.1),
                Tensor::ones(name("ffn_norm"), width),
                Tensor::random(name("ffn_gate"), width, wide, 0.1),
                Tensor::random(name("ffn_up"), width, wide, 0.1),
                Tensor::random(name("ffn_down"), wide, width, 0.1),
            ]);
        }
        tensors
    }
}

fn replace(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let file = tempfile::NamedTempFile::new_in(folder.unwrap_or_else(|| Path::new(".")))?;
    write(file.as_file())?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(model: TinyModel) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        model.write(&path).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
        let model = TinyModel {
            layers: 1,
            embedding: 16,
            feed_forward: 16,
            heads: 2,
            ..TinyModel::default()
        };
        assert_eq!(written(model), written(model));
        assert_ne!(written(model), written(TinyModel { seed: 2, ..model }));
    }

    #[test]
    fn the_default_is_about_three_megabytes_and_starts_like_a_gguf() {
        let bytes = written(TinyModel::default());
        assert_eq!(&bytes[..8], b"GGUF\x03\0\0\0");
        assert!(
            (2_500_000..4_000_000).contains(&bytes.len()),
            "{} bytes",
            bytes.len()
        );
    }

    #[test]
    fn a_hollow_model_is_the_model_without_its_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        TinyModel::default().write_hollow(&path).unwrap();
        let (hollow, full) = (std::fs::read(path).unwrap(), written(TinyModel::default()));
        assert_eq!(hollow.len(), full.len());
        let head = TinyModel::default().writer().head().len();
        assert_eq!(hollow[..head], full[..head]);
        assert!(hollow[head..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let error = TinyModel {
            heads: 3,
            ..TinyModel::default()
        }
        .write(Path::new("/nowhere"))
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
