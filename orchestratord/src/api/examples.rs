//! One example for every operation, from `contracts/openapi/examples.json`: its parameters, its request and its usual
//! answer. The examples are data beside the documents that show them; `tests/provider_verify` holds each against its
//! schema, and the file against the operations.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::path::{Operation, ParameterBuilder};
use utoipa::openapi::{Content, OpenApi, RefOr};

use super::common_answers::operations;

const EXAMPLES: &str = include_str!("../../../contracts/openapi/examples.json");

/// What is shown of one operation.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// By name.
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
    /// The body of the request.
    request: Option<Value>,
    /// The body of the first answer with a body, by its status.
    response: Option<Value>,
    /// The same as plain text, where the answer is either.
    text: Option<Value>,
}

/// Adds the examples to the operations of a document. One that has none stays as it is.
pub(super) fn add(document: &mut OpenApi) {
    // The file is compiled in, and a test reads it: it is always well-formed.
    let examples: BTreeMap<String, Example> = serde_json::from_str(EXAMPLES).unwrap_or_default();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            if let Some(example) = examples.get(&format!("{method} {path}")) {
                show(operation, example);
            }
        }
    }
}

fn show(operation: &mut Operation, example: &Example) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(known) = parameter
            && let Some(value) = example.parameters.get(&known.name)
        {
            let shown = ParameterBuilder::from(known.clone()).example(Some(value.clone()));
            *parameter = RefOr::T(shown.build());
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        show_in(body.content.values_mut(), example.request.as_ref());
    }
    let answers = operation.responses.responses.iter_mut();
    let good = answers.filter(|(status, _)| status.starts_with('2'));
    for (_, answer) in good {
        if let RefOr::T(answer) = answer {
            for (media_type, content) in &mut answer.content {
                let text = example.text.as_ref().filter(|_| media_type == "text/plain");
                show_in(std::iter::once(content), text.or(example.response.as_ref()));
            }
        }
    }
}

fn show_in<'a>(contents: impl Iterator<Item = &'a mut RefOr<Content>>, example: Option<&Value>) {
    for content in contents {
        if let RefOr::T(content) = content {
            content.example = example.cloned();
        }
    }
}
