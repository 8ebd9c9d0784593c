//! The decoder against the standard: examples, and any bytes in any pieces.

use std::ops::ControlFlow;

use http_util::sse::{Decoder, Event, EventTooLarge, Tail};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::reference::{self, Decoded, End};

const LIMIT: usize = 64;

fn owned(event: Event<'_>) -> reference::Event {
    (event.name.to_vec(), event.data.to_vec(), event.id.to_vec())
}

/// Decodes a stream given in pieces, in the reference's terms.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> Decoded {
    let mut decoder = Decoder::with_limit(limit);
    let mut decoded = Decoded::default();
    for piece in pieces {
        let fed = decoder.feed(piece, |event| {
            decoded.events.push(owned(event));
            ControlFlow::<()>::Continue(())
        });
        if fed.is_err() {
            decoded.end = End::TooLarge;
            break;
        }
    }
    if decoded.end != End::TooLarge {
        decoded.end = match decoder.finish() {
            Tail::Clean => End::Clean,
            Tail::Partial(event) => End::Partial(owned(event)),
        };
    }
    decoded.comments = decoder.comments();
    decoded.retry_ms = decoder
        .retry()
        .and_then(|retry| u64::try_from(retry.as_millis()).ok());
    decoded
}

fn data(stream: &str) -> Vec<String> {
    let events = decode([stream.as_bytes()], 1 << 20).events;
    events
        .into_iter()
        .map(|(_, data, _)| String::from_utf8_lossy(&data).into_owned())
        .collect()
}

#[test]
fn line_ends_may_be_mixed() {
    assert_eq!(
        data("data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r\ndata: e\r\n\r"),
        ["a", "b", "c", "d", "e"]
    );
}

#[test]
fn one_space_after_the_colon_is_syntax() {
    assert_eq!(
        data("data:a\n\ndata: b\n\ndata:  c\n\ndata\n\ndata:\n\n"),
        ["a", "b", " c", "", ""]
    );
}

#[test]
fn data_lines_are_joined() {
    assert_eq!(
        data("data: a\ndata:\ndata: b\n\ndata\ndata\n\n"),
        ["a\n\nb", "\n"]
    );
}

#[test]
fn only_data_makes_an_event() {
    assert_eq!(
        data("event: x\n\nid: 7\n\n: ping\n\nretry: 5\n\nfoo: bar\n\ndatum: x\n\n"),
        [""; 0]
    );
}

#[test]
fn names_last_for_an_event_and_ids_for_the_stream() {
    let stream = "event: token\nid: 1.7\ndata: a\n\ndata: b\n\nid: x\0y\ndata: c\n\nid\ndata: d\n\n";
    let decoded = decode([stream.as_bytes()], 1 << 20);
    let parts: Vec<_> = decoded
        .events
        .iter()
        .map(|(name, _, id)| (name.as_slice(), id.as_slice()))
        .collect();
    let expected: [(&[u8], &[u8]); 4] = [
        (b"token", b"1.7"),
        (b"message", b"1.7"),
        (b"message", b"1.7"),
        (b"message", b""),
    ];
    assert_eq!(parts, expected);
}

#[test]
fn pings_are_counted() {
    let mut decoder = Decoder::default();
    for (read, so_far) in [(":\n\n", 1), (": keep-", 1), ("alive\n\n:", 2), ("\n", 3)] {
        let flow = decoder.feed(read.as_bytes(), |event| ControlFlow::Break(owned(event)));
        assert_eq!(
            (flow, decoder.comments()),
            (Ok(ControlFlow::Continue(())), so_far)
        );
    }
}

#[test]
fn a_character_may_be_cut_by_reads() {
    let stream = "data: grüße 漢字 🦙\n\n".as_bytes();
    for size in 1..stream.len() {
        let mut texts = Vec::new();
        let mut decoder = Decoder::default();
        for piece in stream.chunks(size) {
            let fed: Result<ControlFlow<()>, _> = decoder.feed(piece, |event| {
                texts.push(event.text().map(str::to_owned));
                ControlFlow::Continue(())
            });
            assert!(fed.is_ok());
        }
        assert_eq!(texts, [Ok("grüße 漢字 🦙".to_owned())], "pieces of {size}");
    }
}

#[test]
fn invalid_utf8_is_told_per_event() {
    let mut valid = Vec::new();
    let fed: Result<ControlFlow<()>, _> = Decoder::default().feed(b"data: \xFF\n\ndata: ok\n\n", |event| {
        valid.push(event.text().is_ok());
        ControlFlow::Continue(())
    });
    assert!(fed.is_ok());
    assert_eq!(valid, [false, true]);
}

#[test]
fn the_end_inside_an_event_is_told() {
    let tail = |stream: &str| decode([stream.as_bytes()], 1 << 20).end;
    assert_eq!(tail("data: a\n\n"), End::Clean);
    assert_eq!(tail("data: a\n\n: pi"), End::Clean);
    for (stream, rest) in [
        ("data: a\n\ndata: {\"b", "{\"b"),
        ("data: a\n", "a"),
        ("event: message\n", ""),
        ("da", ""),
    ] {
        assert_eq!(
            tail(stream),
            End::Partial((b"message".to_vec(), rest.into(), vec![])),
            "{stream:?}"
        );
    }
}

#[test]
fn an_event_beyond_the_limit_is_an_error() {
    let limit = "data: 12345".len();
    let fed = |stream: &str| {
        Decoder::with_limit(limit).feed(stream.as_bytes(), |_| ControlFlow::<()>::Continue(()))
    };
    assert!(fed("data: 12345\n\ndata: 67890\n\n").is_ok());
    for stream in [
        "data: 123456\n\n",
        "data: 123456",
        "data: 12345\nx\n\n",
        "data: 1\ndata: 2\n\n",
    ] {
        assert_eq!(fed(stream), Err(EventTooLarge { limit }), "{stream:?}");
    }
}

/// Streams made of the pieces that decoders get wrong, and of noise.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => prop::sample::select(vec!["\n", "\r", "\r\n", "\n\n", "\r\n\r\n"]).prop_map(|s| s.as_bytes().to_vec()),
        3 => prop::sample::select(vec![
            "data: x", "data:y", "data", ":", ": ping", "event: e", "event", "id: 1", "id:\0", "retry: 10", "retry: x",
            "data: é漢🦙", "other: 1", " ", "data : z",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        1 => Just(b"\xEF\xBB\xBF".to_vec()),
        1 => Just(b"\xEF\xBB".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Cuts a stream at the given places; some pieces are empty.
fn cut<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_in_any_pieces_decode_as_the_standard_says(
        stream in streams(), cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let expected = reference::decode(&stream, LIMIT);
        prop_assert_eq!(&decode(cut(&stream, &cuts), LIMIT), &expected);
        prop_assert_eq!(&decode(stream.chunks(1), LIMIT), &expected);
    }

    #[test]
    fn breaking_hands_out_nothing_more(stream in streams(), stop in 1_usize..4) {
        let expected = reference::decode(&stream, LIMIT).events;
        let mut seen = Vec::new();
        let flow = Decoder::with_limit(LIMIT).feed(&stream, |event| {
            seen.push(owned(event));
            if seen.len() == stop { ControlFlow::Break(stop) } else { ControlFlow::Continue(()) }
        });
        prop_assert_eq!(seen.as_slice(), &expected[..stop.min(expected.len())]);
        prop_assert_eq!(matches!(flow, Ok(ControlFlow::Break(n)) if n == stop), expected.len() >= stop);
    }
}
