//! What a task has said, as its trace may show it.

use api_types::TokenKind;
use config_schema::TraceText;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Gathers the texts of a task. Memory is bounded: a text that no trace could hold is only counted and hashed.
#[derive(Debug)]
pub(super) struct Output {
    policy: TraceText,
    most: usize,
    parts: Vec<Part>,
    held: usize,
    too_long: bool,
    tokens: u64,
    bytes: u64,
    hash: Sha256,
}

/// Consecutive texts of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Part {
    #[serde(skip_serializing_if = "TokenKind::is_text")]
    kind: TokenKind,
    text: String,
}

/// The output in a trace.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    /// Texts that the engine sent.
    tokens: u64,
    /// Of all texts together.
    bytes: u64,
    /// Of all texts together, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// The texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parts: Option<&'a [Part]>,
    /// Whether the texts were left out: too long for an artifact, or they hold the daemon's own token.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) left_out: bool,
}

impl Output {
    /// Holds at most `most` bytes of text.
    pub(super) fn new(policy: TraceText, most: usize) -> Self {
        Self {
            policy,
            most,
            parts: Vec::new(),
            held: 0,
            too_long: false,
            tokens: 0,
            bytes: 0,
            hash: Sha256::new(),
        }
    }

    pub(super) fn say(&mut self, kind: TokenKind, text: &str) {
        self.tokens += 1;
        self.bytes += text.len() as u64;
        if self.policy != TraceText::Drop {
            self.hash.update(text);
        }
        if self.policy != TraceText::Keep || self.too_long {
            return;
        }
        if self.held + text.len() > self.most {
            self.too_long = true;
            self.parts = Vec::new();
            return;
        }
        self.held += text.len();
        match self.parts.last_mut() {
            Some(part) if part.kind == kind => part.text.push_str(text),
            _ => self.parts.push(Part {
                kind,
                text: text.to_owned(),
            }),
        }
    }

    /// Of all texts; `None` where the policy drops them.
    pub(super) fn sha256(&self) -> Option<String> {
        let told = self.policy != TraceText::Drop;
        told.then(|| hex::encode(self.hash.clone().finalize()))
    }

    pub(super) fn document(&self) -> Shown<'_> {
        let kept = self.policy == TraceText::Keep && !self.too_long;
        Shown {
            tokens: self.tokens,
            bytes: self.bytes,
            sha256: self.sha256(),
            parts: kept.then_some(self.parts.as_slice()),
            left_out: self.too_long,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shown(policy: TraceText, most: usize) -> Value {
        let mut output = Output::new(policy, most);
        output.say(TokenKind::Reasoning, "hm");
        output.say(TokenKind::Text, "a");
        output.say(TokenKind::Text, "bc");
        serde_json::to_value(output.document()).unwrap()
    }

    /// REQ-TRACE-REDACTION.
    #[test]
    fn texts_are_kept_hashed_or_dropped() {
        let sha256 = hex::encode(Sha256::digest("hmabc"));
        let counted = json!({"tokens": 3, "bytes": 5});
        assert_eq!(shown(TraceText::Drop, 100), counted);
        let hashed = json!({"tokens": 3, "bytes": 5, "sha256": sha256});
        assert_eq!(shown(TraceText::Hash, 100), hashed);
        let kept = shown(TraceText::Keep, 100);
        let parts = json!([{"kind": "reasoning", "text": "hm"}, {"text": "abc"}]);
        assert_eq!((&kept["parts"], &kept["sha256"]), (&parts, &json!(sha256)));
    }

    #[test]
    fn a_text_beyond_the_bound_is_only_hashed() {
        let sha256 = hex::encode(Sha256::digest("hmabc"));
        let counted = json!({"tokens": 3, "bytes": 5, "sha256": sha256, "left_out": true});
        assert_eq!(shown(TraceText::Keep, 4), counted);
    }
}
