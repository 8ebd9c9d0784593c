//! REQ-MODEL-HOSTILE: anybody's bytes are read or refused, in bounded memory, and nothing beyond the file is believed.

use model_files::ReadError;
use proptest::prelude::*;

use crate::builder::{Gguf, read, read_safetensors, safetensors, text};

#[test]
fn claims_are_refused_by_name() {
    let huge = |tensors: u64, pairs: u64| {
        [
            b"GGUF".as_slice(),
            &3_u32.to_le_bytes(),
            &tensors.to_le_bytes(),
            &pairs.to_le_bytes(),
        ]
        .concat()
    };
    let with = |gguf: Gguf| gguf.file();
    let alignment = |value| with(Gguf::default().u32("general.alignment", value));
    let long = "n".repeat(300);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"GGML".to_vec(), "begins with"),
        (b"GGUF\0\0\0\x03".to_vec(), "big-endian"),
        (b"GGUF\x01\0\0\0".to_vec(), "version 1"),
        (b"GGUF\x03\0\0\0".to_vec(), "ends inside"),
        (huge(1 << 40, 0), "tensors: 1099511627776, at most"),
        (huge(0, u64::MAX), "key-value pairs"),
        (huge(1, 0), "ends inside"),
        (alignment(0), "power of two"),
        (alignment(24), "power of two"),
        (alignment(1 << 30), "power of two"),
        (with(Gguf::default().text(&long, "v")), "bytes of a key: 300"),
        (with(Gguf::default().u32("k", 1).u32("k", 2)), "twice"),
        (with(Gguf::default().raw("k", 13, &[])), "type is unknown"),
        (with(Gguf::default().raw("k", 7, &[2])), "truth value"),
        (
            with(Gguf::default().raw("k", 8, &u64::MAX.to_le_bytes())),
            "bytes of a text",
        ),
        (
            with(Gguf::default().raw("k", 8, &[3, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0xfd])),
            "UTF-8",
        ),
        // An array of arrays, which nobody writes and which could nest for ever.
        (
            with(Gguf::default().raw("k", 9, &[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])),
            "numbers or texts",
        ),
        (
            with(Gguf::default().raw(
                "k",
                9,
                &[&[4, 0, 0, 0], u64::MAX.to_le_bytes().as_slice()].concat(),
            )),
            "elements of an array",
        ),
        (with(Gguf::default().tensor("t", &[1; 5], 0, 4)), "dimensions"),
        (with(Gguf::default().tensor("t", &[0], 0, 4)), "zero"),
        (
            with(Gguf::default().tensor("t", &[u64::MAX, 2], 0, 4)),
            "beyond any size",
        ),
        (
            with(Gguf::default().tensor("t", &[1 << 62], 0, 4)),
            "beyond any file",
        ),
        (with(Gguf::default().tensor("t", &[33], 8, 34)), "whole blocks"),
        // Tensors that end, begin, or wrap beyond the file: what has been read past the end of memory before.
        (
            with(Gguf::default().tensor("t", &[1 << 20], 0, 4)),
            "ends at byte",
        ),
        (
            with(Gguf::default().tensor_at("t", &[1], 0, 1 << 40)),
            "ends at byte",
        ),
        (
            with(Gguf::default().tensor_at("t", &[8], 0, u64::MAX - 7)),
            "ends at byte",
        ),
        (
            with(Gguf::default().tensor(&long, &[1], 0, 4)),
            "tensor's name: 300",
        ),
    ];
    for (file, message) in cases {
        let refused = read(&file).unwrap_err().to_string();
        assert!(refused.contains(message), "{message:?} is not in {refused:?}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_or_whole() {
    let whole = Gguf::default()
        .text("general.architecture", "llama")
        .u32s("llama.attention.head_count_kv", &[1, 2])
        .array("tokenizer.ggml.tokens", 8, &[text("a"), text("b")])
        .tensor("blk.0.ffn_up.weight", &[64], 0, 256)
        .file();
    assert!(read(&whole).is_ok());
    for length in 0..whole.len() {
        let refused = read(&whole[..length]).unwrap_err();
        assert!(
            matches!(refused, ReadError::Cut { .. } | ReadError::Beyond { .. }),
            "cut at {length}: {refused}"
        );
    }
}

/// A good header with some bytes changed reaches deeper than noise does.
fn damaged(whole: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((0..whole.len(), any::<u8>()), 1..6);
    changes.prop_map(move |changes| {
        let mut file = whole.clone();
        for (at, byte) in changes {
            file[at] = byte;
        }
        file
    })
}

fn sample() -> Vec<u8> {
    Gguf::default()
        .text("general.architecture", "llama")
        .u32("general.alignment", 32)
        .u32("llama.block_count", 2)
        .u32s("llama.attention.head_count_kv", &[1, 2])
        .array("tokenizer.ggml.tokens", 8, &[text("a"), text("b")])
        .raw("llama.rope.freq_base", 6, &1.0_f32.to_le_bytes())
        .tensor("token_embd.weight", &[32, 2], 8, 68)
        .tensor("output.weight", &[32], 99, 32)
        .file()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// A header of anybody's making is read or refused, in memory bounded by its own size.
    #[test]
    fn no_header_does_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let start = [b"GGUF".as_slice(), &[3, 0, 0, 0], &[2, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
        bytes.splice(0..0, start);
        let _read_or_refused = read(&bytes);
    }

    #[test]
    fn what_is_believed_lies_inside_the_file(file in damaged(sample())) {
        if let Ok((header, sizes)) = read(&file) {
            for (tensor, size) in header.tensors.iter().zip(&sizes) {
                let end = header.data + tensor.offset + size;
                prop_assert!(end <= file.len() as u64, "{tensor:?} ends at {end}");
            }
            let _said = model_files::gguf::facts(&[(header, sizes)]);
        }
    }

    #[test]
    fn no_safetensors_header_does_harm(
        file in damaged(safetensors(
            r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"U8","shape":[4],"data_offsets":[16,20]}}"#,
            20,
        ))
    ) {
        if let Ok(header) = read_safetensors(&file) {
            let bytes: u64 = header.tensors.values().map(|tensor| tensor.bytes()).sum();
            prop_assert!(bytes <= file.len() as u64);
        }
    }
}
