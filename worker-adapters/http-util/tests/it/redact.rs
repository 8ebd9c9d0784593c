//! Planted credentials never come out; harmless text comes out unchanged.

use std::borrow::Cow;

use http_util::redact::{MARK, redact};
use proptest::prelude::*;

const CANARY: &str = "C4nary0Secret1Value2";

/// Every form in which a credential reaches a log. `{}` stands for the credential.
const FORMS: &[&str] = &[
    "Authorization: Bearer {}",
    "authorization:{}",
    "AUTHORIZATION: Basic {}",
    "Authorization=Bearer {} next=1",
    "Authorization=Bearer   {}",
    "Proxy-Authorization: Bearer {}",
    r#"{"authorization":"Bearer {}","n":1}"#,
    r#"{"Authorization": Bearer {}, "n": 1}"#,
    r#"{\"authorization\":\"Bearer {}\"}"#,
    r#"("authorization", "Bearer {}")"#,
    "curl -H 'Authorization: Bearer {}' http://127.0.0.1/",
    "missing bearer {} in request",
    "Bearer\t{}",
    "X-Api-Key: {}",
    r#"x-api-key: "{}""#,
    r#"{"x-api-key":"quote \" and {}"}"#,
    "Cookie: session={}",
    "Set-Cookie: session={}; HttpOnly",
    "OPENAI_API_KEY={}",
    "aws_secret_access_key = {}",
    r#""SecretAccessKey" : "{}""#,
    "llama-server --api-key {} --port 8080",
    "llama-server --api-key={}",
    r#"["llama-server", "--api-key", "{}", "--port"]"#,
    "llama-orch --auth-token '{}' pools",
    "GET http://user:{}@host:8080/path",
    "https://{}@host/path",
    "postgres://a:b@{}@db/x",
    "https://b.s3.amazonaws.com/k?X-Amz-Credential={}&X-Amz-Date=20260101",
    "https://b.s3.amazonaws.com/k?X-Amz-Date=1&X-Amz-Signature={}",
    "https://b.s3.amazonaws.com/k?X-Amz-Security-Token={}#f",
    "https://cdn/x?Expires=1&Policy=p&Signature={}&Key-Pair-Id=k",
    r"https://blob/x?sv=2024\u0026sig={}",
    "https://host/?a=1&amp;token={}",
    "https://host/?access_token={}",
];

/// Keys that are known by their look alone.
const KEYS: &[&str] = &[
    "hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567",
    "hf_oauth_eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl",
    "sk-AbCdEfGh12345678",
    "sk-proj-Ab_Cd-Ef12345678",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
];

const HARMLESS: &[&str] = &[
    "",
    "prompt eval time = 434.25 ms / 34 tokens (12.77 ms per token)",
    r#"{"tokens_predicted":12,"token":"hello","predicted_per_token_ms":12.7,"key":"v","cache_key":1}"#,
    "HF_HUB_ENABLE_HF_TRANSFER=1 from huggingface_hub import hf_hub_download",
    "disk-cache-directory-full risk-management-required",
    "missing bearer token",
    "listening on http://127.0.0.1:8080/v1/models?limit=5#top",
    r#"{"api_key":null,"x-api-key": false}"#,
    "llama-server --api-key-file /run/keys --port 8080",
    "mail me@example.org about https://example.org/@me",
    "AKIA is a prefix; akiaiosfodnn7example is not a key",
    "monkey=banana turkey=1 first_token=12ms",
    "grüße 漢字 🦙 ://",
];

#[test]
fn forms_lose_their_credential() {
    for form in FORMS {
        let redacted = redact(&form.replace("{}", CANARY)).into_owned();
        assert!(!redacted.contains(CANARY), "{form}: {redacted}");
        assert!(redacted.contains(MARK), "{form}: {redacted}");
        assert_eq!(
            redact(&redacted),
            redacted,
            "{form}: a second pass changes nothing"
        );
    }
}

#[test]
fn keys_are_known_by_their_look() {
    for key in KEYS {
        for text in [
            (*key).to_owned(),
            format!("key {key}."),
            format!("\"{key}\""),
            format!("X_{key}\n"),
        ] {
            assert!(!redact(&text).contains(key), "{text}");
        }
    }
}

#[test]
fn what_surrounds_a_credential_stays() {
    let cases = [
        (
            "a Authorization: Bearer x y\nnext",
            "a Authorization: [redacted]\nnext",
        ),
        (
            r#"{"authorization":"Bearer x","n":1}"#,
            r#"{"authorization":"[redacted]","n":1}"#,
        ),
        ("--api-key x --port 1", "--api-key [redacted] --port 1"),
        (
            "http://u:p@host/p?sig=s&n=1",
            "http://[redacted]@host/p?sig=[redacted]&n=1",
        ),
        ("key hf_abcdefgh12 used", "key [redacted] used"),
    ];
    for (text, expected) in cases {
        assert_eq!(redact(text), expected);
    }
}

#[test]
fn harmless_text_is_borrowed_unchanged() {
    for text in HARMLESS {
        assert!(
            matches!(redact(text), Cow::Borrowed(same) if same == *text),
            "{text}: {}",
            redact(text)
        );
    }
}

/// With quadratic work these would take minutes.
#[test]
fn hostile_text_costs_linear_time() {
    let words = [
        "bearer",
        "bearer ",
        "--token",
        "xsk-",
        "SK-",
        "hf_",
        "authorization",
        "authorization:",
        "cookie=",
        "://",
    ];
    for word in words.into_iter().chain([
        "&key=",
        "\"password\"",
        "password:\"\\",
        "AKIA",
        ";sig=",
        "api_key= ",
    ]) {
        let text = word.repeat((1 << 20) / word.len());
        assert!(redact(&text).len() <= 2 * text.len() + MARK.len());
    }
}

fn noise() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        prop::sample::select(vec![
            "authorization",
            "bearer",
            "x-api-key",
            "--token",
            "://",
            "hf_",
            "sk-",
            "AKIA",
            "?sig=",
            "&key=",
            "password",
            ":",
            "=",
            " ",
            "\"",
            "\\\"",
            "'",
            "\\",
            "\n",
            "@",
            ",",
            "null",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    prop::collection::vec(fragment, 0..16).prop_map(|fragments| fragments.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// ORCH-3613.
    #[test]
    fn a_planted_credential_never_comes_out(
        before in noise(), after in noise(), form in prop::sample::select(FORMS), secret in "[A-Za-z0-9]{20,40}",
    ) {
        let text = format!("{before}\n{}\n{after}", form.replace("{}", &secret));
        prop_assert!(!redact(&text).contains(&secret), "{}", redact(&text));
    }

    /// Nothing is invented, reordered or lost but whole stretches, each replaced by one mark.
    #[test]
    fn what_is_left_is_the_text_in_order(text in noise()) {
        let redacted = redact(&text);
        let kept: Vec<&str> = redacted.split(MARK).collect();
        let mut rest = text.strip_prefix(kept[0]);
        for piece in &kept[1..] {
            rest = rest.and_then(|rest| rest.split_once(piece)).map(|(_, rest)| rest);
        }
        prop_assert!(rest.is_some() && text.ends_with(kept[kept.len() - 1]), "{redacted}");
    }
}
