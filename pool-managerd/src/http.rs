//! The daemon's routes. Handlers read watches and answer, or pass a request on to an engine; none changes anything. The front (`http-front`) has
//! checked who asks before any of them runs.

mod follow;
pub mod relay;
mod routes;

use axum::Router;
use http_front::Front;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::gpu::GpuState;
use crate::link::Sequence;
use crate::metrics::Metrics;
use crate::pool::Pools;
use crate::reconcile::Pulse;
use crate::report::Reporter;
use relay::Passage;

/// What handlers read.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// The node's state.
    pub reporter: Reporter,
    /// The number of the last report.
    pub sequence: Sequence,
    /// The pools.
    pub pools: Pools,
    /// The way to the engines; absent where the relay is off.
    pub relay: Option<Passage>,
    /// Whether the reconcile loop turns.
    pub pulse: Pulse,
    /// The GPUs.
    pub gpus: watch::Receiver<GpuState>,
    /// The daemon's families.
    pub metrics: Metrics,
    /// Cancelled when the daemon stops.
    pub stopping: CancellationToken,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "llama-orch pool-managerd",
    description = "The daemon of a GPU box: its GPUs, pools and engines."
))]
struct Contract;

fn declared() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(Contract::openapi())
        .routes(routes!(routes::node))
        .routes(routes!(routes::pools))
        .routes(routes!(routes::pool))
        .routes(routes!(routes::logs))
        .routes(routes!(relay::relay))
        .routes(routes!(routes::metrics))
        .routes(routes!(routes::healthz))
        .routes(routes!(routes::readyz))
}

/// The contract of these routes.
#[must_use]
pub fn openapi() -> Document {
    declared().into_openapi()
}

/// The routes behind the front.
pub fn router(state: ApiState, front: Front) -> Router {
    let (router, _contract) = declared().split_for_parts();
    front.always_token(&[relay::ROUTE]).wrap(router.with_state(state))
}
