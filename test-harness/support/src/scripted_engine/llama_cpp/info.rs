//! What the engine tells about itself: `/props`, `/v1/models`, `/slots`, tokens and templates.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::engine::Engine;
use super::super::http::{Request, Response};
use super::super::script::EngineError;
use super::completion::SlotTask;
use super::errors::{Refusal, error_response};
use super::job::object;
use super::settings::{Fields, Settings};
use super::{template, vocabulary};

/// `GET /props`.
pub(super) fn props(engine: &Engine) -> Result<Response, Refusal> {
    let (launch, script) = (&engine.launch, engine.script());
    ok(&Props {
        default_generation_settings: DefaultSettings {
            params: Settings::defaults()?,
            n_ctx: launch.slot_ctx(script.n_ctx_train),
        },
        total_slots: engine.slots.count(),
        model_alias: launch.model_name(),
        model_ftype: "scripted",
        model_path: launch
            .model
            .as_deref()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        modalities: json!({"vision": false, "video": false, "audio": false}),
        endpoint_slots: launch.slots,
        endpoint_props: launch.props,
        endpoint_metrics: launch.metrics,
        ui: false,
        chat_template: template::CHAT_TEMPLATE,
        bos_token: "<s>",
        eos_token: "</s>",
        build_info: script.build_info.clone(),
        is_sleeping: false,
    })
}

#[derive(Serialize)]
struct Props {
    default_generation_settings: DefaultSettings,
    total_slots: usize,
    model_alias: String,
    model_ftype: &'static str,
    model_path: String,
    modalities: Value,
    endpoint_slots: bool,
    endpoint_props: bool,
    endpoint_metrics: bool,
    ui: bool,
    chat_template: &'static str,
    bos_token: &'static str,
    eos_token: &'static str,
    build_info: String,
    is_sleeping: bool,
}

#[derive(Serialize)]
struct DefaultSettings {
    params: Settings,
    n_ctx: u32,
}

/// `GET /v1/models`.
pub(super) fn models(engine: &Engine) -> Result<Response, Refusal> {
    let (name, script) = (engine.launch.model_name(), engine.script());
    let size = engine
        .launch
        .model
        .as_deref()
        .and_then(|path| path.metadata().ok())
        .map_or(0, |meta| meta.len());
    ok(&json!({
        "models": [{
            "name": name, "model": name, "modified_at": "", "size": "", "digest": "", "type": "model",
            "description": "scripted engine: no inference", "tags": [""], "capabilities": ["completion"],
            "parameters": "", "details": {
                "parent_model": "", "format": "gguf", "family": "", "families": [""], "parameter_size": "",
                "quantization_level": ""
            }
        }],
        "object": "list",
        "data": [{
            "id": name, "aliases": [name], "tags": [], "object": "model",
            // Seconds since the engine's start: the scripted engine has no calendar.
            "created": engine.started.elapsed().as_secs(),
            "owned_by": "llamacpp",
            "meta": {
                "vocab_type": 1, "n_vocab": vocabulary::size(),
                "n_ctx": engine.launch.slot_ctx(script.n_ctx_train), "n_ctx_train": script.n_ctx_train,
                "n_embd": 0, "n_params": 0, "size": size, "ftype": "scripted"
            }
        }]
    }))
}

/// `GET /slots`.
pub(super) fn slots(engine: &Engine, request: &Request) -> Result<Response, Refusal> {
    let all_busy = engine.slots.busy() == engine.slots.count();
    if all_busy && request.query("fail_on_no_slot").is_some() {
        return Err(Refusal::Plain(EngineError::new(
            503,
            "unavailable_error",
            "no slot available",
        )));
    }
    let n_ctx = engine.launch.slot_ctx(engine.script().n_ctx_train);
    let tasks = engine
        .llama_cpp
        .last_tasks
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let slots = tasks.iter().enumerate().map(|(id, task)| Slot {
        id,
        n_ctx,
        speculative: false,
        is_processing: engine.slots.is_busy(id),
        task: task.as_ref().map(|task| Task::of(task, engine.slots.is_busy(id))),
    });
    ok(&slots.collect::<Vec<_>>())
}

