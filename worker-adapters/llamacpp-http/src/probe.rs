//! The short calls: `/health`, `/props`, `/tokenize`, `/apply-template`. Their wire forms, and what they mean.

use adapter_api::{AdapterError, AdapterErrorKind, EngineProps, Health};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// `GET /health`. Says nothing about slots or the GPU, and stays "ok" while the server sleeps.
#[derive(Debug, Deserialize)]
pub(crate) struct HealthReply {
    status: String,
}

impl From<HealthReply> for Health {
    fn from(reply: HealthReply) -> Self {
        if reply.status == "ok" {
            return Self::Ready;
        }
        Self::Unhealthy {
            detail: format!("llama.cpp: health is \"{:.32}\"", reply.status),
        }
    }
}

/// Health, where the probe brought an error: an engine that answers is there, an engine that is silent is not.
pub(crate) fn health_of_failure(error: AdapterError, answered: bool) -> Result<Health, AdapterError> {
    match error.kind {
        AdapterErrorKind::NotReady if answered => Ok(Health::Loading),
        _ if answered => Ok(Health::Unhealthy {
            detail: error.message,
        }),
        _ => Err(error),
    }
}

/// `GET /props`. Servers differ in what else they tell; these two are everywhere.
#[derive(Debug, Deserialize)]
pub(crate) struct PropsReply {
    total_slots: u32,
    default_generation_settings: GenerationSettings,
    model_alias: Option<String>,
    model_path: Option<String>,
    build_info: Option<String>,
}

#[derive(Debug, Deserialize)]
struct GenerationSettings {
    n_ctx: u32,
}

impl From<PropsReply> for EngineProps {
    fn from(reply: PropsReply) -> Self {
        Self {
            engine_version: reply.build_info,
            slots_total: Some(reply.total_slots),
            ctx_per_slot: Some(reply.default_generation_settings.n_ctx),
            model_name: reply.model_alias,
            model_path: reply.model_path,
        }
    }
}

/// `POST /tokenize`, with the special tokens that a prompt gets.
#[derive(Debug, Serialize)]
pub(crate) struct Tokenize<'a> {
    content: &'a str,
    add_special: bool,
}

impl<'a> From<&'a str> for Tokenize<'a> {
    fn from(content: &'a str) -> Self {
        Self {
            content,
            add_special: true,
        }
    }
}

/// `POST /apply-template`.
#[derive(Debug, Deserialize)]
pub(crate) struct ApplyTemplateReply {
    pub(crate) prompt: String,
}

/// The ids are counted, not kept.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenizeReply {
    tokens: Vec<IgnoredAny>,
}

impl TokenizeReply {
    pub(crate) fn count(&self) -> u32 {
        // A reply is bounded by the HTTP client, far below 2³² tokens.
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }
}
