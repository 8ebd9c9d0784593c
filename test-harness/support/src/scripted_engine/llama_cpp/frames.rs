//! Frames of the event stream and the final object, byte for byte as the real server writes them.
//! Pure encoding into a reused buffer: a token frame costs three copies and a number.

use std::io::Write as _;

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;
use serde_json::Value;

use super::generation::{Stop, StopKind, Token, TokenText};
use super::settings::Settings;
use super::vocabulary;

/// The comment frame that keeps a silent stream alive.
pub(super) const PING: &[u8] = b":\n\n";
/// The stray frame that the real server sends with several prompts.
pub(super) const NULL: &[u8] = b"data: null\n\n";

/// Measured times of a completion; also the wire form.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Timings {
    cache_n: u32,
    prompt_n: u32,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    predicted_n: u32,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
}

impl Timings {
    /// From tokens and milliseconds. As in the real server, the first predicted token belongs to the
    /// prompt's time, so one token less is counted in the rate.
    pub(super) fn new(prompt_n: u32, prompt_ms: f64, predicted_n: u32, predicted_ms: f64) -> Self {
        let after_first = predicted_n.saturating_sub(1);
        Self {
            cache_n: 0,
            prompt_n,
            prompt_ms,
            prompt_per_token_ms: ratio(prompt_ms, f64::from(prompt_n)),
            prompt_per_second: ratio(1e3 * f64::from(prompt_n), prompt_ms),
            predicted_n,
            predicted_ms,
            predicted_per_token_ms: ratio(predicted_ms, f64::from(after_first)),
            predicted_per_second: ratio(1e3 * f64::from(after_first), predicted_ms),
        }
    }
}

fn ratio(amount: f64, per: f64) -> f64 {
    if per > 0.0 { amount / per } else { 0.0 }
}

/// Appends a token frame.
pub(super) fn token(out: &mut BytesMut, token: &Token, prompt_tokens: u32, timings: Option<Timings>) {
    match &token.text {
        TokenText::Word(word) => out.put_slice(&word.frame_start),
        TokenText::Changed(text, id) => out.put_slice(&vocabulary::frame_start(text, *id)),
    }
    number(out, token.predicted);
    out.put_slice(b",\"tokens_evaluated\":");
    number(out, prompt_tokens);
    if let Some(timings) = timings {
        out.put_slice(b",\"timings\":");
        json(out, &timings);
    }
    out.put_slice(b"}\n\n");
}

/// Appends a progress frame of the prompt.
pub(super) fn progress(out: &mut BytesMut, prompt_tokens: u32, processed: u32, time_ms: u64) {
    text(
        out,
        format_args!(
            "data: {{\"index\":0,\"content\":\"\",\"tokens\":[0],\"stop\":false,\"id_slot\":-1,\"tokens_predicted\":0,\
             \"tokens_evaluated\":{prompt_tokens},\"prompt_progress\":{{\"total\":{prompt_tokens},\"cache\":0,\
             \"processed\":{processed},\"time_ms\":{time_ms}}}}}\n\n"
        ),
    );
}

/// Appends a frame with this payload.
pub(super) fn data(out: &mut BytesMut, payload: &str) {
    text(out, format_args!("data: {payload}\n\n"));
}

/// Appends a frame whose content is not UTF-8.
pub(super) fn bad_utf8(out: &mut BytesMut) {
    out.put_slice(&vocabulary::frame_start("?", 0));
    spoil(out);
    out.put_slice(b"0,\"tokens_evaluated\":0}\n\n");
}

/// Puts a byte that is in no UTF-8 text in place of the first `?`.
pub(super) fn spoil(out: &mut BytesMut) {
    if let Some(place) = memchr::memchr(b'?', out) {
        out[place] = 0xFF;
    }
}

/// Appends a frame that is cut off in the middle of its JSON but ends like a frame.
pub(super) fn malformed_json(out: &mut BytesMut) {
    out.put_slice(b"data: {\"index\":0,\"content\":\"broken\n\n");
}

