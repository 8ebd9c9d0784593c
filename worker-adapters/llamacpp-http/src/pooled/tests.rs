//! Answers as one document: what is one, what is not.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read_json(asked: Asked, body: &serde_json::Value) -> Result<Finish, AdapterError> {
    read(asked, body.to_string().as_bytes())
}

fn vectors(data: serde_json::Value) -> serde_json::Value {
    json!({"model": "m", "object": "list", "usage": {"prompt_tokens": 12, "total_tokens": 12}, "data": data})
}

#[test]
fn vectors_come_in_the_order_of_the_inputs() {
    let reply = vectors(json!([
        {"embedding": [0.5, -1.0], "index": 1, "object": "embedding"},
        {"embedding": [0.083_386_301_994_323_73, 2.0], "index": 0, "object": "embedding"},
    ]));
    let finish = read_json(Asked::Embeddings(2), &reply).unwrap();
    assert_eq!(
        (finish.tokens_in, finish.tokens_out, finish.cause),
        (12, 0, FinishCause::Stop)
    );
    let expected = TaskResult::Embedding {
        dimensions: 2,
        embeddings: vec![vec![0.083_386_3, 2.0], vec![0.5, -1.0]],
    };
    assert_eq!(finish.result.as_deref(), Some(&expected));
}

#[test]
fn scores_come_best_first_and_ties_in_order() {
    let reply = json!({"usage": {"prompt_tokens": 40}, "results": [
        {"index": 2, "relevance_score": -3.5}, {"index": 1, "relevance_score": 0.25},
        {"index": 0, "relevance_score": 0.25},
    ]});
    let finish = read_json(Asked::Scores(3), &reply).unwrap();
    let expected = [(0, 0.25), (1, 0.25), (2, -3.5)].map(|(index, score)| RerankScore { index, score });
    assert_eq!(
        finish.result.as_deref(),
        Some(&TaskResult::Rerank {
            scores: expected.to_vec()
        })
    );
    assert_eq!(finish.tokens_in, 40);
}

#[test]
fn an_answer_to_another_question_is_none() {
    let item = |index: u32, embedding: &[f64]| json!({"index": index, "embedding": embedding});
    for (data, says) in [
        (json!([]), "0 vectors for 2 texts"),
        (json!([item(0, &[1.0])]), "1 vectors for 2 texts"),
        (json!([item(0, &[1.0]), item(0, &[1.0])]), "not one for each"),
        (json!([item(0, &[1.0]), item(2, &[1.0])]), "not one for each"),
        (json!([item(0, &[1.0]), item(1, &[1.0, 2.0])]), "differ in length"),
        (json!([item(0, &[]), item(1, &[])]), "differ in length"),
        (
            json!([item(0, &[1.0]), item(1, &[1e39])]),
            "beyond single precision",
        ),
    ] {
        let error = read_json(Asked::Embeddings(2), &vectors(data.clone())).unwrap_err();
        assert!(error.message.contains(says), "{data}: {error}");
    }
    let error = read_json(
        Asked::Scores(1),
        &json!({"usage": {"prompt_tokens": 1}, "results": []}),
    )
    .unwrap_err();
    assert!(error.message.contains("0 scores for 1 texts"), "{error}");
    let error = read_json(Asked::Scores(1), &vectors(json!([]))).unwrap_err();
    assert!(error.message.contains("not understood"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_a_result_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0..4_usize) {
        for asked in [Asked::Embeddings(count), Asked::Scores(count)] {
            if let Ok(finish) = read(asked, &bytes) {
                prop_assert!(finish.result.is_some());
            }
        }
    }

    /// Single precision survives the way through the server's decimal form.
    #[test]
    fn numbers_come_back_bit_for_bit(numbers in proptest::collection::vec(proptest::num::f32::NORMAL, 1..40)) {
        let wide: Vec<f64> = numbers.iter().copied().map(f64::from).collect();
        let reply = vectors(json!([{"index": 0, "embedding": wide}]));
        let finish = read_json(Asked::Embeddings(1), &reply).unwrap();
        let Some(TaskResult::Embedding { embeddings, .. }) = finish.result.as_deref() else {
            return Err(TestCaseError::fail("no embedding"));
        };
        prop_assert_eq!(&embeddings[0], &numbers);
    }
}
