//! The adapter: which route serves which call.

use std::time::Duration;

use adapter_api::{Adapter, AdapterError, AdapterErrorKind, EngineProps, Health, Job, Timeouts, TokenStream};
use api_types::EngineKind;
use async_trait::async_trait;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_util::retry::RetryPolicy;
use http_util::{BuildError, Client, ClientOptions, Endpoint, HttpError, Request};
use tokio::time::Instant;

use crate::failure;
use crate::probe::{HealthReply, PropsReply, Tokenize, TokenizeReply, health_of_failure};
use crate::request::Completion;
use crate::stream::CompletionStream;

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
        let body = Tokenize::from(text);
        let ask = || self.endpoint.post_json::<_, TokenizeReply>("/tokenize", &body);
        let reply = COUNT_RETRY.run_idempotent(ask).await;
        reply
            .map(|reply| Some(reply.count()))
            .map_err(|e| failure::of_exchange(&e))
    }

    /// Returns with the first token: the server sends its response head no earlier. `first_token` bounds the wait.
    async fn submit(&self, job: &Job) -> Result<Box<dyn TokenStream>, AdapterError> {
        let submitted = Instant::now();
        let request = Request::post("/completion").json(&Completion::from(job));
        let request = request.map_err(|e| failure::of_exchange(&e))?;
        // The server promises to keep the connection and closes it right after the stream: a next request would race
        // with that and be lost.
        let request = request.header(CONNECTION, HeaderValue::from_static("close"));
        let response = self.endpoint.stream(request).await;
        let response = response.map_err(|e| failure::of_exchange(&e))?;
        check_event_stream(&response.headers)?;
        Ok(Box::new(CompletionStream::new(
            response.body,
            submitted,
            &self.timeouts,
        )))
    }
}

/// A server that answers 200 with something else is not streaming, or not llama.cpp.
fn check_event_stream(headers: &HeaderMap) -> Result<(), AdapterError> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("nothing");
    if content_type.starts_with("text/event-stream") {
        return Ok(());
    }
    Err(AdapterError::new(
        AdapterErrorKind::Protocol,
        format!("llama.cpp answers with {content_type:.64} instead of text/event-stream"),
    ))
}
