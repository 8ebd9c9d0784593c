//! Spells the formats of unsigned integers as the OpenAPI format registry does (`uint32`): the documents' library writes
//! `u-int32`, which no tool knows.

use serde_json::Value;
use utoipa::openapi::OpenApi;

/// The document with the registry's names.
pub(super) fn respell(document: OpenApi) -> OpenApi {
    // A document is JSON, and reads back as itself; a test compares the outcome with the checked-in one.
    let Ok(mut value) = serde_json::to_value(&document) else {
        return document;
    };
    respell_in(&mut value);
    serde_json::from_value(value).unwrap_or(document)
}

fn respell_in(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str().and_then(|text| text.strip_prefix("u-int")) {
                    Some(bits) if name == "format" => *field = Value::String(format!("uint{bits}")),
                    _ => respell_in(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(respell_in),
        _ => {}
    }
}
