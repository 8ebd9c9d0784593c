//! The vocabulary of the tiny model, of SentencePiece's kind: three special tokens, all bytes (so any
//! text can be tokenized and output can split characters), some words, single characters. Pure data.

use super::writer::GgufWriter;

const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n\
    {% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

/// SentencePiece writes a space so.
const SPACE: char = '\u{2581}';

const WORDS: &str = "a and are as at be but by for from has have he her his i in is it not of on or she that \
    the they this to was we were which with you your hello world moon river stone tree night light water";

/// Characters of several bytes that are tokens of their own; others are made of bytes.
const CHARACTERS: &str = "éüñ☃海😀";

const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;
const NORMAL: i32 = 1;

struct Vocabulary {
    pieces: Vec<Vec<u8>>,
    scores: Vec<f32>,
    kinds: Vec<i32>,
}

impl Vocabulary {
    fn new() -> Self {
        let mut vocabulary = Self {
            pieces: Vec::new(),
            scores: Vec::new(),
            kinds: Vec::new(),
        };
        vocabulary.push("<unk>", UNKNOWN);
        vocabulary.push("<s>", CONTROL);
        vocabulary.push("</s>", CONTROL);
        for byte in 0..=u8::MAX {
            vocabulary.push(&format!("<0x{byte:02X}>"), BYTE);
        }
        for word in WORDS.split_whitespace() {
            vocabulary.push(&format!("{SPACE}{word}"), NORMAL);
        }
        vocabulary.push(&SPACE.to_string(), NORMAL);
        for character in ('!'..='~').chain(CHARACTERS.chars()) {
            vocabulary.push(&character.to_string(), NORMAL);
        }
        vocabulary
    }

    /// Pieces that come earlier are merged first.
    fn push(&mut self, piece: &str, kind: i32) {
        let rank = u16::try_from(self.pieces.len()).unwrap_or(u16::MAX);
        self.pieces.push(piece.as_bytes().to_vec());
        self.scores
            .push(if kind == NORMAL { -f32::from(rank) } else { 0.0 });
        self.kinds.push(kind);
    }
}

/// Number of tokens.
pub(super) fn size() -> u32 {
    u32::try_from(Vocabulary::new().pieces.len()).unwrap_or(u32::MAX)
}

/// Writes the tokenizer's part of the metadata.
pub(super) fn describe(writer: &mut GgufWriter) {
    let vocabulary = Vocabulary::new();
    writer.number("llama.vocab_size", size());
    writer.text("tokenizer.ggml.model", "llama");
    writer.texts("tokenizer.ggml.tokens", &vocabulary.pieces);
    writer.reals("tokenizer.ggml.scores", &vocabulary.scores);
    writer.integers("tokenizer.ggml.token_type", &vocabulary.kinds);
    writer.number("tokenizer.ggml.unknown_token_id", 0);
    writer.number("tokenizer.ggml.bos_token_id", 1);
    writer.number("tokenizer.ggml.eos_token_id", 2);
    writer.flag("tokenizer.ggml.add_bos_token", true);
    writer.flag("tokenizer.ggml.add_eos_token", false);
    writer.text("tokenizer.chat_template", CHAT_TEMPLATE);
}
