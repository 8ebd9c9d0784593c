//! `POST /v1/embeddings` and `POST /v1/rerank`: work whose answer is one document.

use serde::Serialize;

/// All inputs in one request; the server spreads them over its slots itself.
#[derive(Debug, Serialize)]
pub(crate) struct Embeddings<'a> {
    input: &'a [String],
    encoding_format: &'static str,
}

impl<'a> Embeddings<'a> {
    pub(crate) const fn new(input: &'a [String]) -> Self {
        Self {
            input,
            encoding_format: "float",
        }
    }
}

/// Every document is scored: `top_n` would hide the rest.
#[derive(Debug, Serialize)]
pub(crate) struct Rerank<'a> {
    query: &'a str,
    documents: &'a [String],
    top_n: usize,
}

impl<'a> Rerank<'a> {
    pub(crate) const fn new(query: &'a str, documents: &'a [String]) -> Self {
        Self {
            query,
            documents,
            top_n: documents.len(),
        }
    }
}
