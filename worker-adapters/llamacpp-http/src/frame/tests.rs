//! The reader against serde's `Value`, which knows JSON and nothing of our short cuts.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn tokens(batch: &TokenBatch) -> Vec<&str> {
    batch.tokens().collect()
}

/// What a frame must mean, worked out the slow way.
fn expected(frame: &Value) -> (String, Option<u64>) {
    let text = frame["content"].as_str().unwrap_or_default().to_owned();
    (text, frame["tokens_predicted"].as_u64())
}

/// The frame as the server writes it: its order of keys, no spaces, raw UTF-8, short escapes.
fn server_form(content: &str, generated: u32, evaluated: u32, id: Option<u32>) -> String {
    let content = serde_json::to_string(content).unwrap();
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    format!(
        "{{\"index\":0,\"content\":{content},\"tokens\":[{id}],\"stop\":false,\"id_slot\":-1,\
         \"tokens_predicted\":{generated},\"tokens_evaluated\":{evaluated}}}"
    )
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ a-z]{0,8}",
        "\\PC{0,12}",
        any::<String>(),
        "[\"\\\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}海é😀]{0,8}",
    ]
}

/// A token frame with its fields in any order, other fields between, and any of them left out.
fn any_frame() -> impl Strategy<Value = Value> {
    let fields = (
        proptest::option::of(any_text()),
        proptest::option::of(any::<u32>()),
        proptest::option::of(Just(false)),
        proptest::collection::vec(("[a-z_]{1,6}", any_text()), 0..3),
        proptest::option::of(any_text()),
    );
    fields
        .prop_map(|(content, generated, stop, others, nested)| {
            let mut frame: Vec<(String, Value)> = others
                .into_iter()
                .filter(|(key, _)| !matches!(key.as_str(), "stop" | "error"))
                .map(|(key, text)| (key, Value::String(text)))
                .collect();
            frame.extend(content.map(|v| ("content".to_owned(), json!(v))));
            frame.extend(generated.map(|v| ("tokens_predicted".to_owned(), json!(v))));
            frame.extend(stop.map(|v| ("stop".to_owned(), json!(v))));
            frame.extend(nested.map(|v| {
                (
                    "deep".to_owned(),
                    json!({"content": v, "stop": true, "error": [v]}),
                )
            }));
            frame
        })
        .prop_shuffle()
        .prop_map(|fields| Value::Object(Map::from_iter(fields)))
}

