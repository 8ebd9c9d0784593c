//! What the header says of the model, in the words of the catalog. Pure.

use std::collections::BTreeMap;

use api_types::{ModelFacts, ModelFormat};

use super::header::Header;
use super::parts::offloaded_of;
use super::tensors::TensorType;
use super::value::Value;

const TEMPLATE: &str = "tokenizer.chat_template";
const VOCABULARY: &str = "tokenizer.ggml.tokens";
/// In `general.file_type`, over the type itself: the writer has guessed it.
const GUESSED: u64 = 1024;
/// State of recurrent layers is kept in 32-bit floats.
const STATE_BYTES: u64 = 4;

/// The facts of a model, from its header and those of its other parts, with the sizes of their tensors.
#[must_use]
pub fn facts(parts: &[(Header, Vec<u64>)]) -> Option<ModelFacts> {
    let (first, _) = parts.first()?;
    let keys = Keys {
        header: first,
        architecture: first.text("general.architecture").unwrap_or_default(),
    };
    let layers = keys
        .number("block_count")
        .and_then(|layers| u32::try_from(layers).ok());
    let heads = keys.most("attention.head_count");
    let embedding = keys.number("embedding_length");
    let by_head = embedding
        .zip(heads)
        .and_then(|(width, heads)| width.checked_div(heads));
    let kv_heads = keys.kv_heads(heads);
    Some(ModelFacts {
        format: ModelFormat::Gguf,
        architecture: first.text("general.architecture").map(str::to_owned),
        name: first.text("general.name").map(str::to_owned),
        quantization: quantization(first, parts),
        parameters: sum(tensors(parts).map(|(tensor, _)| tensor.elements)),
        tensor_bytes: sum(tensors(parts).map(|(_, size)| size)),
        offloaded_bytes: offloaded_of(parts),
        context_length: keys.number("context_length"),
        layers,
        embedding_length: embedding,
        feed_forward_length: keys.most("feed_forward_length"),
        heads: heads.and_then(|heads| u32::try_from(heads).ok()),
        key_length: keys.number("attention.key_length").or(by_head),
        value_length: keys.number("attention.value_length").or(by_head),
        latent_length: keys.latent(),
        sliding_window: keys
            .number("attention.sliding_window")
            .filter(|window| *window > 0),
        sliding_layers: keys.sliding_layers(),
        recurrent_bytes: keys.recurrent_bytes(layers, &kv_heads),
        kv_heads,
        vocabulary: keys.vocabulary(),
        experts: keys
            .number("expert_count")
            .and_then(|experts| u32::try_from(experts).ok()),
        chat_template: first.pairs.contains_key(TEMPLATE),
    })
}

/// The template, where it is not too long to be kept.
pub(crate) fn chat_template(header: &Header) -> Option<&str> {
    header.text(TEMPLATE)
}

/// Whether the file is no model of its own: a projector or an adapter.
pub(crate) fn is_companion(header: &Header) -> bool {
    let kind = header.text("general.type");
    matches!(kind, Some("mmproj" | "adapter")) || header.text("general.architecture") == Some("clip")
}

/// Keys of the model's family.
struct Keys<'a> {
    header: &'a Header,
    architecture: &'a str,
}

impl Keys<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        self.header.pairs.get(&format!("{}.{key}", self.architecture))
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.value(key)?.number()
    }

    /// A number, or the largest of one per layer.
    fn most(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            Value::Number(number) => Some(*number),
            Value::Numbers(numbers) => numbers.iter().copied().max(),
            Value::Negative(_) | Value::Real(_) | Value::Text(_) | Value::Count(_) => None,
        }
    }

    fn kv_heads(&self, heads: Option<u64>) -> Vec<u32> {
        let narrow = |number: &u64| u32::try_from(*number).unwrap_or(u32::MAX);
        let of = |key| match self.value(key) {
            Some(Value::Number(number)) => Some(vec![narrow(number)]),
            Some(Value::Numbers(numbers)) => Some(numbers.iter().map(narrow).collect()),
            _ => None,
        };
        of("attention.head_count_kv")
            .or_else(|| of("attention.head_count"))
            .or_else(|| heads.as_ref().map(|heads| vec![narrow(heads)]))
            .unwrap_or_default()
    }

    /// One vector per token and layer instead of keys and values.
    fn latent(&self) -> Option<u64> {
        let rank = self.number("attention.kv_lora_rank").filter(|rank| *rank > 0)?;
        rank.checked_add(self.number("rope.dimension_count").unwrap_or_default())
    }

    fn sliding_layers(&self) -> Option<u32> {
        let Value::Numbers(pattern) = self.value("attention.sliding_window_pattern")? else {
            return None;
        };
        u32::try_from(pattern.iter().filter(|has_window| **has_window > 0).count()).ok()
    }

    /// Layers without heads keep a state of fixed size per sequence.
    fn recurrent_bytes(&self, layers: Option<u32>, kv_heads: &[u32]) -> u64 {
        let state = || {
            let inner = self.number("ssm.inner_size")?;
            let state = self.number("ssm.state_size")?;
            let groups = self.number("ssm.group_count").unwrap_or_default();
            let kernel = self.number("ssm.conv_kernel")?.saturating_sub(1);
            let convolution = inner
                .checked_add(groups.checked_mul(state)?.checked_mul(2)?)?
                .checked_mul(kernel)?;
            let per_layer = convolution.checked_add(state.checked_mul(inner)?)?;
            let without_heads = match kv_heads {
                [] | [0] => u64::from(layers?),
                [_] => 0,
                each => each.iter().filter(|heads| **heads == 0).count() as u64,
            };
            per_layer.checked_mul(STATE_BYTES)?.checked_mul(without_heads)
        };
        state().unwrap_or_default()
    }

    fn vocabulary(&self) -> Option<u64> {
        match self.header.pairs.get(VOCABULARY) {
            Some(Value::Count(tokens)) => Some(*tokens),
            _ => self.number("vocab_size"),
        }
    }
}

fn tensors(parts: &[(Header, Vec<u64>)]) -> impl Iterator<Item = (&super::Tensor, u64)> {
    parts
        .iter()
        .flat_map(|(header, sizes)| header.tensors.iter().zip(sizes.iter().copied()))
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// What the header calls its type, else the type that most of the numbers have.
fn quantization(first: &Header, parts: &[(Header, Vec<u64>)]) -> Option<String> {
    let named = first
        .number("general.file_type")
        .and_then(|id| file_type(id & !GUESSED));
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    for (tensor, _) in tensors(parts) {
        if let Some(of) = TensorType::of(tensor.kind) {
            let known = numbers.entry(of.name).or_default();
            *known = known.saturating_add(tensor.elements);
        }
    }
    let most = numbers.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(name, _)| name.to_owned())
}

const fn file_type(id: u64) -> Option<&'static str> {
    Some(match id {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        25 => "IQ4_NL",
        30 => "IQ4_XS",
        32 => "BF16",
        38 => "MXFP4_MOE",
        _ => return None,
    })
}