#[derive(Serialize)]
struct Slot<'a> {
    id: usize,
    n_ctx: u32,
    speculative: bool,
    is_processing: bool,
    #[serde(flatten)]
    task: Option<Task<'a>>,
}

/// An idle slot keeps showing its last task, without its progress.
#[derive(Serialize)]
struct Task<'a> {
    id_task: u64,
    n_prompt_tokens: u32,
    n_prompt_tokens_processed: u32,
    n_prompt_tokens_cache: u32,
    params: &'a Settings,
    next_token: [NextToken; 1],
}

#[derive(Serialize)]
struct NextToken {
    has_next_token: bool,
    has_new_line: bool,
    n_remain: i64,
    n_decoded: u32,
}

impl<'a> Task<'a> {
    fn of(task: &'a SlotTask, busy: bool) -> Self {
        let decoded = if busy {
            task.decoded.load(Ordering::Relaxed)
        } else {
            0
        };
        let limit = task.settings.n_predict;
        Self {
            id_task: task.task,
            n_prompt_tokens: task.prompt_tokens,
            n_prompt_tokens_processed: if busy { task.prompt_tokens } else { 0 },
            n_prompt_tokens_cache: 0,
            params: &task.settings,
            next_token: [NextToken {
                has_next_token: busy,
                has_new_line: false,
                n_remain: if busy && limit >= 0 {
                    limit - i64::from(decoded)
                } else {
                    -1
                },
                n_decoded: decoded,
            }],
        }
    }
}

/// `POST /tokenize`.
pub(super) fn tokenize(request: &Request) -> Result<Response, Refusal> {
    let body = object(&request.body)?;
    let fields = Fields(&body);
    let text = fields.text("content")?.unwrap_or_default();
    let start = fields.boolean("add_special", false)?.then_some(vocabulary::BOS);
    let ids = start.into_iter().chain(vocabulary::tokenize(&text));
    if !fields.boolean("with_pieces", false)? {
        return ok(&json!({"tokens": ids.collect::<Vec<_>>()}));
    }
    ok(&json!({"tokens": ids.map(piece).collect::<Vec<_>>()}))
}

/// A piece that is no text of its own is given as bytes.
fn piece(id: u32) -> Value {
    let bytes = vocabulary::bytes_of(id).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => json!({"id": id, "piece": text}),
        Err(not_text) => json!({"id": id, "piece": not_text.into_bytes()}),
    }
}

/// `POST /detokenize`.
pub(super) fn detokenize(request: &Request) -> Result<Response, Refusal> {
    let body = object(&request.body)?;
    let tokens = body.get("tokens").cloned().unwrap_or_else(|| json!([]));
    let ids: Vec<u32> =
        serde_json::from_value(tokens).map_err(|error| Refusal::invalid(error.to_string()))?;
    let text =
        vocabulary::detokenize(&ids).ok_or_else(|| Refusal::invalid("Prompt contains invalid tokens"))?;
    ok(&json!({"content": text}))
}

/// `POST /apply-template`.
pub(super) fn apply_template(request: &Request) -> Result<Response, Refusal> {
    let body = object(&request.body)?;
    ok(&json!({"prompt": template::render(&body)?}))
}

pub(super) fn ok(value: &impl Serialize) -> Result<Response, Refusal> {
    let text = serde_json::to_string(value);
    text.map(|text| Response::json(200, text))
        .map_err(|error| Refusal::Plain(EngineError::new(500, "server_error", error.to_string())))
}

/// An endpoint that the command line has not switched on.
pub(super) fn disabled(what: &str, flag: &str) -> Response {
    let message = format!("This server does not support {what}. Start it with `{flag}`");
    error_response(&EngineError::new(501, "not_supported_error", message))
}
