//! The chat decoder: whole streams, any chunking, kinds of tokens, what ends one (ORCH-3523).

use adapter_api::AdapterErrorKind;
use api_types::TokenKind;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

type Tokens = Vec<(TokenKind, String)>;

/// Everything that comes out of a stream that is fed in `reads` and then ends.
fn run<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> (Tokens, Result<Finish, AdapterError>) {
    let (mut decoder, mut batch) = (ChatDecoder::default(), TokenBatch::new());
    let mut end = None;
    for read in reads {
        if let Read::End(result) = decoder.feed(read, &mut batch) {
            end = Some(result);
            break;
        }
    }
    let end = end.unwrap_or_else(|| Err(decoder.broken_off()));
    let tokens = batch
        .tokens_with_kind()
        .map(|(kind, text)| (kind, text.to_owned()))
        .collect();
    (tokens, end)
}

fn chunk(delta: &Value, finish_reason: &Value) -> String {
    let chunk = json!({"choices": [{"finish_reason": finish_reason, "index": 0, "delta": delta}], "created": 1,
        "id": "chatcmpl-x", "model": "m", "object": "chat.completion.chunk"});
    format!("data: {chunk}\n\n")
}

fn text(kind: TokenKind, text: &str) -> String {
    let field = match kind {
        TokenKind::Text => "content",
        TokenKind::Reasoning => "reasoning_content",
        TokenKind::ToolCall => "tool_calls",
    };
    chunk(&json!({field: text}), &Value::Null)
}

fn finish() -> String {
    chunk(&json!({}), &json!("length"))
}

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":6,\"prompt_tokens\":34,\"total_tokens\":40,\
    \"prompt_tokens_details\":{\"cached_tokens\":3}},\"timings\":{\"cache_n\":3,\"prompt_n\":31,\"prompt_ms\":4.6,\
    \"predicted_n\":6,\"predicted_ms\":9.4}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[derive(Debug, Clone)]
enum Piece {
    Token(TokenKind, String),
    Role,
    Ping,
    Null,
    Error,
    Junk,
    End,
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = prop_oneof![
        8 => "\\PC{0,6}".prop_map(|text| Piece::Token(TokenKind::Text, text)),
        2 => "[\"\\\\\n海]{0,4}".prop_map(|text| Piece::Token(TokenKind::Reasoning, text)),
        1 => Just(Piece::Role),
        1 => Just(Piece::Ping),
        1 => Just(Piece::Null),
        1 => Just(Piece::Error),
        1 => Just(Piece::Junk),
        2 => Just(Piece::End),
    ];
    proptest::collection::vec(piece, 0..20)
}

/// What the server writes, what must come out of it, and the error it ends with, if it does.
fn script(pieces: &[Piece]) -> (String, Tokens, Option<AdapterErrorKind>) {
    let (mut wire, mut tokens, mut end) = (String::new(), Vec::new(), None);
    for piece in pieces {
        let (written, over) = match piece {
            Piece::Token(kind, said) => {
                if end.is_none() && !said.is_empty() {
                    tokens.push((*kind, said.clone()));
                }
                (text(*kind, said), None)
            }
            Piece::Role => (
                chunk(&json!({"role": "assistant", "content": null}), &Value::Null),
                None,
            ),
            Piece::Ping => (":\n\n".to_owned(), None),
            Piece::Null => ("data: null\n\n".to_owned(), None),
            Piece::Error => (
                "data: {\"error\":{\"code\":500,\"message\":\"Compute error.\"}}\n\n".to_owned(),
                Some(Some(AdapterErrorKind::Reset)),
            ),
            Piece::Junk => (
                "data: {\"choices\":\n\n".to_owned(),
                Some(Some(AdapterErrorKind::Protocol)),
            ),
            Piece::End => (finish() + USAGE + DONE, Some(None)),
        };
        wire += &written;
        end = end.or(over);
    }
    (wire, tokens, end.unwrap_or(Some(AdapterErrorKind::Reset)))
}

fn cut<'a>(wire: &'a str, cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
    at.extend([0, wire.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| &wire.as_bytes()[w[0]..w[1]]).collect()
}

proptest! {
    /// Whatever a server sends and however it is cut, tokens come first, once, in order and with their kind, and then
    /// one end.
    #[test]
    fn chunking_makes_no_difference(pieces in pieces(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let (wire, tokens, error) = script(&pieces);
        let (found, end) = run(cut(&wire, &cuts));
        prop_assert_eq!(found, tokens);
        prop_assert_eq!(end.err().map(|e| e.kind), error);
    }

    #[test]
    fn any_bytes_end_in_a_finish_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert_eq!(run([bytes.as_slice()]), run(bytes.chunks(1)));
    }
}

#[test]
fn the_usage_is_what_is_counted_and_the_timings_what_is_measured() {
    let (_, end) = run([(finish() + USAGE + DONE).as_bytes()]);
    let expected = Finish {
        cause: FinishCause::Length,
        tokens_in: 34,
        tokens_out: 6,
        cached_tokens: Some(3),
        prefill_ms: Some(5),
        decode_ms: Some(9),
        result: None,
    };
    assert_eq!(end, Ok(expected));
}

#[test]
fn an_end_without_its_numbers_is_not_understood() {
    for wire in [DONE.to_owned(), finish() + DONE, USAGE.to_owned() + DONE] {
        let (_, end) = run([wire.as_bytes()]);
        assert_eq!(end.unwrap_err().kind, AdapterErrorKind::Protocol, "{wire}");
    }
}

#[test]
fn reasoning_and_tool_calls_are_tokens_of_their_kind() {
    use TokenKind::{Reasoning, Text, ToolCall};
    let calls = json!([{"index": 0, "function": {"name": "f", "arguments": "{\"a\": 1}"}}]);
    let wire = [
        text(Reasoning, "hm"),
        text(Text, "so"),
        chunk(&json!({"tool_calls": calls}), &Value::Null),
        chunk(&json!({"reasoning_content": "a", "content": "b"}), &Value::Null),
        chunk(&json!({"content": "c", "tool_calls": null}), &Value::Null),
        chunk(&json!({}), &json!("tool_calls")),
        USAGE.into(),
        DONE.into(),
    ]
    .concat();
    let (tokens, end) = run([wire.as_bytes()]);
    let kinds: Vec<TokenKind> = tokens.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Reasoning, Text, ToolCall, Reasoning, Text, Text]);
    assert_eq!(serde_json::from_str::<Value>(&tokens[2].1).unwrap(), calls);
    assert_eq!(end.unwrap().cause, FinishCause::Stop);
}

#[test]
fn a_frame_beyond_the_limit_is_refused_with_the_limit() {
    let end = ChatDecoder::default().feed(&vec![b'x'; FRAME_LIMIT + 1], &mut TokenBatch::new());
    let Read::End(Err(error)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(error.kind, AdapterErrorKind::Protocol);
    assert!(error.message.contains("8388608"), "{}", error.message);
}
