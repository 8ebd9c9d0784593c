//! Vectors and scores as lines: what a script or a person takes from `embed` and `rerank`.

use std::fmt::Write as _;

use api_types::TaskResult;

use super::text::clean_line;

/// One line per vector, or per score with the input it belongs to, where that is known. Vectors are JSON arrays, one a
/// line, in the order of the inputs; scores come best first: score, place, text, with tabs between.
pub(crate) fn lines(result: &TaskResult, inputs: &[String]) -> String {
    let mut lines = String::new();
    match result {
        TaskResult::Embedding { embeddings, .. } => {
            for vector in embeddings {
                // Numbers always have a JSON form; writing to a string cannot fail.
                let _ = writeln!(lines, "{}", serde_json::to_string(vector).unwrap_or_default());
            }
        }
        TaskResult::Rerank { scores } => {
            for score in scores {
                let input = usize::try_from(score.index)
                    .ok()
                    .and_then(|index| inputs.get(index));
                let text = input.map_or_else(String::new, |text| format!("\t{}", clean_line(text)));
                let _ = writeln!(lines, "{}\t{}{text}", score.score, score.index);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use api_types::RerankScore;

    use super::*;

    #[test]
    fn a_vector_is_a_line_of_json() {
        let result = TaskResult::Embedding {
            dimensions: 2,
            embeddings: vec![vec![0.5, -1.0], vec![0.083_386_3, 2.0]],
        };
        assert_eq!(lines(&result, &[]), "[0.5,-1.0]\n[0.0833863,2.0]\n");
    }

    #[test]
    fn a_score_goes_with_its_place_and_its_text() {
        let scores = [(1, 0.5), (0, -2.0)].map(|(index, score)| RerankScore { index, score });
        let result = TaskResult::Rerank {
            scores: scores.to_vec(),
        };
        let inputs = ["a\nb".to_owned(), "the moon".to_owned()];
        assert_eq!(lines(&result, &[]), "0.5\t1\n-2\t0\n");
        let shown = lines(&result, &inputs);
        assert!(shown.starts_with("0.5\t1\tthe moon\n-2\t0\ta"), "{shown}");
        assert_eq!(
            shown.lines().count(),
            2,
            "an input with a line feed stays one line"
        );
    }
}
