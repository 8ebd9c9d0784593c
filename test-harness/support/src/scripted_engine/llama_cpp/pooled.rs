//! `/v1/embeddings` and `/v1/rerank`: work whose answer is one document. Vectors and scores are a function of the model's
//! name and the text; a document scores higher the more of the query's words it has.

mod answer;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::super::engine::Engine;
use super::super::http::{Connection, Gone, KeepAlive, Request, Response, Wake};
use super::super::report::End;
use super::super::script::{EngineError, FaultKind, Script};
use super::super::server::{self, After};
use super::completion::after_fault;
use super::errors::{Refusal, error_response};
use super::info;
use super::job::{object, tokenized};

/// Tokens between a query and a document, and at the end.
const PAIR_TOKENS: u32 = 3;

/// The forms in which this work is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v1/embeddings`: the OpenAI form.
    Embeddings,
    /// `/embedding`, `/embeddings`: the native form.
    NativeEmbeddings,
    /// `/v1/rerank` and its other names.
    Rerank,
}

pub(super) fn is_embeddings(path: &str) -> bool {
    matches!(path, "/embedding" | "/embeddings" | "/v1/embeddings")
}

pub(super) fn is_rerank(path: &str) -> bool {
    matches!(path, "/rerank" | "/reranking" | "/v1/rerank" | "/v1/reranking")
}

impl Route {
    /// The form of a path, if the command line has switched it on.
    pub(super) fn of(engine: &Engine, path: &str) -> Option<Self> {
        let launch = &engine.launch;
        match path {
            "/v1/embeddings" if launch.embeddings => Some(Self::Embeddings),
            path if is_embeddings(path) && launch.embeddings => Some(Self::NativeEmbeddings),
            path if is_rerank(path) && launch.reranking => Some(Self::Rerank),
            _ => None,
        }
    }
}

/// A request, understood.
struct Work {
    route: Route,
    body: Map<String, Value>,
    query: Option<String>,
    /// With the tokens that each takes, the query's included.
    texts: Vec<(String, u32)>,
}

/// Serves one request.
pub(super) async fn serve(
    engine: &Engine,
    connection: &mut Connection,
    request: &Request,
    keep: KeepAlive,
    route: Route,
) -> After {
    let mut entry = engine.recorder.begin(request);
    let script = engine.script();
    let work = match Work::parse(engine, &script, route, &request.body) {
        Ok(work) => work,
        Err(refusal) => {
            entry.end(End::Answered(refusal.status()));
            return server::send(connection, request, keep, refusal.response()).await;
        }
    };
    let computed = async {
        let _lease = tokio::select! {
            lease = engine.slots.lease(None) => lease,
            Gone = connection.gone() => return Err(Gone),
        };
        entry.got_slot();
        compute(engine, &script, &work, connection).await
    };
    let (response, ended, after) = match computed.await {
        Ok(Computed::Answer(response)) => {
            let ended = End::Answered(response.status);
            (Some(response), ended, After::Next)
        }
        Ok(Computed::Fault(kind)) => {
            let ended = End::Fault(kind.name().to_owned());
            (None, ended, after_fault(engine, &kind))
        }
        Err(Gone) => (None, End::ClientGone, After::Close),
    };
    entry.end(ended);
    match response {
        Some(response) => server::send(connection, request, keep, response).await,
        // Nothing was sent, so the connection cannot go on as if something had been.
        None if matches!(after, After::Next) => After::Close,
        None => after,
    }
}

enum Computed {
    Answer(Response),
    Fault(FaultKind),
}

