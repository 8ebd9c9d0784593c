//! `plan`: whether a model fits on this machine's GPUs.

use api_types::{EngineKind, KvCacheType};
use clap::Args;

use super::local::LocalArgs;

/// How the model shall be loaded.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// A model of the catalog (its id, or the reference it was fetched by), or the path of a file or folder
    pub model: String,
    /// Context of one slot, tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=16_777_216))]
    pub ctx: u64,
    /// Requests at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: u32,
    /// GPUs to split it over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub gpus: u32,
    /// The engine: llamacpp, vllm, tgi or triton
    #[arg(long, value_name = "ENGINE", default_value_t = EngineKind::Llamacpp)]
    pub engine: EngineKind,
    /// Type of the cached keys: f16, bf16, f32, fp8, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl
    #[arg(long, value_name = "TYPE", default_value_t = KvCacheType::F16)]
    pub cache_k: KvCacheType,
    /// Type of the cached values
    #[arg(long, value_name = "TYPE", default_value_t = KvCacheType::F16)]
    pub cache_v: KvCacheType,
    /// Tokens that are computed at once
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub ubatch: u64,
    /// Compute attention with the whole matrix of scores
    #[arg(long)]
    pub no_flash_attention: bool,
    /// Let all slots share one pool of cells
    #[arg(long)]
    pub kv_unified: bool,
    /// Where the machine's configuration is.
    #[command(flatten)]
    pub local: LocalArgs,
}
