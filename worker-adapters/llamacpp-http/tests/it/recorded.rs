//! Every recorded exchange that concerns the adapter, and what it must make of it. A recording without a row fails.

use adapter_api::{Adapter, AdapterErrorKind as Kind, EngineProps, Finish, FinishCause, Health, Job};
use api_types::{Message, Role, TaskResult};
use llamacpp_http::LlamaCpp;

use crate::common::{PATIENT, adapter, chat, embed, generate, job, rerank};
use crate::replay::Replay;
use crate::transcript;

/// Which call gets the recorded answer.
#[derive(Clone, Copy)]
enum Call {
    Health,
    Props,
    CountTokens,
    /// A completion.
    Submit,
    Chat,
    /// Of so many inputs.
    Embed(usize),
    Rerank,
}

/// What must come out.
pub(crate) enum Expected {
    Health(Health),
    Props(EngineProps),
    Count(u32),
    /// So many texts (their content is compared with a naive reader's), then the finish.
    Stream(usize, Finish),
    /// So many vectors of so many numbers, the first beginning with this one, for so many tokens.
    Vectors(usize, usize, f32, u32),
    /// So many texts, then an error of the kind whose message contains the text.
    Cut(usize, Kind, &'static str),
    /// No stream, no answer: an error of the kind whose message contains the text.
    Refused(Kind, &'static str),
}

use Expected::{Count, Cut, Refused, Stream};

type Row = (&'static str, Call, Expected);

fn finish(cause: FinishCause, tokens_in: u32, tokens_out: u32, prefill_ms: u64, decode_ms: u64) -> Finish {
    Finish {
        cause,
        tokens_in,
        tokens_out,
        cached_tokens: Some(0),
        prefill_ms: Some(prefill_ms),
        decode_ms: Some(decode_ms),
        result: None,
    }
}

/// The final frame was asked to leave the timings out.
fn untimed(tokens_in: u32, tokens_out: u32) -> Finish {
    Finish {
        cached_tokens: None,
        prefill_ms: None,
        decode_ms: None,
        ..finish(FinishCause::Length, tokens_in, tokens_out, 0, 0)
    }
}

fn table() -> Vec<Row> {
    [
        health(),
        props(),
        token_counts(),
        streams(),
        refusals(),
        not_streams(),
        chats(),
        pooled(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn health() -> Vec<Row> {
    let ready = || Expected::Health(Health::Ready);
    vec![
        (
            "01-loading-health-503.txt",
            Call::Health,
            Expected::Health(Health::Loading),
        ),
        ("01-loading-then-ready-health-200.txt", Call::Health, ready()),
        ("02-health-200.txt", Call::Health, ready()),
        ("62-health-v1.txt", Call::Health, ready()),
        ("102-apikey-health-public.txt", Call::Health, ready()),
        ("120-sleeping-health.txt", Call::Health, ready()),
        ("160-keepalive-headers.txt", Call::Health, ready()),
    ]
}

fn props() -> Vec<Row> {
    let props = EngineProps {
        engine_version: Some("b1-0c1e570".into()),
        slots_total: Some(2),
        ctx_per_slot: Some(512),
        model_name: Some("tiny-alias".into()),
        model_path: Some("tiny.gguf".into()),
    };
    vec![
        ("03-props.txt", Call::Props, Expected::Props(props)),
        (
            "01-loading-props-503.txt",
            Call::Props,
            Refused(Kind::NotReady, "Loading model"),
        ),
        (
            "01-loading-models-503.txt",
            Call::Props,
            Refused(Kind::NotReady, "Loading model"),
        ),
        (
            "04-models-v1.txt",
            Call::Props,
            Refused(Kind::Protocol, "not the JSON"),
        ),
        (
            "104-apikey-x-api-key.txt",
            Call::Props,
            Refused(Kind::Protocol, "not the JSON"),
        ),
        (
            "101-apikey-wrong-401.txt",
            Call::Props,
            Refused(Kind::Unavailable, "configuration"),
        ),
        (
            "07-404.txt",
            Call::Props,
            Refused(Kind::Unavailable, "File Not Found"),
        ),
    ]
}

fn token_counts() -> Vec<Row> {
    let other = || Refused(Kind::Protocol, "not the JSON");
    vec![
        ("50-tokenize.txt", Call::CountTokens, Count(11)),
        ("51-tokenize-pieces.txt", Call::CountTokens, Count(6)),
        ("52-detokenize.txt", Call::CountTokens, other()),
        ("53-apply-template.txt", Call::CountTokens, other()),
        ("54-count-tokens-chat.txt", Call::CountTokens, other()),
    ]
}

fn streams() -> Vec<Row> {
    use FinishCause::{Length, Stop};
    let rows = vec![
        (
            "10-completion-stream-limit.txt",
            Stream(8, finish(Length, 21, 12, 1, 2)),
        ),
        (
            "10b-completion-stream-limit-repeat.txt",
            Stream(8, finish(Length, 21, 12, 1, 3)),
        ),
        (
            "11-completion-stream-temp0.txt",
            Stream(8, finish(Length, 21, 12, 1, 3)),
        ),
        (
            "13-completion-stream-stopword.txt",
            Stream(8, finish(Stop, 10, 10, 1, 2)),
        ),
        (
            "14-completion-stream-eos.txt",
            Stream(2, finish(Stop, 10, 3, 1, 1)),
        ),
        (
            "15-completion-stream-utf8-split.txt",
            Stream(3, finish(Stop, 10, 7, 1, 2)),
        ),
        (
            "16-completion-stream-n0.txt",
            Stream(1, finish(Length, 10, 1, 2, 0)),
        ),
        (
            "17-completion-empty-prompt.txt",
            Stream(3, finish(Length, 1, 3, 1, 1)),
        ),
        ("19-timings-per-token.txt", Stream(4, finish(Length, 10, 4, 4, 1))),
        ("20-return-progress.txt", Stream(2, finish(Length, 21, 2, 5, 0))),
        ("21-n-probs.txt", Stream(2, finish(Length, 10, 2, 3, 0))),
        // Two prompts, which the adapter never sends: the first final frame ends the stream.
        (
            "22-multi-prompt-stream.txt",
            Stream(5, finish(Length, 8, 3, 5, 1)),
        ),
        ("23-response-fields.txt", Stream(3, untimed(10, 3))),
        ("90-sse-ping-during-prefill.txt", Stream(2, untimed(1202, 2))),
        ("95-sigterm-mid-stream.txt", Cut(5, Kind::Reset, "broke off")),
        (
            "105a-instream-error-kv-exhausted.txt",
            Cut(95, Kind::Reset, "Context size has been exceeded"),
        ),
    ];
    rows.into_iter()
        .map(|(name, expected)| (name, Call::Submit, expected))
        .collect()
}

fn refusals() -> Vec<Row> {
    use Kind::{Exhausted, NotReady, Protocol, Rejected, Unavailable};
    let rows = vec![
        ("01-loading-completion-503.txt", NotReady, "Loading model"),
        ("18-completion-emptytokens.txt", Rejected, "must not be empty"),
        ("30-err-context-overflow-stream.txt", Rejected, "2402 tokens"),
        ("31-err-context-overflow-chat.txt", Rejected, "holds 512"),
        ("32-err-bad-json.txt", Rejected, "parse_error.101"),
        ("33-err-missing-prompt.txt", Rejected, "key 'prompt' not found"),
        (
            "34-err-bad-type.txt",
            Rejected,
            "type must be number, but is string",
        ),
        ("35-err-out-of-range.txt", Rejected, "but got -5"),
        ("36-err-bad-grammar.txt", Rejected, "failed to parse grammar"),
        (
            "37-err-bad-grammar-stream.txt",
            Rejected,
            "failed to parse grammar",
        ),
        (
            "38-err-invalid-token-ids.txt",
            Rejected,
            "Prompt contains invalid tokens",
        ),
        ("42-err-n-cmpl-too-many.txt", Rejected, "Field 'n'"),
        (
            "44-empty-body.txt",
            Rejected,
            "attempting to parse an empty input",
        ),
        ("45-json-array-body.txt", Rejected, "cannot use at() with array"),
        (
            "46-embeddings-not-enabled.txt",
            Protocol,
            "does not support embeddings",
        ),
        (
            "47-rerank-not-enabled.txt",
            Protocol,
            "does not support reranking",
        ),
        ("48-chat-no-messages.txt", Rejected, "'messages' is required"),
        ("49-chat-bad-role.txt", Rejected, "Failed to parse messages"),
        ("92-slots-fail-on-no-slot-503.txt", Exhausted, "no slot available"),
        ("100-apikey-missing-401.txt", Unavailable, "Invalid API Key"),
        ("114-embeddings-too-long.txt", Rejected, "too large to process"),
    ];
    rows.into_iter()
        .map(|(name, kind, says)| (name, Call::Submit, Refused(kind, says)))
        .collect()
}

/// Answers to requests that did not ask for a stream: an engine that answers so to one that did is not understood.
fn not_streams() -> Vec<Row> {
    let names = [
        "12-completion-nonstream.txt",
        "13b-completion-nonstream-stopword.txt",
        "24-truncated-by-context.txt",
        "39-unknown-field-ignored.txt",
        "40-temperature-negative-clamped.txt",
        "41-seed-64bit.txt",
        "41b-seed-minus1.txt",
        "41c-seed-over-u64.txt",
        "43-id-slot-out-of-range.txt",
        "103-apikey-ok.txt",
        "115-completion-on-embedding-server.txt",
        "121-sleeping-wakes-on-completion.txt",
    ];
    let expected = || {
        Refused(
            Kind::Protocol,
            "application/json; charset=utf-8 instead of text/event-stream",
        )
    };
    names
        .into_iter()
        .map(|name| (name, Call::Submit, expected()))
        .collect()
}

/// Chats, and what a chat may get instead of a stream.
fn chats() -> Vec<Row> {
    use FinishCause::{Length, Stop};
    let rows = vec![
        (
            "70-oai-chat-stream-usage.txt",
            Stream(6, finish(Length, 34, 6, 434, 951)),
        ),
        // Its usage is in the timings of the last chunk.
        (
            "71-oai-chat-stream-nousage.txt",
            Stream(6, finish(Length, 34, 6, 3, 2)),
        ),
        (
            "79-oai-chat-stream-stop.txt",
            Stream(3, finish(Stop, 24, 7, 1, 1)),
        ),
        (
            "72-oai-chat-nonstream.txt",
            Refused(Kind::Protocol, "instead of text/event-stream"),
        ),
        (
            "80-bad-json-stream-chat.txt",
            Refused(Kind::Rejected, "parse_error.101"),
        ),
        (
            "31-err-context-overflow-chat.txt",
            Refused(Kind::Rejected, "2422 tokens"),
        ),
        (
            "48-chat-no-messages.txt",
            Refused(Kind::Rejected, "'messages' is required"),
        ),
        (
            "49-chat-bad-role.txt",
            Refused(Kind::Rejected, "Failed to parse messages"),
        ),
        (
            "105b-instream-error-kv-exhausted-other.txt",
            // Chunks of the sister route, which have no delta; the error frame is the same.
            Cut(0, Kind::Reset, "Context size has been exceeded"),
        ),
    ];
    rows.into_iter()
        .map(|(name, expected)| (name, Call::Chat, expected))
        .collect()
}

/// Embeddings and scores (ORCH-3524).
fn pooled() -> Vec<Row> {
    use Expected::Vectors;
    vec![
        (
            "110-embeddings-oai.txt",
            Call::Embed(2),
            Vectors(2, 128, 0.083_386_3, 12),
        ),
        (
            "113-embeddings-empty-input.txt",
            Call::Embed(1),
            Vectors(1, 128, 0.027_327_858, 1),
        ),
        // Forms that the adapter does not ask for.
        (
            "111-embeddings-oai-base64.txt",
            Call::Embed(1),
            Refused(Kind::Protocol, "not understood"),
        ),
        (
            "112-embedding-native.txt",
            Call::Embed(1),
            Refused(Kind::Protocol, "not understood"),
        ),
        (
            "114-embeddings-too-long.txt",
            Call::Embed(1),
            Refused(Kind::Rejected, "input (2402 tokens)"),
        ),
        (
            "46-embeddings-not-enabled.txt",
            Call::Embed(1),
            Refused(Kind::Protocol, "not started for this workload"),
        ),
        (
            "47-rerank-not-enabled.txt",
            Call::Rerank,
            Refused(Kind::Protocol, "`--reranking`"),
        ),
    ]
}

/// The recorded streams, for tests that cut them.
pub(crate) fn recorded_streams() -> impl Iterator<Item = (&'static str, Job, Expected)> {
    let completions = streams()
        .into_iter()
        .map(|(name, _, expected)| (name, job("hi", 4), expected));
    let chats = chats()
        .into_iter()
        .map(|(name, _, expected)| (name, chat("hi", 4), expected));
    completions.chain(chats.filter(|(_, _, expected)| !matches!(expected, Refused(..))))
}

/// Compares a job with a row.
pub(crate) async fn check_job(
    adapter: &LlamaCpp,
    job: &Job,
    response: &[u8],
    expected: &Expected,
    case: &str,
) {
    let output = generate(adapter, job).await;
    match expected {
        Expected::Vectors(count, dimensions, first, tokens_in) => {
            let finish = output.end.unwrap();
            assert_eq!((finish.tokens_in, finish.tokens_out), (*tokens_in, 0), "{case}");
            assert!(output.texts.is_empty(), "{case}");
            let Some(TaskResult::Embedding {
                dimensions: found,
                embeddings,
            }) = finish.result.as_deref()
            else {
                panic!("{case}: {finish:?}")
            };
            assert_eq!(
                (*found as usize, embeddings.len()),
                (*dimensions, *count),
                "{case}"
            );
            assert_eq!(embeddings[0][0], *first, "{case}");
        }
        Stream(count, finish) => {
            assert_eq!(output.texts, transcript::texts(response), "{case}");
            assert_eq!(output.texts.len(), *count, "{case}");
            assert_eq!(output.end.as_ref(), Ok(finish), "{case}");
        }
        Cut(count, kind, says) => {
            assert_eq!(output.texts, transcript::texts(response), "{case}");
            assert_eq!(output.texts.len(), *count, "{case}");
            let error = output.end.unwrap_err();
            assert_eq!(error.kind, *kind, "{case}");
            assert!(error.message.contains(says), "{case}: {error}");
        }
        Refused(kind, says) => {
            let error = output.end.unwrap_err();
            assert_eq!(error.kind, *kind, "{case}: {error}");
            assert!(error.message.contains(says), "{case}: {error}");
        }
        _ => panic!("{case}: not a row of a stream"),
    }
}

async fn check(call: Call, response: Vec<u8>, expected: &Expected, name: &str) {
    let server = Replay::whole(response.clone()).await;
    let adapter = adapter(&server.url(), None, PATIENT);
    let error = match (call, expected) {
        (Call::Health, Expected::Health(health)) => {
            assert_eq!(adapter.health().await.as_ref(), Ok(health), "{name}");
            return;
        }
        (Call::Props, Expected::Props(props)) => {
            assert_eq!(adapter.props().await.as_ref(), Ok(props), "{name}");
            return;
        }
        (Call::CountTokens, Count(count)) => {
            assert_eq!(adapter.count_tokens("text").await, Ok(Some(*count)), "{name}");
            return;
        }
        (Call::Submit, expected) => {
            return check_job(&adapter, &job("hi", 4), &response, expected, name).await;
        }
        (Call::Chat, expected) => {
            return check_job(&adapter, &chat("hi", 4), &response, expected, name).await;
        }
        (Call::Embed(inputs), expected) => {
            return check_job(&adapter, &embed(&vec!["a"; inputs]), &response, expected, name).await;
        }
        (Call::Rerank, expected) => {
            return check_job(&adapter, &rerank("q", &["a"]), &response, expected, name).await;
        }
        (Call::Props, _) => adapter.props().await.unwrap_err(),
        (Call::CountTokens, _) => adapter.count_tokens("text").await.unwrap_err(),
        (Call::Health, _) => panic!("{name}: health does not fail here"),
    };
    let Refused(kind, says) = expected else {
        panic!("{name}: not what this call gives")
    };
    assert_eq!(error.kind, *kind, "{name}: {error}");
    assert!(error.message.contains(says), "{name}: {error}");
}

#[tokio::test]
async fn every_recorded_answer_means_what_the_table_says() {
    for (name, call, expected) in table() {
        check(call, transcript::response(name), &expected, name).await;
    }
}

#[test]
fn every_recording_has_a_row() {
    let mut rows: Vec<&str> = table().iter().map(|(name, ..)| *name).collect();
    rows.sort_unstable();
    // The same refusal may be held against several calls.
    rows.dedup();
    assert_eq!(rows, transcript::names());
}

/// Without `response_fields` of our own choice a final frame may lack `stop`: it is none then.
#[tokio::test]
async fn a_stream_whose_last_frame_does_not_say_stop_has_broken_off() {
    let response = transcript::keep_alive_stream();
    let server = Replay::whole(response).await;
    let output = generate(&adapter(&server.url(), None, PATIENT), &job("hi", 4)).await;
    assert_eq!(output.texts, [" "]);
    assert_eq!(output.generated, 2);
    assert_eq!(output.error_kind(), Some(Kind::Reset));
}

/// The prompt of a chat is what the template makes of it, and is counted with its special tokens (ORCH-3522).
#[tokio::test]
async fn a_chat_is_counted_as_the_template_renders_it() {
    let answers = ["53-apply-template.txt", "50-tokenize.txt"].map(|name| vec![transcript::response(name)]);
    let server = Replay::answers(answers.to_vec()).await;
    let adapter = adapter(&server.url(), None, PATIENT);
    let messages = [Message::new(Role::User, "hi")];
    assert_eq!(adapter.count_chat_tokens(&messages).await, Ok(Some(11)));

    let refused = Replay::whole(transcript::response("49-chat-bad-role.txt")).await;
    let adapter = crate::common::adapter(&refused.url(), None, PATIENT);
    let error = adapter.count_chat_tokens(&messages).await.unwrap_err();
    assert_eq!(error.kind, Kind::Rejected, "{error}");
}

#[tokio::test]
async fn the_same_answer_gives_the_same_vectors() {
    let answer = || Replay::whole(transcript::response("110-embeddings-oai.txt"));
    let (first, second) = (answer().await, answer().await);
    let job = embed(&["the moon", "a"]);
    let first = generate(&adapter(&first.url(), None, PATIENT), &job).await;
    let second = generate(&adapter(&second.url(), None, PATIENT), &job).await;
    assert_eq!(first, second);
    assert!(first.end.is_ok());
}

#[tokio::test]
async fn a_kept_connection_is_used_again() {
    let one = transcript::response("160-keepalive-headers.txt");
    // The recording holds two answers of equal length.
    let one = one[..(one.len() - 1) / 2].to_vec();
    let server = Replay::answers(vec![vec![one.clone()], vec![one.clone()], vec![one]]).await;
    let adapter = adapter(&server.url(), None, PATIENT);
    for _ in 0..3 {
        assert_eq!(adapter.health().await, Ok(Health::Ready));
    }
    assert_eq!(server.connections(), 1);
}

/// The server says that it keeps the connection of a stream, and closes it: a request sent on it would be lost.
#[tokio::test]
async fn the_connection_of_a_stream_is_never_used_again() {
    let response = String::from_utf8(transcript::response("14-completion-stream-eos.txt")).unwrap();
    let kept = response
        .replace("Connection: close", "Keep-Alive: timeout=5, max=100")
        .into_bytes();
    let server = Replay::answers(vec![vec![kept.clone()], vec![kept.clone()], vec![kept]]).await;
    let adapter = adapter(&server.url(), None, PATIENT);
    for _ in 0..3 {
        assert_eq!(generate(&adapter, &job("hi", 4)).await.texts, ["o", "k"]);
    }
    assert_eq!(server.connections(), 3);
}

/// One chunk of a response that holds the recording's frames from `from` to `to`, then what follows it.
fn in_one_chunk(name: &str, frames: std::ops::Range<usize>, after: &str) -> Vec<u8> {
    let response = String::from_utf8(transcript::response(name)).unwrap();
    let (head, _) = response.split_once("\r\n\r\n").unwrap();
    let lines: Vec<&str> = response
        .lines()
        .filter(|line| line.starts_with("data: "))
        .collect();
    let chunk: String = lines[frames].iter().map(|line| format!("{line}\n\n")).collect();
    format!("{head}\r\n\r\n{:x}\r\n{chunk}\r\n{after}", chunk.len()).into_bytes()
}

#[tokio::test]
async fn texts_that_come_with_the_end_are_not_lost() {
    let name = "14-completion-stream-eos.txt";
    let finished = Replay::whole(in_one_chunk(name, 0..4, "0\r\n\r\n")).await;
    let output = generate(&adapter(&finished.url(), None, PATIENT), &job("hi", 4)).await;
    assert_eq!((output.texts.concat().as_str(), output.end.is_ok()), ("ok", true));

    let cut = Replay::whole(in_one_chunk(name, 0..2, "")).await;
    let output = generate(&adapter(&cut.url(), None, PATIENT), &job("hi", 4)).await;
    assert_eq!(
        (output.texts.concat().as_str(), output.error_kind()),
        ("ok", Some(Kind::Reset))
    );

    let failed = Replay::whole(in_one_chunk(
        "105a-instream-error-kv-exhausted.txt",
        92..96,
        "0\r\n\r\n",
    ))
    .await;
    let output = generate(&adapter(&failed.url(), None, PATIENT), &job("hi", 4)).await;
    assert_eq!((output.texts.len(), output.error_kind()), (3, Some(Kind::Reset)));
}
