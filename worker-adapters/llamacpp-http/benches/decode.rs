//! How fast a recorded kind of stream is decoded: frames per second on one core, a whole socket read per call.

use adapter_api::TokenBatch;
use divan::Bencher;
use divan::counter::ItemsCount;
use llamacpp_http::decoder::{CompletionDecoder, Decoder, Read};

/// Frames in one read: about 15 KiB, what a busy socket hands over at once.
const FRAMES: usize = 128;

fn main() {
    divan::main();
}

fn read_of(frame: impl Fn(usize) -> String) -> Vec<u8> {
    (1..=FRAMES)
        .map(|n| format!("data: {}\n\n", frame(n)))
        .collect::<String>()
        .into_bytes()
}

fn token_frame(text: &str, n: usize) -> String {
    format!(
        "{{\"index\":0,\"content\":{text},\"tokens\":[],\"stop\":false,\"id_slot\":-1,\
         \"tokens_predicted\":{n},\"tokens_evaluated\":21}}"
    )
}

fn decode(bencher: Bencher<'_, '_>, read: &[u8]) {
    let mut batch = TokenBatch::new();
    let mut decoder = CompletionDecoder::default();
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        batch.clear();
        let read = decoder.feed(divan::black_box(read), &mut batch);
        assert!(!matches!(read, Read::End(_)), "the read holds token frames only");
        divan::black_box(batch.len())
    });
}

/// The usual frame.
#[divan::bench]
fn token_frames(bencher: Bencher<'_, '_>) {
    decode(bencher, &read_of(|n| token_frame("\" token\"", n)));
}

/// Every text has an escape: source code, quoted speech, line ends.
#[divan::bench]
fn escaped_frames(bencher: Bencher<'_, '_>) {
    decode(bencher, &read_of(|n| token_frame("\"\\n\\t\"", n)));
}

/// Another form: with timings, as a server with `timings_per_token` writes it.
#[divan::bench]
fn other_frames(bencher: Bencher<'_, '_>) {
    let timings = "\"timings\":{\"cache_n\":0,\"prompt_n\":10,\"prompt_ms\":4.201,\"predicted_n\":1,\"predicted_ms\":0.001}";
    decode(
        bencher,
        &read_of(|n| token_frame("\" token\"", n).replace('}', &format!(",{timings}}}"))),
    );
}
