//! What the scripted engine can say and how it counts. Input is one token per byte (and one for the
//! beginning); output is words with ids of their own, each with the front part of its frame encoded
//! beforehand. Pure.

use std::sync::LazyLock;

use super::super::script::Text;

/// The first text of every completion.
pub const DISCLAIMER: &str = "[scripted engine: no inference]";

/// `<s>`.
pub(super) const BOS: u32 = 1;
/// `</s>`.
pub(super) const EOS: u32 = 2;
/// The token of byte 0; the other bytes follow.
const FIRST_BYTE: u32 = 3;
const FIRST_WORD: u32 = FIRST_BYTE + 256;

/// Words about machines that follow a script, so that nobody takes the noise for an answer.
const WORDS: &str = "actor axle bell belt bolt brass cable cam chain chime clock clutch coil cord crank cue \
    curtain dial drum fan flag flywheel fuse gauge gear handle hinge hook horn key knob ladder lamp latch \
    lens lever line loop motor nut page pawl piston pivot plot prompt props pulley puppet ratchet reel \
    repeat rod rope scene screw script shaft spool spring stage string switch tape valve wheel wire";

/// Characters of two, three and four UTF-8 bytes, and one that is two code points.
const MULTIBYTE: &str = "é ü ñ ß Ω ж ☃ 海 語 ∑ € 한 😀 🎛 🧵 🤖 👍🏽";

/// One thing to say.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) id: u32,
    /// Tokens that it is made of; a frame comes only when all are there.
    pub(super) pieces: u32,
    /// Its frame up to the number of tokens predicted.
    pub(super) frame_start: Vec<u8>,
}

impl Word {
    fn new(text: String, id: u32, pieces: u32) -> Self {
        let frame_start = frame_start(&text, id);
        Self {
            text,
            id,
            pieces,
            frame_start,
        }
    }
}

/// A token frame up to the number of tokens predicted.
pub(super) fn frame_start(text: &str, id: u32) -> Vec<u8> {
    let content = serde_json::Value::from(text);
    format!(
        "data: {{\"index\":0,\"content\":{content},\"tokens\":[{id}],\"stop\":false,\"id_slot\":-1,\"tokens_predicted\":"
    )
    .into_bytes()
}

struct Vocabulary {
    disclaimer: Word,
    end: Word,
    empty: Word,
    words: Vec<Word>,
    multibyte: Vec<Word>,
}

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let mut ids = FIRST_WORD..;
    let mut word = |text: String, pieces| Word::new(text, ids.next().unwrap_or(FIRST_WORD), pieces);
    Vocabulary {
        disclaimer: word(DISCLAIMER.to_owned(), 1),
        end: Word::new(String::new(), EOS, 1),
        empty: word(String::new(), 1),
        words: WORDS
            .split_whitespace()
            .map(|text| word(format!(" {text}"), 1))
            .collect(),
        multibyte: MULTIBYTE
            .split_whitespace()
            .map(|text| word(text.to_owned(), u32::try_from(text.len()).unwrap_or(1)))
            .collect(),
    }
});

pub(super) fn disclaimer() -> &'static Word {
    &VOCABULARY.disclaimer
}

/// The end of sequence: a frame without text.
pub(super) fn end_of_sequence() -> &'static Word {
    &VOCABULARY.end
}

/// A token without text.
pub(super) fn empty() -> &'static Word {
    &VOCABULARY.empty
}

/// The word that this random number stands for.
pub(super) fn word(text: Text, random: u64) -> &'static Word {
    let words = match text {
        Text::Words => &VOCABULARY.words,
        Text::Multibyte => &VOCABULARY.multibyte,
    };
    let index = usize::try_from(random % words.len() as u64).unwrap_or(0);
    &words[index]
}

/// Number of ids: every smaller number is a token.
pub(super) fn size() -> u32 {
    let vocabulary = &*VOCABULARY;
    let words = 2 + vocabulary.words.len() + vocabulary.multibyte.len();
    FIRST_WORD + u32::try_from(words).unwrap_or(0)
}

/// The tokens of a text: its bytes.
pub(super) fn tokenize(text: &str) -> impl Iterator<Item = u32> {
    text.bytes().map(|byte| FIRST_BYTE + u32::from(byte))
}

/// The bytes that a token stands for; `None` for a number that is none.
pub(super) fn bytes_of(id: u32) -> Option<Vec<u8>> {
    match id {
        0 => Some(b"<unk>".to_vec()),
        BOS => Some(b"<s>".to_vec()),
        EOS => Some(b"</s>".to_vec()),
        _ => match u8::try_from(id - FIRST_BYTE) {
            Ok(byte) => Some(vec![byte]),
            Err(_) => word_of(id).map(|word| word.text.clone().into_bytes()),
        },
    }
}

/// The text of tokens; what is not UTF-8 becomes U+FFFD.
pub(super) fn detokenize(ids: &[u32]) -> Option<String> {
    let bytes = ids
        .iter()
        .map(|id| bytes_of(*id))
        .collect::<Option<Vec<_>>>()?
        .concat();
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn word_of(id: u32) -> Option<&'static Word> {
    let vocabulary = &*VOCABULARY;
    let own = [&vocabulary.disclaimer, &vocabulary.empty];
    let lists = vocabulary.words.iter().chain(&vocabulary.multibyte);
    own.into_iter().chain(lists).find(|word| word.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_the_way_through_tokens() {
        let text = "the moon é 海";
        let ids: Vec<u32> = tokenize(text).collect();
        assert_eq!(detokenize(&ids).as_deref(), Some(text));
        assert_eq!(detokenize(&[size()]), None);
    }

    #[test]
    fn every_id_below_the_size_is_a_token() {
        assert!((0..size()).all(|id| bytes_of(id).is_some()));
    }
}