/// Appends a frame whose content has `length` bytes.
pub(super) fn oversized(out: &mut BytesMut, length: usize) {
    out.put_slice(&vocabulary::frame_start(&"x".repeat(length), 0));
    out.put_slice(b"0,\"tokens_evaluated\":0}\n\n");
}

/// The end of a completion: the last frame of a stream, or the whole answer without one.
#[derive(Debug, Serialize)]
pub(super) struct Final<'a> {
    pub(super) index: u32,
    pub(super) content: &'a str,
    pub(super) tokens: &'a [u32],
    pub(super) id_slot: usize,
    pub(super) stop: bool,
    pub(super) model: &'a str,
    pub(super) tokens_predicted: u32,
    pub(super) tokens_evaluated: u32,
    pub(super) generation_settings: &'a Settings,
    pub(super) prompt: String,
    pub(super) has_new_line: bool,
    pub(super) truncated: bool,
    pub(super) stop_type: &'static str,
    pub(super) stopping_word: &'a str,
    pub(super) tokens_cached: u32,
    pub(super) timings: Timings,
}

impl Final<'_> {
    /// The object as JSON, or only the fields wanted, in the order wanted. A path such as
    /// `timings/predicted_ms` becomes a key of that name.
    pub(super) fn encode(&self, fields: &[String]) -> Result<String, serde_json::Error> {
        let whole = serde_json::to_string(self)?;
        if fields.is_empty() {
            return Ok(whole);
        }
        let whole: Value = serde_json::from_str(&whole)?;
        let found = fields
            .iter()
            .filter_map(|path| Some((path, whole.pointer(&format!("/{path}"))?)));
        let pairs: Vec<String> = found
            .map(|(path, value)| format!("{}:{value}", Value::from(path.as_str())))
            .collect();
        Ok(format!("{{{}}}", pairs.join(",")))
    }
}

/// The stop string that ended the completion, if one did.
pub(super) fn stopping_word(stop: &Stop) -> &str {
    match &stop.kind {
        StopKind::Word(word) => word,
        StopKind::Eos | StopKind::Limit => "",
    }
}

/// Decimal digits without the formatting machinery.
fn number(out: &mut BytesMut, mut number: u32) {
    let mut digits = [0; 10];
    let mut start = digits.len();
    loop {
        start -= 1;
        // A remainder of ten fits a byte.
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return out.put_slice(&digits[start..]);
        }
    }
}

/// A `BytesMut` grows instead of failing.
fn text(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    let _ = out.writer().write_fmt(text);
}

fn json(out: &mut BytesMut, value: &impl Serialize) {
    let _ = serde_json::to_writer(out.writer(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_frame_has_the_recorded_form() {
        let mut out = BytesMut::new();
        let pool = Token {
            text: TokenText::Changed("pool".to_owned(), 276),
            predicted: 3,
        };
        token(&mut out, &pool, 21, None);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            "data: {\"index\":0,\"content\":\"pool\",\"tokens\":[276],\"stop\":false,\"id_slot\":-1,\
             \"tokens_predicted\":3,\"tokens_evaluated\":21}\n\n"
        );
    }

    #[test]
    fn rates_are_computed_as_the_real_server_does() {
        let timings = serde_json::to_value(Timings::new(21, 1.356, 12, 2.394)).unwrap();
        assert_eq!(timings["predicted_per_token_ms"], 0.217_636_363_636_363_66);
        assert_eq!(timings["prompt_per_token_ms"], 0.064_571_428_571_428_57);
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for n in [0, 7, 10, 4_294_967_295] {
            let mut out = BytesMut::new();
            number(&mut out, n);
            assert_eq!(out, n.to_string().as_bytes());
        }
    }

    #[test]
    fn the_bad_frame_is_not_utf8() {
        let mut out = BytesMut::new();
        bad_utf8(&mut out);
        assert!(std::str::from_utf8(&out).is_err());
    }
}
