//! The orchestrator's end of the link: records every report, answers as it is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use api_types::link::{DesiredState, NodeReport, ReplicaLeases};
use api_types::operation::DesiredPool;
use api_types::{ErrorBody, ErrorCode};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{StatusCode, header};
use test_harness_support::wait::{Look, wait_for};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Accept(Vec<DesiredPool>),
    Refuse(ErrorCode),
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Register,
    Heartbeat,
}

/// One report as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) kind: Kind,
    pub(crate) authorization: Option<String>,
    pub(crate) report: NodeReport,
}

#[derive(Debug)]
struct Book {
    answer: Answer,
    heartbeat_ms: u64,
    leases: Vec<ReplicaLeases>,
    registered: bool,
    received: Vec<Received>,
}

#[derive(Debug, Clone)]
pub(crate) struct Orchestrator {
    book: Arc<Mutex<Book>>,
    url: String,
}

/// Fast, so that tests need not wait.
const HEARTBEAT_MS: u64 = 100;

impl Orchestrator {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let book = Book {
            answer: Answer::Accept(Vec::new()),
            heartbeat_ms: HEARTBEAT_MS,
            leases: Vec::new(),
            registered: false,
            received: Vec::new(),
        };
        let orchestrator = Self {
            book: Arc::new(Mutex::new(book)),
            url,
        };
        let router = Router::new()
            .route("/v1/workers/register", post(register))
            .route("/v1/workers/{node_id}/heartbeat", post(heartbeat))
            .with_state(orchestrator.clone());
        // Ends with the test's runtime.
        TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
        Ok(orchestrator)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.book().answer = answer;
    }

    /// How often the node shall report.
    pub(crate) fn heartbeat_every(&self, ms: u64) {
        self.book().heartbeat_ms = ms;
    }

    /// What it tells of running tasks.
    pub(crate) fn lease(&self, leases: Vec<ReplicaLeases>) {
        self.book().leases = leases;
    }

    /// Waits for so many more reports.
    pub(crate) async fn reports(&self, more: usize, limit: Duration) -> Result<()> {
        let seen = self.received().len();
        let enough = wait_for("more reports", limit, || async {
            let now = self.received().len();
            if now >= seen + more {
                Look::Ready(())
            } else {
                Look::NotYet(now)
            }
        });
        Ok(enough.await?)
    }

    /// As after a restart: every node is unknown.
    pub(crate) fn forget(&self) {
        self.book().registered = false;
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.book().received.clone()
    }

    pub(crate) fn last(&self) -> Option<NodeReport> {
        self.book()
            .received
            .last()
            .map(|received| received.report.clone())
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, kind: Kind, authorization: Option<String>, report: NodeReport) -> Response {
        let mut book = self.book();
        let known = book.registered;
        book.received.push(Received {
            kind,
            authorization,
            report,
        });
        match book.answer.clone() {
            Answer::Refuse(code) => error(code),
            Answer::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            Answer::Accept(_) if kind == Kind::Heartbeat && !known => error(ErrorCode::NotFound),
            Answer::Accept(pools) => {
                book.registered = true;
                Json(DesiredState {
                    heartbeat_interval_ms: book.heartbeat_ms,
                    stale_after_ms: 10 * book.heartbeat_ms,
                    pools,
                    leases: book.leases.clone(),
                })
                .into_response()
            }
        }
    }
}

fn error(code: ErrorCode) -> Response {
    let status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(ErrorBody::new(code, "as the test says"))).into_response()
}

async fn register(State(orchestrator): State<Orchestrator>, request: Request) -> Response {
    receive(&orchestrator, Kind::Register, request).await
}

async fn heartbeat(State(orchestrator): State<Orchestrator>, request: Request) -> Response {
    receive(&orchestrator, Kind::Heartbeat, request).await
}

async fn receive(orchestrator: &Orchestrator, kind: Kind, request: Request) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
    match body.map(|bytes| serde_json::from_slice(&bytes)) {
        Ok(Ok(report)) => orchestrator.take(kind, authorization, report),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}
