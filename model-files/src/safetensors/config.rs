//! The configuration beside the weights: `config.json` and the tokenizer's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use api_types::{ModelFacts, ModelFormat};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::header::Header;
use crate::error::ReadError;
use crate::limits::{LONGEST_CONFIG, LONGEST_TEXT, MOST_LAYERS};

/// What `config.json` says that matters here. Configurations of models with several parts have that of the language model
/// in `text_config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    model_type: Option<String>,
    hidden_size: Option<u64>,
    intermediate_size: Option<u64>,
    num_hidden_layers: Option<u32>,
    num_attention_heads: Option<u32>,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u64>,
    max_position_embeddings: Option<u64>,
    vocab_size: Option<u64>,
    sliding_window: Option<u64>,
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
    kv_lora_rank: Option<u64>,
    qk_rope_head_dim: Option<u64>,
    #[serde(alias = "num_local_experts", alias = "n_routed_experts")]
    num_experts: Option<u32>,
    quantization_config: Option<Quantization>,
    text_config: Option<Box<Config>>,
    /// Programs that loading the model would run.
    auto_map: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Quantization {
    quant_method: Option<String>,
    bits: Option<u64>,
}

impl Config {
    /// Reads it. Blocking.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn of_file(path: &Path) -> Result<Self, ReadError> {
        json(path, "config.json")
    }

    /// The same of its text.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn of_text(text: &str) -> Result<Self, ReadError> {
        serde_json::from_str(text).map_err(|error| none("config.json", &error))
    }

    /// Whether it names programs that its maker wants to be run.
    #[must_use]
    pub fn names_code(&self) -> bool {
        self.auto_map.as_ref().is_some_and(|map| !map.is_empty())
            || self.text_config.as_ref().is_some_and(|text| text.names_code())
    }

    fn quantized(&self) -> Option<String> {
        let quantization = self.quantization_config.as_ref()?;
        let method = quantization.quant_method.as_deref()?.to_uppercase();
        Some(match quantization.bits {
            Some(bits) => format!("{method} {bits} bits"),
            None => method,
        })
    }
}

/// The facts of a model, of all its files and its configuration. The template is whoever's who has read it.
#[must_use]
pub fn facts(headers: &[Header], config: &Config) -> ModelFacts {
    let tensors = || headers.iter().flat_map(|header| header.tensors.values());
    let bytes = tensors().fold(0, |sum: u64, tensor| sum.saturating_add(tensor.bytes()));
    let text = config.text_config.as_deref().unwrap_or(config);
    let heads = text.num_attention_heads;
    let by_head = text
        .hidden_size
        .zip(heads)
        .and_then(|(width, heads)| width.checked_div(heads.into()));
    let head = text.head_dim.or(by_head);
    let window = text
        .sliding_window
        .filter(|window| *window > 0 && text.use_sliding_window != Some(false));
    let sliding = text
        .layer_types
        .as_ref()
        .filter(|layers| layers.len() as u64 <= MOST_LAYERS);
    let sliding = sliding.map(|layers| layers.iter().filter(|kind| *kind == "sliding_attention").count());
    ModelFacts {
        format: ModelFormat::Safetensors,
        architecture: text.model_type.clone().or_else(|| config.model_type.clone()),
        name: None,
        quantization: config
            .quantized()
            .or_else(|| text.quantized())
            .or_else(|| most_common(headers)),
        parameters: tensors().fold(0, |sum: u64, tensor| {
            sum.saturating_add(tensor.elements().unwrap_or(u64::MAX))
        }),
        tensor_bytes: bytes,
        // Engines that read this format keep every tensor on the GPU.
        offloaded_bytes: bytes,
        context_length: text.max_position_embeddings,
        layers: text.num_hidden_layers,
        embedding_length: text.hidden_size,
        feed_forward_length: text.intermediate_size,
        heads,
        kv_heads: text.num_key_value_heads.or(heads).into_iter().collect(),
        key_length: head,
        value_length: head,
        latent_length: text
            .kv_lora_rank
            .filter(|rank| *rank > 0)
            .and_then(|rank| rank.checked_add(text.qk_rope_head_dim.unwrap_or_default())),
        sliding_window: window,
        sliding_layers: window.and(sliding).and_then(|layers| u32::try_from(layers).ok()),
        recurrent_bytes: 0,
        vocabulary: text.vocab_size,
        experts: text.num_experts,
        chat_template: false,
    }
}

/// The type that most of the numbers have.
fn most_common(headers: &[Header]) -> Option<String> {
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in headers.iter().flat_map(|header| header.tensors.values()) {
        let known = numbers.entry(&tensor.dtype).or_default();
        *known = known.saturating_add(tensor.elements().unwrap_or_default());
    }
    let most = numbers.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(dtype, _)| dtype.to_owned())
}

/// The template in a tokenizer's configuration; of several, the one that is called `default`.
pub(crate) fn tokenizer_template(path: &Path) -> Result<Option<String>, ReadError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Template {
        One(String),
        Named(Vec<Named>),
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
        template: String,
    }
    #[derive(Deserialize)]
    struct Tokenizer {
        chat_template: Option<Template>,
    }
    let tokenizer: Tokenizer = json(path, "tokenizer_config.json")?;
    let template = match tokenizer.chat_template {
        Some(Template::One(template)) => Some(template),
        Some(Template::Named(named)) => named
            .into_iter()
            .find(|named| named.name == "default")
            .map(|named| named.template),
        None => None,
    };
    Ok(template.filter(|template| template.len() as u64 <= LONGEST_TEXT))
}

/// A text of at most [`LONGEST_TEXT`] bytes.
pub(crate) fn read_text(path: &Path) -> Result<String, ReadError> {
    let bytes = read(path, "bytes of a text", LONGEST_TEXT)?;
    String::from_utf8(bytes).map_err(|_| ReadError::malformed("a text", "must be UTF-8"))
}

fn json<T: DeserializeOwned>(path: &Path, format: &'static str) -> Result<T, ReadError> {
    let bytes = read(path, "bytes of a configuration", LONGEST_CONFIG)?;
    serde_json::from_slice(&bytes).map_err(|error| none(format, &error))
}

fn read(path: &Path, what: &'static str, most: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    let found = bytes.len() as u64;
    if found > most {
        return Err(ReadError::Limit { what, found, most });
    }
    Ok(bytes)
}

fn none(format: &'static str, error: &serde_json::Error) -> ReadError {
    ReadError::Format {
        format,
        found: error.to_string(),
    }
}
