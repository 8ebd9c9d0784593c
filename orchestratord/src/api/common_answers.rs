//! The answers that the front of the daemon gives on any route, added to every operation that does not describe them
//! itself: nobody who reads one operation has to know of the layers before it.

use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr, Response};

const SCHEMA: &str = "#/components/schemas/ErrorBody";

/// What can happen before a handler is reached, or when it fails.
const ALWAYS: [(&str, &str); 5] = [
    (
        "400",
        "INVALID_PARAMS: a malformed host, path, query, header or body",
    ),
    ("403", "FORBIDDEN: host or origin"),
    ("413", "PAYLOAD_TOO_LARGE: body or headers"),
    ("500", "INTERNAL: a bug of the daemon"),
    ("503", "The daemon is stopping"),
];

/// Where authentication is needed.
const GUARDED: (&str, &str) = ("401", "MISSING_TOKEN or BAD_TOKEN");

/// Completes the answers of every operation.
pub(super) fn describe(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(|(_, operation)| complete(operation));
    }
}

/// The operations of a path with their methods.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("GET", &mut item.get),
        ("POST", &mut item.post),
        ("PUT", &mut item.put),
        ("PATCH", &mut item.patch),
        ("DELETE", &mut item.delete),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn complete(operation: &mut Operation) {
    // `security(())` makes an operation public.
    let public = operation.security.is_some();
    let guarded = (!public).then_some(GUARDED);
    for (status, description) in ALWAYS.into_iter().chain(guarded) {
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert_with(|| error(description).into());
    }
}

fn error(description: &str) -> Response {
    let mut response = Response::new(description);
    let body = RefOr::T(Content::new(Some(Ref::new(SCHEMA))));
    response.content.insert("application/json".to_owned(), body);
    response
}
