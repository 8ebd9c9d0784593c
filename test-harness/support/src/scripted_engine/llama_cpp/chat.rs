//! Chats: the chunks of `/v1/chat/completions` and its whole answer, as recorded from the real server. Pure encoding.

use bytes::BytesMut;
use serde::Serialize;
use serde_json::{Map, Value};

use super::frames::{Timings, data};
use super::generation::{Stop, StopKind};

/// The end of the stream.
pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";

/// What the answer to one chat is made with.
#[derive(Clone, Debug)]
pub(super) struct Chat {
    id: String,
    include_usage: bool,
}

/// What every chunk of a chat says.
pub(super) struct Envelope<'a> {
    pub(super) chat: &'a Chat,
    /// Seconds.
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) fingerprint: &'a str,
}

/// What was counted and measured.
pub(super) struct Totals {
    pub(super) prompt_tokens: u32,
    pub(super) completion_tokens: u32,
    pub(super) timings: Timings,
}

impl Chat {
    /// From a request's body.
    pub(super) fn of(body: &Map<String, Value>) -> Self {
        let options = body.get("stream_options");
        let include_usage = options.and_then(|options| options.get("include_usage"));
        Self {
            id: format!("chatcmpl-{}", uuid::Uuid::new_v4().simple()),
            include_usage: include_usage.and_then(Value::as_bool).unwrap_or(false),
        }
    }
}

/// The parts of a chunk or an answer, in wire order.
#[derive(Serialize)]
struct Choice<'a> {
    finish_reason: Option<&'a str>,
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Said<'a>>,
}

/// `null` and absence differ on the wire.
#[derive(Default, Serialize)]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    choices: Vec<Choice<'a>>,
    created: u64,
    id: &'a str,
    model: &'a str,
    system_fingerprint: &'a str,
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

#[derive(Serialize)]
struct Whole<'a> {
    choices: Vec<Choice<'a>>,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    object: &'static str,
    usage: Usage,
    id: &'a str,
    timings: Timings,
}

#[derive(Serialize)]
struct Usage {
    completion_tokens: u32,
    prompt_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: Details,
}

#[derive(Serialize)]
struct Details {
    cached_tokens: u32,
}

impl From<&Totals> for Usage {
    fn from(totals: &Totals) -> Self {
        Self {
            completion_tokens: totals.completion_tokens,
            prompt_tokens: totals.prompt_tokens,
            total_tokens: totals.completion_tokens + totals.prompt_tokens,
            prompt_tokens_details: Details { cached_tokens: 0 },
        }
    }
}

