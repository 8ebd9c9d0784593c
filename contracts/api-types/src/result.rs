//! What a task gives that writes no tokens: `end.result` (ORCH-3521).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer of an `embedding` or `rerank` task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TaskResult {
    /// One vector per input, in the order of `inputs`.
    Embedding {
        /// Length of every vector.
        dimensions: u32,
        /// The vectors, as the engine normalises them.
        embeddings: Vec<Vec<f32>>,
    },
    /// One score per input, best first.
    Rerank {
        /// Every input once; equal scores in the order of `inputs`.
        scores: Vec<RerankScore>,
    },
}

/// How well one input answers the query.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RerankScore {
    /// Place in `inputs`, from 0.
    pub index: u32,
    /// Higher is better; the scale is the model's.
    pub score: f32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_have_the_documented_form_and_come_back_bit_for_bit() {
        let embedding = TaskResult::Embedding {
            dimensions: 2,
            embeddings: vec![vec![0.083_386_3, -1.0e-7], vec![f32::MIN_POSITIVE, f32::MAX]],
        };
        let rerank = TaskResult::Rerank {
            scores: vec![RerankScore { index: 1, score: 0.5 }],
        };
        assert_eq!(
            serde_json::to_value(&rerank).unwrap(),
            json!({"type": "rerank", "scores": [{"index": 1, "score": 0.5}]})
        );
        let text = serde_json::to_string(&embedding).unwrap();
        assert!(
            text.starts_with(r#"{"type":"embedding","dimensions":2,"embeddings":[[0.0833863,"#),
            "{text}"
        );
        for result in [embedding, rerank] {
            let text = serde_json::to_string(&result).unwrap();
            assert_eq!(serde_json::from_str::<TaskResult>(&text).unwrap(), result);
        }
    }
}
