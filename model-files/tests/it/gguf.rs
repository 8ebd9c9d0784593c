//! REQ-MODEL-FACTS: what a GGUF header says comes out in the catalog's words.

use api_types::{ModelFacts, ModelFormat};
use model_files::gguf::{facts, offloaded_bytes};
use test_harness_support::gguf::TinyModel;

use crate::builder::Gguf;

fn said(gguf: &Gguf) -> ModelFacts {
    facts(&[gguf.read().unwrap()]).unwrap()
}

/// Llama 3 8B as its makers describe it, with one layer's tensors.
fn llama() -> Gguf {
    Gguf::default()
        .text("general.architecture", "llama")
        .text("general.name", "Llama 3 8B")
        .u32("general.file_type", 15)
        .u32("llama.block_count", 32)
        .u32("llama.context_length", 8192)
        .u32("llama.embedding_length", 4096)
        .u32("llama.feed_forward_length", 14336)
        .u32("llama.attention.head_count", 32)
        .u32("llama.attention.head_count_kv", 8)
        .text("tokenizer.chat_template", "{{ messages }}")
        .array("tokenizer.ggml.tokens", 8, &vec![crate::builder::text("t"); 300])
        .tensor("token_embd.weight", &[256, 10], 12, 1440)
        .tensor("blk.0.attn_q.weight", &[256, 4], 14, 840)
        .tensor("output.weight", &[256, 10], 8, 2720)
}

#[test]
fn an_ordinary_model() {
    let said = said(&llama());
    assert_eq!(
        said,
        ModelFacts {
            format: ModelFormat::Gguf,
            architecture: Some("llama".to_owned()),
            name: Some("Llama 3 8B".to_owned()),
            quantization: Some("Q4_K_M".to_owned()),
            parameters: 256 * 24,
            tensor_bytes: 1440 + 840 + 2720,
            offloaded_bytes: 840 + 2720,
            context_length: Some(8192),
            layers: Some(32),
            embedding_length: Some(4096),
            feed_forward_length: Some(14336),
            heads: Some(32),
            kv_heads: vec![8],
            key_length: Some(128),
            value_length: Some(128),
            latent_length: None,
            sliding_window: None,
            sliding_layers: None,
            recurrent_bytes: 0,
            vocabulary: Some(300),
            experts: None,
            chat_template: true,
        }
    );
}

#[test]
fn heads_may_differ_by_layer_and_windows_too() {
    let gguf = Gguf::default()
        .text("general.architecture", "gemma3")
        .u32("gemma3.block_count", 3)
        .u32("gemma3.embedding_length", 1024)
        .u32s("gemma3.attention.head_count", &[8, 8, 16])
        .u32s("gemma3.attention.head_count_kv", &[4, 0, 2])
        .u32("gemma3.attention.key_length", 256)
        .u32("gemma3.attention.sliding_window", 512)
        .array(
            "gemma3.attention.sliding_window_pattern",
            7,
            &[vec![1], vec![1], vec![0]],
        );
    let said = said(&gguf);
    assert_eq!((said.heads, said.kv_heads), (Some(16), vec![4, 0, 2]));
    assert_eq!((said.key_length, said.value_length), (Some(256), Some(64)));
    assert_eq!((said.sliding_window, said.sliding_layers), (Some(512), Some(2)));
}

#[test]
fn compressed_caches_and_states_are_told() {
    let mla = Gguf::default()
        .text("general.architecture", "deepseek2")
        .u32("deepseek2.attention.kv_lora_rank", 512)
        .u32("deepseek2.rope.dimension_count", 64)
        .u32("deepseek2.expert_count", 160);
    assert_eq!(
        (said(&mla).latent_length, said(&mla).experts),
        (Some(576), Some(160))
    );
    let mamba = Gguf::default()
        .text("general.architecture", "mamba")
        .u32("mamba.block_count", 2)
        .u32("mamba.attention.head_count", 0)
        .u32("mamba.ssm.conv_kernel", 4)
        .u32("mamba.ssm.inner_size", 100)
        .u32("mamba.ssm.state_size", 16);
    assert_eq!(said(&mamba).recurrent_bytes, 2 * 4 * (3 * 100 + 16 * 100));
}

#[test]
fn a_model_without_a_named_type_is_what_most_of_it_is() {
    let gguf = Gguf::default()
        .text("general.architecture", "llama")
        .tensor("a", &[32, 4], 8, 136)
        .tensor("b", &[8], 0, 32);
    assert_eq!(said(&gguf).quantization.as_deref(), Some("Q8_0"));
}

#[test]
fn the_weights_of_a_model_are_nearly_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    let model = TinyModel::default();
    model.write(&path).unwrap();
    let (file, weights) = (path.metadata().unwrap().len(), offloaded_bytes(&path).unwrap());
    assert!(weights < file && weights > file / 2, "{weights} of {file}");
}

#[test]
fn parts_count_together_and_none_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let name = |number| dir.path().join(format!("m-{number:05}-of-00002.gguf"));
    let first = Gguf::default()
        .text("general.architecture", "llama")
        .tensor("token_embd.weight", &[32], 8, 34)
        .tensor("blk.0.ffn_up.weight", &[64], 8, 68);
    // The output layer that makes the embedding stay in system memory is in the other part.
    let second = Gguf::default().tensor("output.weight", &[32], 8, 34);
    std::fs::write(name(1), first.file()).unwrap();
    assert!(offloaded_bytes(&name(1)).is_err());
    std::fs::write(name(2), second.file()).unwrap();
    assert_eq!(offloaded_bytes(&name(1)).unwrap(), 68 + 34);
}

#[test]
fn what_is_no_model_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, b"GGUF and nothing else").unwrap();
    assert!(offloaded_bytes(&path).is_err());
    assert!(offloaded_bytes(&dir.path().join("nothing")).is_err());
}