impl<'a> Envelope<'a> {
    fn chunk(&self, choices: Vec<Choice<'a>>) -> Chunk<'a> {
        Chunk {
            choices,
            created: self.created,
            id: &self.chat.id,
            model: self.model,
            system_fingerprint: self.fingerprint,
            object: "chat.completion.chunk",
            usage: None,
            timings: None,
        }
    }

    /// The role, which comes with the first token.
    pub(super) fn put_role(&self, out: &mut BytesMut) {
        let role = Said {
            role: Some("assistant"),
            content: Some(None),
            ..Said::default()
        };
        put(out, &self.chunk(vec![delta(role)]));
    }

    /// A token. One without text has no chunk.
    pub(super) fn put_text(&self, out: &mut BytesMut, text: &str, reasoning: bool) {
        if text.is_empty() {
            return;
        }
        let said = if reasoning {
            Said {
                reasoning_content: Some(text),
                ..Said::default()
            }
        } else {
            Said {
                content: Some(Some(text)),
                ..Said::default()
            }
        };
        // The chunk lives no longer than the text.
        let envelope: &Envelope<'_> = self;
        put(out, &envelope.chunk(vec![delta(said)]));
    }

    /// The finish reason, and the usage where it was asked for; the timings go with the last of them.
    pub(super) fn put_end(&self, out: &mut BytesMut, stop: &Stop, totals: &Totals) {
        let mut finish = self.chunk(vec![Choice {
            finish_reason: Some(finish_reason(stop)),
            ..delta(Said::default())
        }]);
        if !self.chat.include_usage {
            finish.timings = Some(totals.timings);
            return put(out, &finish);
        }
        put(out, &finish);
        let usage = Chunk {
            usage: Some(totals.into()),
            timings: Some(totals.timings),
            ..self.chunk(Vec::new())
        };
        put(out, &usage);
    }

    /// The answer to a request without a stream.
    pub(super) fn whole(
        &self,
        stop: &Stop,
        (reasoning, content): (&str, &str),
        totals: &Totals,
    ) -> Result<String, serde_json::Error> {
        let message = Said {
            role: Some("assistant"),
            content: Some(Some(content)),
            reasoning_content: Some(reasoning).filter(|text| !text.is_empty()),
        };
        serde_json::to_string(&Whole {
            choices: vec![Choice {
                finish_reason: Some(finish_reason(stop)),
                index: 0,
                delta: None,
                message: Some(message),
            }],
            created: self.created,
            model: self.model,
            system_fingerprint: self.fingerprint,
            object: "chat.completion",
            usage: totals.into(),
            id: &self.chat.id,
            timings: totals.timings,
        })
    }
}

fn delta(said: Said<'_>) -> Choice<'_> {
    Choice {
        finish_reason: None,
        index: 0,
        delta: Some(said),
        message: None,
    }
}

fn finish_reason(stop: &Stop) -> &'static str {
    match stop.kind {
        StopKind::Limit => "length",
        StopKind::Eos | StopKind::Word(_) => "stop",
    }
}

/// Texts and numbers always have a JSON form; an empty frame would show in every test.
fn put(out: &mut BytesMut, chunk: &Chunk<'_>) {
    data(out, &serde_json::to_string(chunk).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chat(include_usage: bool) -> Chat {
        let body = json!({"stream_options": {"include_usage": include_usage}});
        Chat {
            id: "chatcmpl-x".to_owned(),
            ..Chat::of(body.as_object().unwrap())
        }
    }

    fn envelope(chat: &Chat) -> Envelope<'_> {
        Envelope {
            chat,
            created: 1_795_437_891,
            model: "tiny-alias",
            fingerprint: "b1-0c1e570",
        }
    }

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    /// Key by key as recorded (files 70 and 71 of the adapter's transcripts).
    #[test]
    fn chunks_have_the_recorded_form() {
        let chat = chat(true);
        let envelope = envelope(&chat);
        let rest = "\"created\":1795437891,\"id\":\"chatcmpl-x\",\"model\":\"tiny-alias\",\
            \"system_fingerprint\":\"b1-0c1e570\",\"object\":\"chat.completion.chunk\"";
        assert_eq!(
            written(|out| envelope.put_role(out)),
            format!(
                "data: {{\"choices\":[{{\"finish_reason\":null,\"index\":0,\"delta\":{{\"role\":\"assistant\",\
                 \"content\":null}}}}],{rest}}}\n\n"
            )
        );
        assert_eq!(
            written(|out| envelope.put_text(out, " gpu", false)),
            format!(
                "data: {{\"choices\":[{{\"finish_reason\":null,\"index\":0,\"delta\":{{\"content\":\" gpu\"}}}}],{rest}}}\n\n"
            )
        );
        let reasoning = written(|out| envelope.put_text(out, "hm", true));
        assert!(
            reasoning.contains("\"delta\":{\"reasoning_content\":\"hm\"}"),
            "{reasoning}"
        );
        assert_eq!(written(|out| envelope.put_text(out, "", false)), "");
    }

    #[test]
    fn the_usage_is_a_chunk_of_its_own_where_it_was_asked_for() {
        let stop = Stop {
            kind: StopKind::Limit,
            truncated: false,
        };
        let totals = Totals {
            prompt_tokens: 34,
            completion_tokens: 6,
            timings: Timings::new(34, 1.0, 6, 1.0),
        };
        let ends = [true, false].map(|usage| {
            let chat = chat(usage);
            written(|out| envelope(&chat).put_end(out, &stop, &totals))
        });
        assert_eq!(ends.each_ref().map(|end| end.matches("data: ").count()), [2, 1]);
        assert!(
            ends.iter()
                .all(|end| end.contains("\"finish_reason\":\"length\",\"index\":0,\"delta\":{}"))
        );
        assert!(
            ends[0].contains("\"choices\":[],\"created\":1795437891")
                && ends[0].contains(
                    "\"usage\":{\"completion_tokens\":6,\"prompt_tokens\":34,\"total_tokens\":40,\
             \"prompt_tokens_details\":{\"cached_tokens\":0}},\"timings\":{\"cache_n\":0"
                )
        );
        assert!(ends[1].contains("\"object\":\"chat.completion.chunk\",\"timings\":{\"cache_n\":0"));
    }
}
