//! REQ-MODEL-FACTS: a model is what its files say together.

use std::fs;
use std::path::Path;

use api_types::ModelFormat;
use model_files::{Part, ReadError, inspect};

use crate::builder::{Gguf, safetensors};

fn parts(folder: &Path, files: &[(&str, Vec<u8>)]) -> Vec<Part> {
    let write = |(name, content): &(&str, Vec<u8>)| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        Part {
            name: (*name).to_owned(),
            path,
        }
    };
    files.iter().map(write).collect()
}

fn llama(layers: u32) -> Vec<u8> {
    let gguf = Gguf::default()
        .text("general.architecture", "llama")
        .u32("llama.block_count", layers);
    gguf.tensor("output.weight", &[32], 8, 34).file()
}

#[test]
fn a_projector_beside_a_model_is_not_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let projector = Gguf::default()
        .text("general.architecture", "clip")
        .text("general.type", "mmproj")
        .file();
    let files = [
        ("a-mmproj.gguf", projector.clone()),
        ("m-00001-of-00002.gguf", llama(7)),
        ("m-00002-of-00002.gguf", llama(0)),
        ("README.md", b"# text".to_vec()),
    ];
    let said = inspect(&parts(dir.path(), &files)).unwrap();
    assert_eq!(
        (said.first.as_str(), said.facts.layers),
        ("m-00001-of-00002.gguf", Some(7))
    );
    assert_eq!(said.facts.tensor_bytes, 68);
    let alone = inspect(&parts(dir.path(), &[("a-mmproj.gguf", projector)]));
    assert!(matches!(alone, Err(ReadError::NoModel)), "{alone:?}");
}

#[test]
fn a_broken_companion_spoils_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let files = [("m.gguf", llama(7)), ("mmproj.gguf", b"GGUF".to_vec())];
    assert!(inspect(&parts(dir.path(), &files)).is_err());
}

#[test]
fn a_folder_of_safetensors_is_one_model() {
    let dir = tempfile::tempdir().unwrap();
    let shard = |name: &str| {
        let header = format!("{{\"{name}\":{{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}}}}");
        safetensors(&header, 8)
    };
    let tokenizer =
        r#"{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}"#;
    let files = [
        ("model-00001-of-00002.safetensors", shard("a")),
        ("model-00002-of-00002.safetensors", shard("b")),
        (
            "config.json",
            br#"{"model_type":"qwen2","num_hidden_layers":5}"#.to_vec(),
        ),
        ("tokenizer_config.json", tokenizer.as_bytes().to_vec()),
    ];
    let said = inspect(&parts(dir.path(), &files)).unwrap();
    assert_eq!(said.facts.format, ModelFormat::Safetensors);
    assert_eq!((said.facts.parameters, said.facts.layers), (8, Some(5)));
    assert_eq!(
        (said.chat_template.as_deref(), said.facts.chat_template),
        (Some("d"), true)
    );
    assert!(!said.names_code);
    fs::write(dir.path().join("config.json"), "{").unwrap();
    let parts: Vec<Part> = files
        .iter()
        .map(|(name, _)| Part {
            name: (*name).to_owned(),
            path: dir.path().join(name),
        })
        .collect();
    assert!(inspect(&parts).is_err());
}

#[test]
fn text_alone_is_no_model() {
    let dir = tempfile::tempdir().unwrap();
    let files = [("config.json", b"{}".to_vec())];
    assert!(matches!(
        inspect(&parts(dir.path(), &files)),
        Err(ReadError::NoModel)
    ));
}
