//! Work whose answer is one document instead of a stream: embeddings and scores. The wire forms, and what they must
//! hold. Pure: bytes in, result out.

use adapter_api::{AdapterError, Finish, FinishCause};
use api_types::{RerankScore, TaskResult};
use serde::Deserialize;

use crate::frame::protocol;

/// What was asked for, so that the answer can be held against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Vectors for so many inputs.
    Embeddings(usize),
    /// Scores for so many documents.
    Scores(usize),
}

/// Reads a whole answer.
///
/// # Errors
/// `Protocol` for what is no such answer, or not one to this question.
pub(crate) fn read(asked: Asked, body: &[u8]) -> Result<Finish, AdapterError> {
    let (usage, result) = match asked {
        Asked::Embeddings(inputs) => embeddings(parse(body)?, inputs)?,
        Asked::Scores(documents) => scores(parse(body)?, documents)?,
    };
    Ok(Finish {
        cause: FinishCause::Stop,
        tokens_in: usage.prompt_tokens,
        tokens_out: 0,
        cached_tokens: None,
        prefill_ms: None,
        decode_ms: None,
        result: Some(result.into()),
    })
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, AdapterError> {
    serde_json::from_slice(body).map_err(|error| {
        // The category and place only: the parser's own text may quote the body.
        protocol(format!(
            "llama.cpp's answer of {} bytes is not understood: {:?} error at byte {}",
            body.len(),
            error.classify(),
            error.column()
        ))
    })
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u32,
}

#[derive(Deserialize)]
struct EmbeddingsReply {
    usage: Usage,
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    /// Single precision, written as the double that equals it.
    embedding: Vec<f64>,
}

fn embeddings(reply: EmbeddingsReply, inputs: usize) -> Result<(Usage, TaskResult), AdapterError> {
    let vectors = reply
        .data
        .into_iter()
        .map(|item| (item.index, narrowed(&item.embedding)));
    let vectors = in_order(vectors, inputs, "vectors")?;
    let dimensions = vectors.first().map_or(0, Vec::len);
    if dimensions == 0 || vectors.iter().any(|vector| vector.len() != dimensions) {
        return Err(protocol(
            "llama.cpp's vectors differ in length, or are empty".into(),
        ));
    }
    if !vectors.iter().flatten().all(|number| number.is_finite()) {
        return Err(beyond_range());
    }
    let result = TaskResult::Embedding {
        dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
        embeddings: vectors,
    };
    Ok((reply.usage, result))
}

#[derive(Deserialize)]
struct RerankReply {
    usage: Usage,
    results: Vec<Score>,
}

#[derive(Deserialize)]
struct Score {
    index: usize,
    relevance_score: f64,
}

fn scores(reply: RerankReply, documents: usize) -> Result<(Usage, TaskResult), AdapterError> {
    let scores = reply
        .results
        .into_iter()
        .map(|item| (item.index, narrow(item.relevance_score)));
    let scores = in_order(scores, documents, "scores")?;
    if !scores.iter().all(|score| score.is_finite()) {
        return Err(beyond_range());
    }
    let indexed = scores.into_iter().zip(0..);
    let mut scores: Vec<_> = indexed
        .map(|(score, index)| RerankScore { index, score })
        .collect();
    // Stable: equal scores stay in the order of the documents.
    scores.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok((reply.usage, TaskResult::Rerank { scores }))
}

fn narrowed(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().copied().map(narrow).collect()
}

/// What lies beyond single precision becomes infinite, and is refused as such.
fn narrow(number: f64) -> f32 {
    number as f32
}

/// One item for every question, in the order of the questions.
fn in_order<T>(
    items: impl Iterator<Item = (usize, T)>,
    wanted: usize,
    what: &str,
) -> Result<Vec<T>, AdapterError> {
    let mut items: Vec<(usize, T)> = items.collect();
    items.sort_by_key(|(index, _)| *index);
    let complete = items.len() == wanted && items.iter().enumerate().all(|(at, (index, _))| at == *index);
    if !complete {
        let message = format!(
            "llama.cpp gives {} {what} for {wanted} texts, not one for each",
            items.len()
        );
        return Err(protocol(message));
    }
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

fn beyond_range() -> AdapterError {
    protocol("llama.cpp's answer holds a number beyond single precision".into())
}

#[cfg(test)]
mod tests;
