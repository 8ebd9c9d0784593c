//! Sampling settings: read from a request with the real server's checks and messages, and echoed in
//! its order of keys. They change nothing but the choice of words. Pure.

use serde::Serialize;
use serde_json::{Map, Value};

use super::errors::Refusal;

/// The echo in final frames, `/props` and `/slots`. Fields are in wire order.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    pub(super) seed: u32,
    temperature: f64,
    dynatemp_range: f64,
    dynatemp_exponent: f64,
    top_k: i64,
    top_p: f64,
    min_p: f64,
    top_n_sigma: f64,
    xtc_probability: f64,
    xtc_threshold: f64,
    typical_p: f64,
    repeat_last_n: i64,
    repeat_penalty: f64,
    presence_penalty: f64,
    frequency_penalty: f64,
    dry_multiplier: f64,
    dry_base: f64,
    dry_allowed_length: i64,
    dry_penalty_last_n: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_sequence_breakers: Option<[&'static str; 4]>,
    mirostat: i64,
    mirostat_tau: f64,
    mirostat_eta: f64,
    adaptive_target: f64,
    adaptive_decay: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stop: Option<Vec<String>>,
    max_tokens: i64,
    pub(super) n_predict: i64,
    n_keep: i64,
    n_discard: i64,
    pub(super) ignore_eos: bool,
    pub(super) stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    logit_bias: Option<[u8; 0]>,
    n_probs: i64,
    min_keep: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    grammar: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grammar_lazy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grammar_triggers: Option<[u8; 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preserved_tokens: Option<[u8; 0]>,
    chat_format: &'static str,
    reasoning_format: &'static str,
    reasoning_in_content: bool,
    generation_prompt: &'static str,
    samplers: [&'static str; 9],
    #[serde(rename = "speculative.types")]
    speculative_types: &'static str,
    pub(super) timings_per_token: bool,
    post_sampling_probs: bool,
    backend_sampling: bool,
    lora: [u8; 0],
}

impl Settings {
    /// What a request without any settings gets, in the form that `/props` shows.
    pub(super) fn defaults() -> Result<Self, Refusal> {
        Self::numbers(&Fields(&Map::new()))
    }

    /// The settings of a request.
    pub(super) fn parse(body: &Map<String, Value>) -> Result<Self, Refusal> {
        let fields = Fields(body);
        let mut settings = Self::numbers(&fields)?;
        settings.stop = Some(fields.texts("stop")?);
        settings.grammar = Some(fields.text("grammar")?.unwrap_or_default());
        settings.dry_sequence_breakers = Some(["\n", ":", "\"", "*"]);
        settings.logit_bias = Some([]);
        settings.grammar_lazy = Some(false);
        settings.grammar_triggers = Some([]);
        settings.preserved_tokens = Some([]);
        settings.reasoning_format = "deepseek";
        Ok(settings)
    }

    /// The form that `/slots` shows: without lists and texts.
    pub(super) fn brief(&self) -> Self {
        Self {
            dry_sequence_breakers: None,
            stop: None,
            logit_bias: None,
            grammar: None,
            grammar_lazy: None,
            grammar_triggers: None,
            preserved_tokens: None,
            ..self.clone()
        }
    }

    /// What the choice of words depends on: everything but the way of delivery.
    pub(super) fn for_choice(&self) -> Self {
        Self {
            stream: false,
            timings_per_token: false,
            ..self.brief()
        }
    }

    fn numbers(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let n_predict = fields.n_predict()?;
        Ok(Self {
            seed: fields.seed()?,
            temperature: fields.float("temperature", 0.8)?.max(0.0),
            dynatemp_range: fields.float("dynatemp_range", 0.0)?,
            dynatemp_exponent: fields.float("dynatemp_exponent", 1.0)?,
            top_k: fields.integer("top_k", 40)?,
            top_p: fields.float("top_p", 0.95)?.clamp(0.0, 1.0),
            min_p: fields.float("min_p", 0.05)?,
            top_n_sigma: fields.float("top_n_sigma", -1.0)?,
            xtc_probability: fields.float("xtc_probability", 0.0)?,
            xtc_threshold: fields.float("xtc_threshold", 0.1)?,
            typical_p: fields.float("typical_p", 1.0)?,
            repeat_last_n: fields.integer("repeat_last_n", 64)?,
            repeat_penalty: fields.float("repeat_penalty", 1.0)?,
            presence_penalty: fields.float("presence_penalty", 0.0)?,
            frequency_penalty: fields.float("frequency_penalty", 0.0)?,
            dry_multiplier: fields.float("dry_multiplier", 0.0)?,
            dry_base: fields.float("dry_base", 1.75)?,
            dry_allowed_length: fields.integer("dry_allowed_length", 2)?,
            dry_penalty_last_n: fields.integer("dry_penalty_last_n", 64)?,
            dry_sequence_breakers: None,
            mirostat: fields.integer("mirostat", 0)?,
            mirostat_tau: fields.float("mirostat_tau", 5.0)?,
            mirostat_eta: fields.float("mirostat_eta", 0.1)?,
            adaptive_target: fields.float("adaptive_target", -1.0)?,
            adaptive_decay: fields.float("adaptive_decay", 0.9)?,
            stop: None,
            max_tokens: n_predict,
            n_predict,
            n_keep: fields.integer("n_keep", 0)?,
            n_discard: fields.integer("n_discard", 0)?,
            ignore_eos: fields.boolean("ignore_eos", false)?,
            stream: fields.boolean("stream", false)?,
            logit_bias: None,
            n_probs: fields.integer("n_probs", 0)?,
            min_keep: fields.integer("min_keep", 0)?,
            grammar: None,
            grammar_lazy: None,
            grammar_triggers: None,
            preserved_tokens: None,
            chat_format: "Content-only",
            reasoning_format: "none",
            reasoning_in_content: false,
            generation_prompt: "",
            samplers: [
                "penalties",
                "dry",
                "top_n_sigma",
                "top_k",
                "typ_p",
                "top_p",
                "min_p",
                "xtc",
                "temperature",
            ],
            speculative_types: "none",
            timings_per_token: fields.boolean("timings_per_token", false)?,
            post_sampling_probs: false,
            backend_sampling: false,
            lora: [],
        })
    }
}

/// A request's fields, read with the real server's messages. `null` counts as absent.
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn boolean(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        value.as_bool().ok_or_else(|| wrong_type(name, "boolean", value))
    }

    /// The real server computes in single precision and echoes the rounded number.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "single precision is what the real server has"
    )]
    fn float(&self, name: &str, default: f32) -> Result<f64, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(f64::from(default));
        };
        let number = value.as_f64().ok_or_else(|| wrong_type(name, "number", value))?;
        Ok(f64::from(number as f32))
    }

    /// Fractions are cut off, as a C++ conversion does.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "cutting fractions off is the point"
    )]
    pub(super) fn integer(&self, name: &str, default: i64) -> Result<i64, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        let number = value
            .as_i64()
            .or_else(|| value.as_f64().map(|number| number as i64));
        number.ok_or_else(|| wrong_type(name, "number", value))
    }

    fn n_predict(&self) -> Result<i64, Refusal> {
        let names = ["n_predict", "max_tokens", "max_completion_tokens"];
        let name = names
            .into_iter()
            .find(|name| self.get(name).is_some())
            .unwrap_or("n_predict");
        let value = self.integer(name, -1)?;
        if (-1..=2_147_483_647).contains(&value) {
            return Ok(value);
        }
        Err(Refusal::invalid(format!(
            "Field '{name}': Value must be between -1 <= value <= 2147483647, but got {value}"
        )))
    }

    /// Larger numbers are reduced modulo 2^32, and −1 is the random seed.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as the real server does"
    )]
    fn seed(&self) -> Result<u32, Refusal> {
        Ok(self.integer("seed", -1)? as u32)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let text = value.as_str().ok_or_else(|| wrong_type(name, "string", value))?;
        Ok(Some(text.to_owned()))
    }

    /// A text or a list of texts; empty ones do not count.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        let texts = match self.get(name) {
            None => Vec::new(),
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(items)) => {
                let text = |item: &Value| {
                    item.as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| wrong_type(name, "string", item))
                };
                items.iter().map(text).collect::<Result<_, _>>()?
            }
            Some(other) => return Err(wrong_type(name, "array", other)),
        };
        Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
    }
}

