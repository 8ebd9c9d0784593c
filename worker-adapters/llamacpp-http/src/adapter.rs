//! The adapter: which route serves which call.

use std::time::Duration;

use adapter_api::{
    Adapter, AdapterError, AdapterErrorKind, EngineProps, Health, Job, JobInput, Timeouts, TokenStream,
};
use api_types::{EngineKind, Message};
use async_trait::async_trait;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_util::retry::RetryPolicy;
use http_util::{BuildError, Client, ClientOptions, Endpoint, HttpError, Request, StreamResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::decoder::{ChatDecoder, CompletionDecoder, Decoder};
use crate::failure;
use crate::pooled::Asked;
use crate::probe::{ApplyTemplateReply, HealthReply, PropsReply, Tokenize, TokenizeReply, health_of_failure};
use crate::request::{ApplyTemplate, Chat, Completion, Embeddings, Rerank};
use crate::stream::GenerationStream;
use crate::whole::WholeStream;

/// How long an unused connection is kept (4 s): the server closes it after 5 s, and a request sent into a closing
/// connection is lost. Short calls only.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// One `llama-server`.
#[derive(Debug)]
pub struct LlamaCpp {
    endpoint: Endpoint,
    timeouts: Timeouts,
}

impl LlamaCpp {
    /// The HTTP client for llama.cpp servers. One serves any number of endpoints.
    ///
    /// # Errors
    /// [`BuildError`] when a limit is zero or `first_token` is shorter than `connect`.
    pub fn client(timeouts: &Timeouts) -> Result<Client, BuildError> {
        Client::new(ClientOptions {
            connect_timeout: timeouts.connect,
            // The response head comes with the first token.
            first_byte_timeout: timeouts.first_token,
            pool_idle_timeout: POOL_IDLE,
            request_timeout: Some(timeouts.probe),
            ..ClientOptions::default()
        })
    }

    /// An adapter for the server at `endpoint`, which carries the server's own key. `timeouts` are those that the
    /// endpoint's client was made with.
    #[must_use]
    pub const fn new(endpoint: Endpoint, timeouts: Timeouts) -> Self {
        Self { endpoint, timeouts }
    }

    /// A short question that may be asked again.
    async fn ask<B, T>(&self, path: &str, body: &B) -> Result<T, AdapterError>
    where
        B: Serialize + Sync,
        T: DeserializeOwned,
    {
        let ask = || self.endpoint.post_json::<_, T>(path, body);
        let reply = COUNT_RETRY.run_idempotent(ask).await;
        reply.map_err(|e| failure::of_exchange(&e))
    }

    /// Sends work and waits for the head of the answer, whose type must be `content_type`.
    async fn start<B: Serialize>(
        &self,
        path: &str,
        body: &B,
        content_type: &str,
    ) -> Result<StreamResponse, AdapterError> {
        let request = Request::post(path).json(body);
        let request = request.map_err(|e| failure::of_exchange(&e))?;
        // The server promises to keep the connection and closes it right after the stream: a next request would race
        // with that and be lost.
        let request = request.header(CONNECTION, HeaderValue::from_static("close"));
        let response = self.endpoint.stream(request).await;
        let response = response.map_err(|e| failure::of_exchange(&e))?;
        check_type(&response.headers, content_type)?;
        Ok(response)
    }

    async fn generate<D, B>(&self, path: &str, body: &B) -> Result<Box<dyn TokenStream>, AdapterError>
    where
        D: Decoder + Unpin + 'static,
        B: Serialize,
    {
        let submitted = Instant::now();
        let response = self.start(path, body, "text/event-stream").await?;
        Ok(Box::new(GenerationStream::<D>::new(
            response.body,
            submitted,
            &self.timeouts,
        )))
    }

    async fn compute<B: Serialize>(
        &self,
        path: &str,
        body: &B,
        asked: Asked,
    ) -> Result<Box<dyn TokenStream>, AdapterError> {
        let submitted = Instant::now();
        let response = self.start(path, body, "application/json").await?;
        Ok(Box::new(WholeStream::new(
            response.body,
            asked,
            submitted,
            &self.timeouts,
        )))
    }
}

/// Counting tokens changes nothing at the engine and an admission waits for it, so it is tried again (ORCH-3276): the
/// engine may just have closed the kept connection. One that is really gone is told within half a second.
const COUNT_RETRY: RetryPolicy = RetryPolicy {
    attempts: 3,
    base_delay: Duration::from_millis(25),
    max_delay: Duration::from_millis(200),
};

#[async_trait]
impl Adapter for LlamaCpp {
    fn engine(&self) -> EngineKind {
        EngineKind::Llamacpp
    }

    async fn health(&self) -> Result<Health, AdapterError> {
        match self.endpoint.get_json::<HealthReply>("/health").await {
            Ok(reply) => Ok(reply.into()),
            Err(error) => {
                let answered = matches!(error, HttpError::Status { .. } | HttpError::Decode { .. });
                health_of_failure(failure::of_exchange(&error), answered)
            }
        }
    }

    async fn props(&self) -> Result<EngineProps, AdapterError> {
        let reply = self.endpoint.get_json::<PropsReply>("/props").await;
        reply.map(EngineProps::from).map_err(|e| failure::of_exchange(&e))
    }

    async fn count_tokens(&self, text: &str) -> Result<Option<u32>, AdapterError> {
        let reply: TokenizeReply = self.ask("/tokenize", &Tokenize::from(text)).await?;
        Ok(Some(reply.count()))
    }

    /// The template's text is tokenized as the chat route does it, special tokens included.
    async fn count_chat_tokens(&self, messages: &[Message]) -> Result<Option<u32>, AdapterError> {
        let rendered: ApplyTemplateReply = self
            .ask("/apply-template", &ApplyTemplate::from(messages))
            .await?;
        self.count_tokens(&rendered.prompt).await
    }

    /// Returns with the first token, or with the whole answer: the server sends its response head no earlier.
    /// `first_token` bounds the wait.
    async fn submit(&self, job: &Job) -> Result<Box<dyn TokenStream>, AdapterError> {
        match &job.input {
            JobInput::Prompt(prompt) => {
                let body = Completion::new(job, prompt);
                self.generate::<CompletionDecoder, _>("/completion", &body).await
            }
            JobInput::Chat(messages) => {
                let body = Chat::new(job, messages);
                self.generate::<ChatDecoder, _>("/v1/chat/completions", &body)
                    .await
            }
            JobInput::Embedding(inputs) => {
                let asked = Asked::Embeddings(inputs.len());
                self.compute("/v1/embeddings", &Embeddings::new(inputs), asked)
                    .await
            }
            JobInput::Rerank { query, documents } => {
                let asked = Asked::Scores(documents.len());
                self.compute("/v1/rerank", &Rerank::new(query, documents), asked)
                    .await
            }
        }
    }
}

/// A server that answers 200 with something else than it was asked for is not understood, or not llama.cpp.
fn check_type(headers: &HeaderMap, wanted: &str) -> Result<(), AdapterError> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("nothing");
    if content_type.starts_with(wanted) {
        return Ok(());
    }
    Err(AdapterError::new(
        AdapterErrorKind::Protocol,
        format!("llama.cpp answers with {content_type:.64} instead of {wanted}"),
    ))
}
