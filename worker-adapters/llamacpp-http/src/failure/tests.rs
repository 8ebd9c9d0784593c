//! The table of failures: which condition is which kind.

use super::*;

fn status(status: u16, body: &str) -> AdapterError {
    refusal(status, body, None)
}

fn frame(error: &str) -> AdapterError {
    in_stream(serde_json::from_str(error).unwrap())
}

/// ORCH-3275.
#[test]
fn every_row_of_the_status_table() {
    let rows = [
        (400, "Field 'n_predict': Value must be between", Kind::Rejected),
        (413, "", Kind::Rejected),
        (415, "", Kind::Rejected),
        (422, "", Kind::Rejected),
        (401, "Invalid API Key", Kind::Unavailable),
        (403, "", Kind::Unavailable),
        (404, "File Not Found", Kind::Unavailable),
        (405, "", Kind::Unavailable),
        (429, "", Kind::Exhausted),
        (
            500,
            "[json.exception.parse_error.101] parse error",
            Kind::Rejected,
        ),
        (500, "Failed to parse messages: Missing 'role'", Kind::Rejected),
        (
            500,
            "input (900 tokens) is too large to process. increase the physical batch size",
            Kind::Rejected,
        ),
        (500, "Context size has been exceeded.", Kind::Reset),
        (500, "Compute error.", Kind::Reset),
        (500, "Invalid input batch.", Kind::Reset),
        (500, "something new", Kind::Protocol),
        (501, "This server does not support embeddings", Kind::Protocol),
        (503, "Loading model", Kind::NotReady),
        (503, "no slot available", Kind::Exhausted),
        (503, "something new", Kind::Unavailable),
        (302, "", Kind::Protocol),
    ];
    for (code, message, kind) in rows {
        let body = serde_json::json!({"error": {"code": code, "message": message, "type": "x"}}).to_string();
        assert_eq!(status(code, &body).kind, kind, "{code} {message}");
    }
}

#[test]
fn in_a_stream_only_the_requests_own_faults_are_rejections() {
    for (error, kind) in [
        (
            r#"{"code":500,"message":"Context size has been exceeded.","type":"server_error"}"#,
            Kind::Reset,
        ),
        (
            r#"{"code":500,"message":"something new","type":"server_error"}"#,
            Kind::Reset,
        ),
        (r#"{"code":503,"message":"Loading model"}"#, Kind::Reset),
        (r#"{"code":400,"message":"bad"}"#, Kind::Rejected),
        (r#"{"code":"400","message":"the code is no number"}"#, Kind::Reset),
        (r#""only a text""#, Kind::Reset),
        ("{}", Kind::Reset),
        ("7", Kind::Reset),
    ] {
        assert_eq!(frame(error).kind, kind, "{error}");
    }
}

#[test]
fn a_context_overflow_carries_both_numbers() {
    let error = status(
        400,
        r#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_prompt_tokens":2402,"n_ctx":512}}"#,
    );
    assert_eq!(
        error.message,
        "the prompt has 2402 tokens, a slot's context of the engine holds 512"
    );
}

#[test]
fn a_refused_key_is_called_configuration() {
    let error = status(
        401,
        r#"{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}"#,
    );
    assert!(error.message.contains("configuration"), "{}", error.message);
}

#[test]
fn messages_are_redacted_and_bounded() {
    let long = format!("Bearer {} {}", "s3cr3t".repeat(9), "é".repeat(4000));
    let body = serde_json::json!({"error": {"message": long}}).to_string();
    for error in [
        status(400, &body),
        status(400, &long),
        frame(&serde_json::json!(long).to_string()),
    ] {
        assert!(!error.message.contains("s3cr3t"), "{}", error.message);
        assert!(error.message.len() < 700, "{}", error.message.len());
    }
}

#[test]
fn a_body_that_is_no_json_is_quoted() {
    assert_eq!(
        status(502, " <html>Bad Gateway</html>\n").message,
        "llama.cpp answers 502: <html>Bad Gateway</html>"
    );
    assert_eq!(status(502, "").message, "llama.cpp answers 502: no reason given");
}
