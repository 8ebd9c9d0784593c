//! Decode throughput of the SSE decoder: `cargo bench --workspace --bench sse`. Bytes per second are of the raw stream.

use std::hint::black_box;
use std::ops::ControlFlow;

use divan::Bencher;
use divan::counter::BytesCount;
use http_util::sse::Decoder;

fn main() {
    divan::main();
}

/// Sizes of the reads that a stream is cut into: crumbs, Ethernet segments, a socket buffer, all at once.
const READS: [usize; 4] = [16, 1460, 16 << 10, 1 << 20];

/// A stream of about a megabyte, of equal events.
fn stream_of(event: &str) -> Vec<u8> {
    event.repeat((1 << 20) / event.len()).into_bytes()
}

/// About 240 bytes, as OpenAI-compatible servers send per token.
fn openai() -> Vec<u8> {
    stream_of(concat!(
        r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" token"}}],"created":1795437891,"#,
        r#""id":"chatcmpl-0123456789abcdef0123456789abcdef","model":"model-name","system_fingerprint":"b1-0000000","#,
        r#""object":"chat.completion.chunk"}"#,
        "\n\n"
    ))
}

/// A token frame of llama.cpp's own dialect, about 120 bytes.
fn llamacpp() -> Vec<u8> {
    stream_of(concat!(
        r#"data: {"index":0,"content":" token","tokens":[276],"stop":false,"id_slot":-1,"tokens_predicted":3,"#,
        r#""tokens_evaluated":21}"#,
        "\n\n"
    ))
}

/// One event of a single line of a megabyte.
fn one_line() -> Vec<u8> {
    [b"data: ".as_slice(), &vec![b'x'; (1 << 20) - 8], b"\n\n"].concat()
}

fn decode(bencher: Bencher<'_, '_>, stream: &[u8], read: usize) {
    let mut decoder = Decoder::default();
    bencher.counter(BytesCount::of_slice(stream)).bench_local(|| {
        let mut bytes = 0;
        for piece in stream.chunks(read) {
            let fed: Result<ControlFlow<()>, _> = decoder.feed(black_box(piece), |event| {
                bytes += event.data.len();
                ControlFlow::Continue(())
            });
            assert!(fed.is_ok(), "the events are within the limit");
        }
        bytes
    });
}

#[divan::bench(args = READS)]
fn openai_events(bencher: Bencher<'_, '_>, read: usize) {
    decode(bencher, &openai(), read);
}

#[divan::bench]
fn openai_event_per_read(bencher: Bencher<'_, '_>) {
    let stream = openai();
    let event = stream
        .iter()
        .position(|&b| b == b'\n')
        .map_or(stream.len(), |end| end + 2);
    decode(bencher, &stream, event);
}

#[divan::bench(args = READS)]
fn llamacpp_frames(bencher: Bencher<'_, '_>, read: usize) {
    decode(bencher, &llamacpp(), read);
}

#[divan::bench(args = READS)]
fn line_of_a_megabyte(bencher: Bencher<'_, '_>, read: usize) {
    decode(bencher, &one_line(), read);
}