async fn compute(
    engine: &Engine,
    script: &Script,
    work: &Work,
    connection: &mut Connection,
) -> Result<Computed, Gone> {
    let due = Instant::now() + std::time::Duration::from_millis(script.first_token_delay_ms);
    if connection.wait_until(due).await == Wake::ClientGone {
        return Err(Gone);
    }
    let answer = work.answer(engine);
    let fault = engine
        .take_fault(&work.text())
        .filter(|fault| fault.at_frame == 0);
    Ok(match fault.map(|fault| fault.kind) {
        None => Computed::Answer(answer),
        Some(FaultKind::InStreamError(error)) => Computed::Answer(error_response(&error)),
        Some(FaultKind::Stall) => {
            connection.gone().await;
            return Err(Gone);
        }
        Some(FaultKind::MalformedJson | FaultKind::BadUtf8) => {
            Computed::Answer(Response::json(200, r#"{"data":[{"embedding":[0.5,"#.to_owned()))
        }
        Some(FaultKind::Oversized(length)) => Computed::Answer(Response::json(
            200,
            format!("{{\"padding\":\"{}\"}}", "x".repeat(length)),
        )),
        Some(kind) => Computed::Fault(kind),
    })
}

impl Work {
    fn parse(engine: &Engine, script: &Script, route: Route, body: &[u8]) -> Result<Self, Refusal> {
        if let Some(error) = &script.refuse_completions {
            return Err(Refusal::Plain(error.clone()));
        }
        let body = object(body)?;
        if engine.launch.no_pooling && route == Route::Embeddings {
            let message = "Pooling type 'none' is not OAI compatible. Please use a different pooling type";
            return Err(Refusal::invalid(message));
        }
        let (query, texts) = match route {
            Route::Rerank => (Some(query(&body)?), documents(&body)?),
            Route::Embeddings | Route::NativeEmbeddings => (None, inputs(&body)?),
        };
        let beside = query
            .as_ref()
            .map_or(0, |query| tokenized(query.clone()).1 - 1 + PAIR_TOKENS);
        let counted = texts.into_iter().map(tokenized);
        let texts: Vec<_> = counted.map(|(text, tokens)| (text, tokens + beside)).collect();
        let n_ctx = engine.launch.slot_ctx(script.n_ctx_train);
        for (_, tokens) in &texts {
            fits(*tokens, engine.launch.ubatch, n_ctx)?;
        }
        Ok(Self {
            route,
            body,
            query,
            texts,
        })
    }

    fn text(&self) -> String {
        let texts = self.texts.iter().map(|(text, _)| text.as_str());
        texts.chain(self.query.as_deref()).collect()
    }

    fn tokens(&self) -> u32 {
        self.texts.iter().map(|(_, tokens)| tokens).sum()
    }

    fn answer(&self, engine: &Engine) -> Response {
        let served = engine.launch.model_name();
        let named = self.body.get("model").and_then(Value::as_str).unwrap_or(&served);
        let texts: Vec<&str> = self.texts.iter().map(|(text, _)| text.as_str()).collect();
        let base64 = self.body.get("encoding_format").and_then(Value::as_str) == Some("base64");
        let answered = match (&self.query, self.route) {
            (Some(query), _) => {
                let top = self.body.get("top_n").and_then(Value::as_u64);
                let top = top
                    .and_then(|top| usize::try_from(top).ok())
                    .unwrap_or(texts.len());
                info::ok(&answer::rerank(
                    named,
                    (&served, query),
                    &texts,
                    top,
                    self.tokens(),
                ))
            }
            (None, Route::NativeEmbeddings) => info::ok(&answer::native(&served, &texts)),
            (None, _) if base64 => info::ok(&answer::base64(named, &served, &texts, self.tokens())),
            (None, _) => info::ok(&answer::embeddings(named, &served, &texts, self.tokens())),
        };
        answered.unwrap_or_else(|refusal| refusal.response())
    }
}

fn fits(tokens: u32, batch: u32, n_ctx: u32) -> Result<(), Refusal> {
    if tokens > batch {
        let message = format!(
            "input ({tokens} tokens) is too large to process. increase the physical batch size (current batch size: {batch})"
        );
        return Err(Refusal::Plain(EngineError::new(500, "server_error", message)));
    }
    // As in the real server, an input must leave room for a token.
    if tokens >= n_ctx {
        return Err(Refusal::ContextExceeded {
            prompt_tokens: tokens,
            n_ctx,
        });
    }
    Ok(())
}

fn inputs(body: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let given = body.get("input").or_else(|| body.get("content"));
    let given = given.ok_or_else(|| Refusal::invalid("\"input\" or \"content\" must be provided"))?;
    match given {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) if !items.is_empty() => texts(items),
        _ => Err(Refusal::invalid("\"prompt\" must not be empty")),
    }
}

fn query(body: &Map<String, Value>) -> Result<String, Refusal> {
    match body.get("query") {
        Some(Value::String(query)) => Ok(query.clone()),
        Some(_) => Err(Refusal::invalid("\"query\" must be a string")),
        None => Err(Refusal::invalid("\"query\" must be provided")),
    }
}

fn documents(body: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let given = body.get("documents").and_then(Value::as_array);
    let given = given.filter(|documents| !documents.is_empty());
    texts(given.ok_or_else(|| Refusal::invalid("\"documents\" must be a non-empty string array"))?)
}

fn texts(items: &[Value]) -> Result<Vec<String>, Refusal> {
    let text = |item: &Value| item.as_str().map(str::to_owned);
    let texts = items.iter().map(text).collect::<Option<_>>();
    texts.ok_or_else(|| Refusal::invalid("every item must be a string"))
}
