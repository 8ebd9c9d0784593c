//! From a request that may pass to the engine's answer: which engine serves it now, the exchange over loopback, and the
//! body on its way back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api_types::link::EngineStart;
use api_types::pool::ReplicaState;
use api_types::{EngineKind, ErrorBody, ErrorCode, PoolId, ReplicaId};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{Method, StatusCode};
use http_front::ApiError;
use http_util::{
    BuildError, ByteStream, Client, ClientOptions, Endpoint, HttpError, Request, StreamResponse,
};
use url::Url;
use uuid::Uuid;

use crate::engine::output::Output;
use crate::relay_metrics::{OpenAnswer, Outcome, RelayMetrics};
use crate::replica::{Process, ReplicaView};

/// Longest connection set-up: engines are on this host.
const CONNECT: Duration = Duration::from_secs(2);

/// Longest wait for an engine's first byte. As long as an orchestrator can be told to wait for a first token
/// (`orchestratord.engine.first_token_timeout_ms`), which it measures itself: its closing ends the wait at once.
const FIRST_BYTE: Duration = Duration::from_secs(3600);

/// What an orchestrator's request to an engine may have beyond a client's to the orchestrator, bytes: the texts are the
/// client's, and the fields that an adapter adds are few and short.
const ADDED_BY_ADAPTERS: usize = 64 << 10;

/// What a reader of an engine's answer needs of its headers. No other comes back.
const PASSED_BACK: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_LENGTH, RETRY_AFTER];

/// Tells proxies between the daemons not to gather a stream.
const UNBUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

/// What a passage is made of.
#[derive(Debug)]
pub struct PassageOptions {
    /// This run of the daemon, which counts its engines' starts.
    pub instance: Uuid,
    /// `http.max_body_bytes`.
    pub max_body_bytes: usize,
    /// What is counted.
    pub metrics: RelayMetrics,
}

/// The way from the relay's door to the engines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Passage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    options: PassageOptions,
}

/// Why nothing is passed on: for the counters, and for the caller.
type Refused = (Outcome, ApiError);

/// Whose engine is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose<'a> {
    pub(super) pool: &'a PoolId,
    pub(super) replica: &'a ReplicaId,
    pub(super) engine: EngineKind,
}

impl Whose<'_> {
    fn refusal(self, code: ErrorCode, what: impl std::fmt::Display) -> ErrorBody {
        let message = format!("{}/{} {what}", self.pool, self.replica);
        ErrorBody::new(code, message).with_pool(self.pool.clone(), self.engine)
    }
}

/// What is asked of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) body: Bytes,
}

impl Passage {
    /// A passage to the engines of this run of the daemon.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(options: PassageOptions) -> Result<Self, BuildError> {
        let client = Client::new(ClientOptions {
            connect_timeout: CONNECT,
            first_byte_timeout: FIRST_BYTE,
            request_timeout: None,
            ..ClientOptions::default()
        })?;
        Ok(Self(Arc::new(Inner { client, options })))
    }

    /// Most bytes of a request's body.
    pub(super) fn body_limit(&self) -> usize {
        self.0.options.max_body_bytes.saturating_add(ADDED_BY_ADAPTERS)
    }

    /// Asks the engine that is meant, and hands its answer on as it comes.
    pub(super) async fn pass(
        &self,
        whose: Whose<'_>,
        view: &ReplicaView,
        meant: EngineStart,
        asked: Asked,
    ) -> Result<Response, ApiError> {
        let metrics = &self.0.options.metrics;
        let mut counted = metrics.request(whose.pool, whose.replica);
        let passed = self.exchange(whose, view, meant, asked).await;
        counted.became(
            passed
                .as_ref()
                .map_or_else(|(outcome, _)| *outcome, |_| Outcome::Passed),
        );
        match passed {
            Ok(response) => Ok(answer(response, metrics.open(whose.pool, whose.replica))),
            Err((_, refusal)) => Err(refusal),
        }
    }

    async fn exchange(
        &self,
        whose: Whose<'_>,
        view: &ReplicaView,
        meant: EngineStart,
        asked: Asked,
    ) -> Result<StreamResponse, Refused> {
        let endpoint = self.engine(whose, view, meant)?;
        let request = Request::new(asked.method, asked.path)
            // One exchange on one connection: it is closed to cancel, and a kept one could be closing.
            .header(CONNECTION, HeaderValue::from_static("close"));
        let request = if asked.body.is_empty() {
            request
        } else {
            request.json_bytes(asked.body)
        };
        let response = endpoint
            .forward(request)
            .await
            .map_err(|error| failed(whose, &error))?;
        match response.status {
            // The key is this start's own: whoever does not know it is another engine on the same port.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let what = "is gone: another process answers on its port";
                Err((Outcome::Moved, whose.refusal(ErrorCode::PoolUnready, what).into()))
            }
            _ => Ok(response),
        }
    }

    /// The engine that is meant, if it serves.
    fn engine(&self, whose: Whose<'_>, view: &ReplicaView, meant: EngineStart) -> Result<Endpoint, Refused> {
        let present = EngineStart {
            instance: self.0.options.instance,
            generation: view.status.generation,
        };
        if meant != present {
            return Err((Outcome::Moved, moved(whose, meant, present)));
        }
        let (process, output) = serving(view).ok_or_else(|| (Outcome::NotReady, unready(whose, view)))?;
        let unusable = |error: String| {
            tracing::error!(error, pool_id = %whose.pool, replica_id = %whose.replica, "an engine's address is unusable");
            let what = "has an address that cannot be used";
            (
                Outcome::Failed,
                whose.refusal(ErrorCode::PoolUnready, what).into(),
            )
        };
        let url = Url::parse(&process.endpoint()).map_err(|error| unusable(error.to_string()))?;
        let endpoint = self.0.client.endpoint(url, Some(output.key()));
        endpoint.map_err(|error| unusable(error.to_string()))
    }
}

