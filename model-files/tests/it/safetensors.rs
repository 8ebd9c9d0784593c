//! REQ-MODEL-FACTS, REQ-MODEL-HOSTILE: safetensors headers and the configuration beside them.

use model_files::safetensors::{Config, facts};

use crate::builder::{read_safetensors, safetensors};

#[test]
fn a_header_fills_its_file() {
    let header = r#"{"__metadata__":{"format":"pt"},
        "a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},
        "b":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[12,16]},
        "s":{"dtype":"F32","shape":[],"data_offsets":[16,20]}}"#;
    let read = read_safetensors(&safetensors(header, 20)).unwrap();
    let said = facts(&[read], &Config::default());
    assert_eq!((said.parameters, said.tensor_bytes), (11, 20));
    assert_eq!(said.quantization.as_deref(), Some("BF16"));
}

#[test]
fn the_configuration_says_what_the_tensors_are() {
    let config = Config::of_text(
        r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":4096,"intermediate_size":14336,
        "num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"max_position_embeddings":131072,
        "vocab_size":128256,"torch_dtype":"bfloat16","rope_theta":500000.0,
        "quantization_config":{"quant_method":"awq","bits":4}}"#,
    )
    .unwrap();
    let said = facts(&[], &config);
    assert_eq!(said.architecture.as_deref(), Some("llama"));
    assert_eq!(
        (said.layers, said.heads, said.kv_heads),
        (Some(32), Some(32), vec![8])
    );
    assert_eq!((said.key_length, said.context_length), (Some(128), Some(131_072)));
    assert_eq!(said.quantization.as_deref(), Some("AWQ 4 bits"));
    assert!(!config.names_code());
}

#[test]
fn nested_windowed_and_compressed_configurations() {
    let config = Config::of_text(
        r#"{"model_type":"gemma3","text_config":{"model_type":"gemma3_text","num_hidden_layers":3,"head_dim":256,
        "num_attention_heads":8,"num_key_value_heads":4,"sliding_window":1024,
        "layer_types":["sliding_attention","sliding_attention","full_attention"]}}"#,
    )
    .unwrap();
    let said = facts(&[], &config);
    assert_eq!((said.key_length, said.kv_heads), (Some(256), vec![4]));
    assert_eq!((said.sliding_window, said.sliding_layers), (Some(1024), Some(2)));
    let unused = Config::of_text(r#"{"sliding_window":4096,"use_sliding_window":false}"#).unwrap();
    assert_eq!(facts(&[], &unused).sliding_window, None);
    let mla =
        Config::of_text(r#"{"kv_lora_rank":512,"qk_rope_head_dim":64,"n_routed_experts":256}"#).unwrap();
    assert_eq!(
        (facts(&[], &mla).latent_length, facts(&[], &mla).experts),
        (Some(576), Some(256))
    );
}

/// REQ-MODEL-CODE.
#[test]
fn programs_of_the_model_are_told() {
    let config = Config::of_text(r#"{"auto_map":{"AutoModel":"modeling_x.Model"}}"#).unwrap();
    assert!(config.names_code());
    assert!(!Config::of_text(r#"{"auto_map":{}}"#).unwrap().names_code());
}

#[test]
fn a_header_that_contradicts_itself_is_refused() {
    let one = |tensor: &str| format!("{{\"a\":{tensor}}}");
    let cases = [
        (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#), 7, "ends at byte"),
        (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#), 9, "longer than its tensors"),
        (one(r#"{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#), 8, "its type and shape"),
        (one(r#"{"dtype":"F31","shape":[2],"data_offsets":[0,8]}"#), 8, "type is unknown"),
        (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[8,16]}"#), 16, "without gaps"),
        (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,-8]}"#), 8, "header is none"),
        (one(r#"{"dtype":"F4","shape":[1],"data_offsets":[0,1]}"#), 1, "its type and shape"),
        (
            one(r#"{"dtype":"U8","shape":[4294967296,4294967296,2],"data_offsets":[0,0]}"#),
            0,
            "beyond any size",
        ),
        (one(r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1],"code":"x"}"#), 1, "header is none"),
        (
            r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#
                .to_owned(),
            2,
            "there twice",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#
                .to_owned(),
            3,
            "without gaps",
        ),
        ("[]".to_owned(), 0, "does not begin"),
        ("{".to_owned(), 0, "header is none"),
    ];
    for (header, data, message) in cases {
        let refused = read_safetensors(&safetensors(&header, data))
            .unwrap_err()
            .to_string();
        assert!(refused.contains(message), "{header}: {refused}");
    }
    let claims = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
    assert!(
        read_safetensors(&claims)
            .unwrap_err()
            .to_string()
            .contains("at most")
    );
    let cut = [100_u64.to_le_bytes().as_slice(), b"{}"].concat();
    assert!(
        read_safetensors(&cut)
            .unwrap_err()
            .to_string()
            .contains("ends inside")
    );
}
