//! One declaration gives both the routes and their OpenAPI documents: `contracts/openapi/data.yaml`
//! (tasks) and `control.yaml` (nodes, pools, workers, artifacts, operations).

use api_types::capabilities::API_VERSION;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    AppState, artifacts, common_answers, control, engine_logs, examples, explain, formats, operations, ops,
    sessions, stream, tasks, workers,
};

#[derive(OpenApi)]
#[openapi(info(
    title = "llama-orch data plane",
    description = "Admit tasks, stream their output, cancel them.",
    license(name = "MIT OR Apache-2.0")
))]
struct Data;

#[derive(OpenApi)]
#[openapi(info(
    title = "llama-orch control plane",
    description = "Nodes, pools, capabilities, artifacts, worker registration and operations.",
    license(name = "MIT OR Apache-2.0")
))]
struct Control;

/// Routes of the data plane.
pub(super) fn data_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(described(Data::openapi()))
        .routes(routes!(tasks::submit, tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(tasks::cancel))
        .routes(routes!(explain::decision))
        .routes(routes!(explain::explain))
        .routes(routes!(stream::open))
        .routes(routes!(sessions::show, sessions::end))
}

/// Routes of the control plane.
pub(super) fn control_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(described(Control::openapi()))
        .routes(routes!(artifacts::put, artifacts::list))
        .routes(routes!(artifacts::show))
        .routes(routes!(control::capabilities))
        .routes(routes!(control::nodes))
        .routes(routes!(control::pools))
        .routes(routes!(control::pool))
        .routes(routes!(control::pool_health))
        .routes(routes!(engine_logs::logs))
        .routes(routes!(operations::drain))
        .routes(routes!(operations::reload))
        .routes(routes!(operations::load))
        .routes(routes!(operations::unload))
        .routes(routes!(workers::register))
        .routes(routes!(workers::heartbeat))
        .routes(routes!(workers::deregister))
        .routes(routes!(ops::metrics))
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
        .routes(routes!(ops::openapi))
}

/// The document of the data plane.
#[must_use]
pub fn data() -> Document {
    complete(data_routes())
}

/// The document of the control plane.
#[must_use]
pub fn control() -> Document {
    complete(control_routes())
}

/// The document of both planes, as `GET /openapi.json` serves it.
#[must_use]
pub fn whole() -> Document {
    let mut document = data();
    document.merge(control());
    document
}

/// What only a reader of the document needs, not who serves the routes.
fn complete(routes: OpenApiRouter<AppState>) -> Document {
    let mut document = routes.into_openapi();
    common_answers::describe(&mut document);
    examples::add(&mut document);
    formats::respell(&mut document);
    document
}

fn described(mut document: Document) -> Document {
    document.info.version = API_VERSION.into();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document
        .components
        .get_or_insert_default()
        .security_schemes
        .insert("bearer".into(), bearer.into());
    document.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ORCH-3980.
    #[test]
    fn placement_overrides_are_part_of_the_contract() {
        let document = data();
        let schemas = document.components.unwrap().schemas;
        for name in ["PlacementMode", "PlacementOverrides"] {
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
