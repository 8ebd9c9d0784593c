//! A request as its trace may show it.

use api_types::TaskRequest;
use config_schema::TraceText;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Fields that hold people's texts.
const TEXTS: [&str; 4] = ["prompt", "messages", "inputs", "query"];

/// The request as JSON, its texts by the policy. A list of texts is one thing: the number of its items, the bytes of its
/// compact JSON and their digest.
pub(super) fn redacted(request: &TaskRequest, policy: TraceText) -> Box<RawValue> {
    // A request that was parsed from JSON can be written as JSON.
    let whole = || to_raw_value(request).unwrap_or_default();
    if policy == TraceText::Keep {
        return whole();
    }
    let Ok(Value::Object(mut fields)) = serde_json::to_value(request) else {
        return Box::default();
    };
    redact(&mut fields, &TEXTS, policy);
    if let Some(Value::Object(sampling)) = fields.get_mut("sampling") {
        redact(sampling, &["stop"], policy);
    }
    to_raw_value(&fields).unwrap_or_default()
}

fn redact(fields: &mut Map<String, Value>, names: &[&str], policy: TraceText) {
    for name in names {
        if let Some(value) = fields.get_mut(*name) {
            *value = digest_of(value, policy);
        }
    }
}

fn digest_of(value: &Value, policy: TraceText) -> Value {
    let (items, bytes) = match value {
        Value::String(text) => (None, text.clone().into_bytes()),
        Value::Array(items) => (Some(items.len()), value.to_string().into_bytes()),
        other => (None, other.to_string().into_bytes()),
    };
    let mut shown = json!({"bytes": bytes.len()});
    if let Some(items) = items {
        shown["items"] = items.into();
    }
    if policy == TraceText::Hash {
        shown["sha256"] = hex::encode(Sha256::digest(&bytes)).into();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(request: &Value, policy: TraceText) -> Value {
        let request: TaskRequest = serde_json::from_value(request.clone()).unwrap();
        serde_json::from_str(redacted(&request, policy).get()).unwrap()
    }

    /// REQ-TRACE-REDACTION.
    #[test]
    fn no_text_of_a_person_passes_unless_it_is_kept() {
        let chat = json!({"model_ref": "tiny", "workload": "chat", "seed": 7, "sampling": {"stop": ["canary-stop"]},
            "messages": [{"role": "user", "content": "canary-message"}]});
        let rank = json!({"model_ref": "tiny", "workload": "rerank", "query": "canary-query", "inputs": ["canary-input", "b"]});
        let completion = json!({"model_ref": "tiny", "prompt": "canary-prompt"});
        for request in [&chat, &rank, &completion] {
            let kept = shown(request, TraceText::Keep).to_string();
            assert!(kept.contains("canary"), "{kept}");
            for policy in [TraceText::Hash, TraceText::Drop] {
                let shown = shown(request, policy);
                assert!(!shown.to_string().contains("canary"), "{shown}");
                assert_eq!(shown["model_ref"], "tiny");
            }
        }
        assert_eq!(shown(&chat, TraceText::Hash)["seed"], 7);
    }

    /// REQ-TRACE-REDACTION.
    #[test]
    fn a_hash_can_be_checked_and_a_drop_cannot() {
        let request = json!({"model_ref": "tiny", "prompt": "abc"});
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hashed = json!({"bytes": 3, "sha256": digest});
        assert_eq!(shown(&request, TraceText::Hash)["prompt"], hashed);
        assert_eq!(shown(&request, TraceText::Drop)["prompt"], json!({"bytes": 3}));
        let many = json!({"model_ref": "tiny", "workload": "embedding", "inputs": ["a", "b"]});
        assert_eq!(
            shown(&many, TraceText::Drop)["inputs"],
            json!({"bytes": 9, "items": 2})
        );
    }
}
