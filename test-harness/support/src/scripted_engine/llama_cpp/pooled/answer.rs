//! The documents that answer embeddings and rerank, in the forms recorded from the real server. Pure.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Length of every vector.
const DIMENSIONS: usize = 32;

#[derive(Serialize)]
pub(super) struct Embeddings<'a> {
    model: &'a str,
    object: &'static str,
    usage: Usage,
    data: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    embedding: Value,
    index: usize,
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
}

#[derive(Serialize)]
pub(super) struct Native {
    index: usize,
    embedding: [Vec<f64>; 1],
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u32,
    total_tokens: u32,
}

#[derive(Serialize)]
pub(super) struct Rerank<'a> {
    model: &'a str,
    object: &'static str,
    usage: Usage,
    results: Vec<Score>,
}

#[derive(Serialize)]
struct Score {
    index: usize,
    relevance_score: f64,
}

/// `/v1/embeddings`. `served` is the model that computes, `named` what the answer calls it.
pub(super) fn embeddings<'a>(named: &'a str, served: &str, texts: &[&str], tokens: u32) -> Embeddings<'a> {
    let numbers = |text: &str| {
        json!(
            vector(served, text)
                .iter()
                .map(|&n| f64::from(n))
                .collect::<Vec<_>>()
        )
    };
    document(named, texts, tokens, None, numbers)
}

/// The same with `encoding_format: base64`.
pub(super) fn base64<'a>(named: &'a str, served: &str, texts: &[&str], tokens: u32) -> Embeddings<'a> {
    let coded = |text: &str| {
        let bytes: Vec<u8> = vector(served, text)
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        Value::from(encode(&bytes))
    };
    document(named, texts, tokens, Some("base64"), coded)
}

fn document<'a>(
    model: &'a str,
    texts: &[&str],
    tokens: u32,
    encoding_format: Option<&'static str>,
    form: impl Fn(&str) -> Value,
) -> Embeddings<'a> {
    let items = texts.iter().enumerate().map(|(index, text)| Item {
        embedding: form(text),
        index,
        object: "embedding",
        encoding_format,
    });
    Embeddings {
        model,
        object: "list",
        usage: Usage::of(tokens),
        data: items.collect(),
    }
}

/// `/embedding`: a vector of vectors for each text.
pub(super) fn native(served: &str, texts: &[&str]) -> Vec<Native> {
    let item = |(index, text): (usize, &&str)| {
        let numbers = vector(served, text).iter().map(|&n| f64::from(n)).collect();
        Native {
            index,
            embedding: [numbers],
        }
    };
    texts.iter().enumerate().map(item).collect()
}

/// `/v1/rerank`: best first, at most `top`.
pub(super) fn rerank<'a>(
    named: &'a str,
    (served, query): (&str, &str),
    documents: &[&str],
    top: usize,
    tokens: u32,
) -> Rerank<'a> {
    let score = |(index, document): (usize, &&str)| Score {
        index,
        relevance_score: f64::from(relevance(served, query, document)),
    };
    let mut results: Vec<Score> = documents.iter().enumerate().map(score).collect();
    results.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
    results.truncate(top);
    Rerank {
        model: named,
        object: "list",
        usage: Usage::of(tokens),
        results,
    }
}

impl Usage {
    const fn of(tokens: u32) -> Self {
        Self {
            prompt_tokens: tokens,
            total_tokens: tokens,
        }
    }
}

/// Of length one, as the real server normalises.
fn vector(model: &str, text: &str) -> Vec<f32> {
    let hash = Sha256::new()
        .chain_update(model)
        .chain_update([0])
        .chain_update(text)
        .finalize();
    let numbers: Vec<f32> = (0..DIMENSIONS)
        .map(|at| (f32::from(hash[at]) + 0.5) / 128.0 - 1.0)
        .collect();
    let length = numbers.iter().map(|n| n * n).sum::<f32>().sqrt();
    numbers.into_iter().map(|n| n / length).collect()
}

/// Words in common, and a little that only depends on the texts.
fn relevance(model: &str, query: &str, document: &str) -> f32 {
    let words = |text: &str| -> BTreeSet<String> { text.split_whitespace().map(str::to_lowercase).collect() };
    let common = words(query).intersection(&words(document)).count();
    let noise = vector(model, &format!("{query}\n{document}"))[0];
    u8::try_from(common).map_or(255.0, f32::from) + noise / 8.0
}

/// Base64 with padding.
fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let symbol = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place > three.len() {
                '='
            } else {
                char::from(symbol)
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_the_recorded_form() {
        let text = serde_json::to_string(&embeddings("x", "m", &["a", "b"], 12)).unwrap();
        assert!(text.starts_with(
            r#"{"model":"x","object":"list","usage":{"prompt_tokens":12,"total_tokens":12},"data":[{"embedding":["#
        ));
        assert!(text.ends_with(r#"],"index":1,"object":"embedding"}]}"#), "{text}");
        let text = serde_json::to_string(&base64("x", "m", &["a"], 2)).unwrap();
        assert!(
            text.ends_with(r#"","index":0,"object":"embedding","encoding_format":"base64"}]}"#),
            "{text}"
        );
    }

    #[test]
    fn vectors_depend_on_model_and_text_and_have_length_one() {
        assert_eq!(vector("m", "a"), vector("m", "a"));
        assert_ne!(vector("m", "a"), vector("m", "b"));
        assert_ne!(vector("m", "a"), vector("n", "a"));
        let length: f32 = vector("m", "a").iter().map(|n| n * n).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }

    #[test]
    fn a_document_with_the_querys_words_comes_first() {
        let documents = ["bread and butter", "the moon of the river", "the sun"];
        let ranked = rerank("m", ("m", "the moon"), &documents, 3, 9);
        let order: Vec<usize> = ranked.results.iter().map(|score| score.index).collect();
        assert_eq!(order, [1, 2, 0]);
        assert_eq!(rerank("m", ("m", "the moon"), &documents, 1, 9).results.len(), 1);
    }

    #[test]
    fn base64_is_base64() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
        ] {
            assert_eq!(encode(bytes), text);
        }
    }
}
