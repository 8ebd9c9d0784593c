//! Writes a tiny model file: `make-gguf OUT.gguf [--seed N] [--ctx N] [--layers N] …`.

use std::path::PathBuf;

use clap::Parser;
use test_harness_support::gguf::TinyModel;

/// Writes a tiny random-weight llama model that the real llama.cpp loads.
#[derive(Parser)]
struct Arguments {
    /// The file to write.
    out: PathBuf,
    /// Other seeds give other weights.
    #[arg(long, default_value_t = TinyModel::default().seed)]
    seed: u64,
    /// Context length, tokens.
    #[arg(long, default_value_t = TinyModel::default().ctx)]
    ctx: u32,
    /// Layers.
    #[arg(long, default_value_t = TinyModel::default().layers)]
    layers: u32,
    /// Width.
    #[arg(long, default_value_t = TinyModel::default().embedding)]
    embedding: u32,
    /// Width of the feed-forward part.
    #[arg(long, default_value_t = TinyModel::default().feed_forward)]
    feed_forward: u32,
    /// Attention heads.
    #[arg(long, default_value_t = TinyModel::default().heads)]
    heads: u32,
    /// Heads of keys and values.
    #[arg(long, default_value_t = TinyModel::default().heads_kv)]
    heads_kv: u32,
}

fn main() -> anyhow::Result<()> {
    let Arguments {
        out,
        seed,
        ctx,
        layers,
        embedding,
        feed_forward,
        heads,
        heads_kv,
    } = Arguments::parse();
    TinyModel {
        seed,
        ctx,
        layers,
        embedding,
        feed_forward,
        heads,
        heads_kv,
    }
    .write(&out)?;
    Ok(())
}