/// The process that serves, and what holds its key.
fn serving(view: &ReplicaView) -> Option<(Process, &Output)> {
    let serves = matches!(view.status.state, ReplicaState::Ready | ReplicaState::Draining);
    let process = view.process.filter(|_| serves)?;
    let output = view.current.as_deref()?;
    (output.generation() == view.status.generation).then_some((process, output))
}

fn moved(whose: Whose<'_>, meant: EngineStart, present: EngineStart) -> ApiError {
    let what = format!("is at start {present}, the request means {meant}");
    let body = whose
        .refusal(ErrorCode::Conflict, what)
        .with_reason("engine_start_moved");
    body.with_hint("the node's next report names the present start")
        .into()
}

fn unready(whose: Whose<'_>, view: &ReplicaView) -> ApiError {
    let what = format!("is not ready ({})", view.status.state.as_str());
    let body = whose.refusal(ErrorCode::PoolUnready, what);
    match &view.status.unready {
        Some(why) => body.with_hint(why.hint.clone()).into(),
        None => body.into(),
    }
}

/// An engine that did not answer. Its port is nobody's business.
fn failed(whose: Whose<'_>, error: &HttpError) -> Refused {
    let (outcome, code, what) = match error {
        HttpError::Connect { .. } | HttpError::ConnectTimeout { .. } => (
            Outcome::NotReady,
            ErrorCode::PoolUnready,
            "takes no connection now",
        ),
        HttpError::FirstByteTimeout { .. } => (
            Outcome::Failed,
            ErrorCode::DecodeTimeout,
            "has not answered for an hour",
        ),
        HttpError::NoResponse { .. } => (
            Outcome::Failed,
            ErrorCode::WorkerReset,
            "closed the connection before it answered",
        ),
        // The request is ours: one that cannot be sent, or an answer to it that is not HTTP, is no engine's.
        HttpError::Protocol { .. }
        | HttpError::Path { .. }
        | HttpError::Encode { .. }
        | HttpError::RequestTimeout { .. }
        | HttpError::IdleTimeout { .. }
        | HttpError::Reset { .. }
        | HttpError::BodyTooLarge { .. }
        | HttpError::Status { .. }
        | HttpError::Decode { .. } => (
            Outcome::Failed,
            ErrorCode::WorkerReset,
            "gave an answer that is not HTTP",
        ),
    };
    (outcome, whose.refusal(code, what).into())
}

/// The engine's answer for the caller: its status, what a reader needs of its headers, its body piece by piece.
fn answer(response: StreamResponse, open: OpenAnswer) -> Response {
    let StreamResponse {
        status,
        headers,
        body,
    } = response;
    let body = Pieces {
        // Whoever asked knows better what progress is.
        body: body.unwatched(),
        _open: open,
    };
    let mut answer = Response::new(Body::from_stream(body));
    *answer.status_mut() = status;
    let passed = PASSED_BACK
        .into_iter()
        .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    answer.headers_mut().extend(passed);
    let (name, value) = UNBUFFERED;
    answer.headers_mut().insert(name, value);
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An engine's body. Dropping it closes the engine's connection.
struct Pieces {
    body: ByteStream,
    _open: OpenAnswer,
}

impl Stream for Pieces {
    type Item = Result<Bytes, HttpError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