fn wrong_type(name: &str, wanted: &str, got: &Value) -> Refusal {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Refusal::invalid(format!(
        "Field '{name}': [json.exception.type_error.302] type must be {wanted}, but is {got}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: Value) -> Result<Settings, String> {
        let Value::Object(body) = body else {
            panic!("not an object: {body}")
        };
        Settings::parse(&body).map_err(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn the_echo_has_the_recorded_bytes() {
        let settings =
            parse(json!({"seed": 42, "temperature": 0.8, "n_predict": 12, "stream": true})).unwrap();
        let expected = concat!(
            r#"{"seed":42,"temperature":0.800000011920929,"dynatemp_range":0.0,"dynatemp_exponent":1.0,"top_k":40,"#,
            r#""top_p":0.949999988079071,"min_p":0.05000000074505806,"top_n_sigma":-1.0,"xtc_probability":0.0,"#,
            r#""xtc_threshold":0.10000000149011612,"typical_p":1.0,"repeat_last_n":64,"repeat_penalty":1.0,"#,
            r#""presence_penalty":0.0,"frequency_penalty":0.0,"dry_multiplier":0.0,"dry_base":1.75,"#,
            r#""dry_allowed_length":2,"dry_penalty_last_n":64,"dry_sequence_breakers":["\n",":","\"","*"],"mirostat":0,"#,
            r#""mirostat_tau":5.0,"mirostat_eta":0.10000000149011612,"adaptive_target":-1.0,"#,
            r#""adaptive_decay":0.8999999761581421,"stop":[],"max_tokens":12,"n_predict":12,"n_keep":0,"n_discard":0,"#,
            r#""ignore_eos":false,"stream":true,"logit_bias":[],"n_probs":0,"min_keep":0,"grammar":"","#,
            r#""grammar_lazy":false,"grammar_triggers":[],"preserved_tokens":[],"chat_format":"Content-only","#,
            r#""reasoning_format":"deepseek","reasoning_in_content":false,"generation_prompt":"","samplers":"#,
            r#"["penalties","dry","top_n_sigma","top_k","typ_p","top_p","min_p","xtc","temperature"],"#,
            r#""speculative.types":"none","timings_per_token":false,"post_sampling_probs":false,"#,
            r#""backend_sampling":false,"lora":[]}"#
        );
        assert_eq!(serde_json::to_string(&settings).unwrap(), expected);
    }

    #[test]
    fn seeds_behave_as_measured() {
        for (sent, used) in [
            (json!(12_345_678_901_234_u64), 1_942_892_530),
            (json!(-1), u32::MAX),
            (json!(1.5), 1),
        ] {
            assert_eq!(parse(json!({"seed": sent})).unwrap().seed, used);
        }
    }

    #[test]
    fn wrong_values_have_the_recorded_messages() {
        let wrong = parse(json!({"n_predict": "four"})).unwrap_err();
        assert!(
            wrong.contains(
                "Field 'n_predict': [json.exception.type_error.302] type must be number, but is string"
            ),
            "{wrong}"
        );
        let wrong = parse(json!({"n_predict": -5})).unwrap_err();
        assert!(
            wrong.contains("Field 'n_predict': Value must be between -1 <= value <= 2147483647, but got -5"),
            "{wrong}"
        );
    }
}
