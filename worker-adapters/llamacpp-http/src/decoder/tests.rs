//! The decoder: whole streams, any chunking, what ends one.

use adapter_api::FinishCause;
use proptest::prelude::*;

use super::*;

/// Everything that comes out of a stream that is fed in `reads` and then ends.
fn run<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, u32, Result<Finish, AdapterError>) {
    let (mut decoder, mut batch) = (CompletionDecoder::default(), TokenBatch::new());
    let mut end = None;
    for read in reads {
        if let Read::End(result) = decoder.feed(read, &mut batch) {
            end = Some(result);
            break;
        }
    }
    let end = end.unwrap_or_else(|| Err(decoder.broken_off()));
    (
        batch.tokens().map(str::to_owned).collect(),
        batch.generated(),
        end,
    )
}

fn token(text: &str, generated: usize) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        "data: {{\"index\":0,\"content\":{text},\"tokens\":[],\"stop\":false,\"id_slot\":-1,\
         \"tokens_predicted\":{generated},\"tokens_evaluated\":9}}\n\n"
    )
}

const FINAL: &str = "data: {\"content\":\"\",\"stop\":true,\"stop_type\":\"limit\",\"tokens_predicted\":4,\"tokens_evaluated\":9}\n\n";

#[derive(Debug, Clone)]
enum Piece {
    Token(String),
    Ping,
    Null,
    OtherForm(String),
    Error,
    Junk,
    Final,
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = prop_oneof![
        8 => "\\PC{0,6}".prop_map(Piece::Token),
        2 => "[\"\\\\\n海]{0,4}".prop_map(Piece::OtherForm),
        1 => Just(Piece::Ping),
        1 => Just(Piece::Null),
        1 => Just(Piece::Error),
        1 => Just(Piece::Junk),
        1 => Just(Piece::Final),
    ];
    proptest::collection::vec(piece, 0..20)
}

/// What the server writes, and what must come out of it.
fn script(pieces: &[Piece]) -> (String, Vec<String>, Option<AdapterErrorKind>) {
    let (mut wire, mut tokens, mut end) = (String::new(), Vec::new(), None);
    let mut over = false;
    for (at, piece) in pieces.iter().enumerate() {
        let text = match piece {
            Piece::Token(text) => {
                wire += &token(text, at + 1);
                Some(text)
            }
            Piece::OtherForm(text) => {
                wire += &format!(
                    "data: {}\r\n\r\n",
                    serde_json::json!({"stop": false, "content": text})
                );
                Some(text)
            }
            Piece::Ping => {
                wire += ":\n\n";
                None
            }
            Piece::Null => {
                wire += "data: null\n\n";
                None
            }
            Piece::Error => {
                wire += "data: {\"error\":{\"code\":500,\"message\":\"Compute error.\"}}\n\n";
                end = end.or(if over { None } else { Some(AdapterErrorKind::Reset) });
                over = true;
                None
            }
            Piece::Junk => {
                wire += "data: {\"content\":\n\n";
                end = end.or(if over {
                    None
                } else {
                    Some(AdapterErrorKind::Protocol)
                });
                over = true;
                None
            }
            Piece::Final => {
                wire += FINAL;
                over = true;
                None
            }
        };
        if let (Some(text), false) = (text, over) {
            tokens.extend((!text.is_empty()).then(|| text.clone()));
        }
    }
    (
        wire,
        tokens,
        if over { end } else { Some(AdapterErrorKind::Reset) },
    )
}

proptest! {
    /// Whatever a server sends and however it is cut, tokens come first, once and in order, and then one end.
    #[test]
    fn chunking_makes_no_difference(pieces in pieces(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let (wire, tokens, error) = script(&pieces);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        at.extend([0, wire.len()]);
        at.sort_unstable();
        let reads = at.windows(2).map(|w| &wire.as_bytes()[w[0]..w[1]]);
        let (texts, _, end) = run(reads);
        prop_assert_eq!(texts, tokens);
        prop_assert_eq!(end.err().map(|e| e.kind), error);
    }

    #[test]
    fn any_bytes_end_in_a_finish_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let whole = run([bytes.as_slice()]);
        let single = run(bytes.chunks(1));
        prop_assert_eq!(whole, single);
    }
}

#[test]
fn one_read_may_hold_everything() {
    let wire = format!("{}{}{FINAL}{}", token("a", 1), token("", 2), token("never", 9));
    let (tokens, generated, end) = run([wire.as_bytes()]);
    assert_eq!(tokens, ["a"]);
    assert_eq!(generated, 2);
    let finish = end.unwrap();
    assert_eq!(
        (finish.cause, finish.tokens_in, finish.tokens_out),
        (FinishCause::Length, 9, 4)
    );
}

#[test]
fn progress_is_counted_in_tokens() {
    let (mut decoder, mut batch) = (CompletionDecoder::default(), TokenBatch::new());
    let mut feed = |read: &str| decoder.feed(read.as_bytes(), &mut batch);
    assert_eq!(feed(":\n\n"), Read::Idle);
    assert_eq!(feed("data: null\n\n"), Read::Idle);
    assert_eq!(
        feed(&token("", 0)),
        Read::Idle,
        "prefill progress has generated nothing"
    );
    assert_eq!(feed(&token("", 1)), Read::Progress);
    assert_eq!(feed(&token("", 1)), Read::Idle);
    assert_eq!(feed(&token("x", 1)), Read::Progress);
    assert_eq!(
        feed("data: {\"content\":\"\",\"stop\":false}\n\n"),
        Read::Progress,
        "a server that does not count"
    );
    assert_eq!(feed("data: {\"cont"), Read::Idle);
}

#[test]
fn a_frame_beyond_the_limit_is_refused_with_the_limit() {
    let mut decoder = CompletionDecoder::default();
    let end = decoder.feed(&vec![b'x'; FRAME_LIMIT + 1], &mut TokenBatch::new());
    let Read::End(Err(error)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(error.kind, AdapterErrorKind::Protocol);
    assert!(error.message.contains("8388608"), "{}", error.message);
}