proptest! {
    #[test]
    fn token_frames_mean_what_json_says(
        content in any_text(),
        generated in any::<u32>(),
        evaluated in any::<u32>(),
        id in proptest::option::of(any::<u32>()),
    ) {
        let frame = server_form(&content, generated, evaluated, id);
        let mut batch = TokenBatch::new();
        prop_assert_eq!(token::read(frame.as_bytes(), &mut batch), Some(generated), "not read directly: {}", frame);
        let (text, _) = expected(&serde_json::from_str(&frame).unwrap());
        prop_assert_eq!(batch.tokens().collect::<String>(), text);
    }

    #[test]
    fn frames_of_any_form_mean_what_json_says(frame in any_frame(), pretty in any::<bool>()) {
        let written = if pretty { serde_json::to_string_pretty(&frame) } else { serde_json::to_string(&frame) };
        let mut batch = TokenBatch::new();
        let meaning = read(written.unwrap().as_bytes(), &mut batch);
        let (text, generated) = expected(&frame);
        let generated = generated.map(|n| u32::try_from(n).unwrap());
        prop_assert_eq!(meaning, Ok(Frame::Token { generated }));
        prop_assert_eq!(batch.tokens().collect::<String>(), text);
    }

    /// The short cut accepts nothing that serde refuses, and sees nothing else in it.
    #[test]
    fn a_damaged_frame_is_read_as_serde_reads_it(
        content in any_text(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(&b"\"\\,:{}[]0-1 u"[..])],
        how in 0..3,
    ) {
        let mut frame = server_form(&content, 12, 34, Some(5)).into_bytes();
        let at = at.index(frame.len());
        match how {
            0 => frame[at] = byte,
            1 => frame.insert(at, byte),
            _ => { frame.remove(at); }
        }
        let mut batch = TokenBatch::new();
        if let Some(generated) = token::read(&frame, &mut batch) {
            let value: Value = serde_json::from_slice(&frame).unwrap();
            let (text, count) = expected(&value);
            prop_assert_eq!(Some(u64::from(generated)), count);
            prop_assert_eq!(batch.tokens().collect::<String>(), text);
            prop_assert_eq!(value["stop"].as_bool(), Some(false));
            prop_assert!(value.get("error").is_none());
        } else {
            prop_assert!(batch.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_a_frame_or_a_bounded_error(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = read(&data, &mut TokenBatch::new()) {
            prop_assert!(error.message.len() <= 1024);
        }
    }
}

#[test]
fn a_text_that_is_empty_is_no_token() {
    let mut batch = TokenBatch::new();
    let frame = read(server_form("", 3, 10, None).as_bytes(), &mut batch);
    assert_eq!(frame, Ok(Frame::Token { generated: Some(3) }));
    assert!(batch.is_empty());
}

#[test]
fn a_null_frame_says_nothing() {
    assert_eq!(read(b"null", &mut TokenBatch::new()), Ok(Frame::Nothing));
}

#[test]
fn the_final_frame_tells_cause_counts_and_times() {
    let mut frame = json!({"content": "", "stop": true, "stop_type": "eos", "truncated": false, "tokens_predicted": 3,
        "tokens_evaluated": 10, "timings": {"cache_n": 4, "prompt_ms": 1.6, "predicted_ms": 1035.2}});
    let finish = Finish {
        cause: FinishCause::Stop,
        tokens_in: 10,
        tokens_out: 3,
        cached_tokens: Some(4),
        prefill_ms: Some(2),
        decode_ms: Some(1035),
        result: None,
    };
    let last = |frame: &Value| match read(frame.to_string().as_bytes(), &mut TokenBatch::new()) {
        Ok(Frame::Last(finish)) => finish,
        other => panic!("{frame}: {other:?}"),
    };
    assert_eq!(last(&frame), finish);
    for (field, value, cause) in [
        ("stop_type", json!("word"), FinishCause::Stop),
        ("stop_type", json!("limit"), FinishCause::Length),
        ("stop_type", json!("none"), FinishCause::Stop),
        ("truncated", json!(true), FinishCause::Length),
    ] {
        frame[field] = value;
        assert_eq!(last(&frame).cause, cause, "{frame}");
    }
    frame.as_object_mut().unwrap().remove("timings");
    assert_eq!(last(&frame).cached_tokens, None);
}

#[test]
fn a_final_frame_without_counts_is_refused_by_name() {
    let error = read(br#"{"stop":true,"tokens_predicted":3}"#, &mut TokenBatch::new()).unwrap_err();
    assert_eq!(error.kind, AdapterErrorKind::Protocol);
    assert_eq!(error.message, "llama.cpp's final frame has no tokens_evaluated");
}

#[test]
fn an_undecodable_frame_does_not_quote_the_clients_words() {
    let error = read(
        br#"{"content":"my secret","tokens_predicted":"my secret"}"#,
        &mut TokenBatch::new(),
    )
    .unwrap_err();
    assert_eq!(error.kind, AdapterErrorKind::Protocol);
    assert!(!error.message.contains("secret"), "{}", error.message);
}

#[test]
fn an_error_frame_ends_the_stream_whatever_else_it_holds() {
    let mut batch = TokenBatch::new();
    let error = read(
        br#"{"content":"x","error":{"code":500,"message":"Compute error.","type":"server_error"}}"#,
        &mut batch,
    );
    assert_eq!(error.unwrap_err().kind, AdapterErrorKind::Reset);
    assert_eq!(tokens(&batch), [""; 0]);
}
