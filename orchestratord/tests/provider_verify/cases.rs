//! What each operation is asked: good input with the status it must have, and for every operation, also ones added
//! later, input that is unknown or malformed.

use serde_json::{Value, json};
use test_harness_support::http1::Call;

use super::contract::Operation;

pub(crate) const TOKEN: &str = "a-token-of-the-provider-verification";

/// The known task's session.
pub(crate) const SESSION: &str = "verified";

/// Belongs to nobody.
const UNKNOWN_TASK: &str = "01900000-0000-7000-8000-0000000000ff";

/// One call and, where it is known, what it must answer.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) status: u16,
    target: String,
    body: Option<Vec<u8>>,
    header: Option<(&'static str, &'static str)>,
}

impl Case {
    fn of(name: &'static str, method: &'static str, path: &'static str, status: u16) -> Self {
        Self {
            name,
            method,
            path,
            status,
            target: path.to_owned(),
            body: None,
            header: None,
        }
    }

    /// The target with its parameter or its query.
    fn at(mut self, target: String) -> Self {
        self.target = target;
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    fn with(mut self, body: &Value) -> Self {
        self.body = Some(serde_json::to_vec(body).unwrap());
        self
    }

    pub(crate) fn call(&self) -> Call {
        let call = Call::new(self.method, &self.target);
        let call = self
            .header
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value));
        match &self.body {
            Some(body) => call.header("Content-Type", "application/json").body(body.clone()),
            None => call,
        }
    }
}

/// Good input, and refusals with a status that is known beforehand.
pub(crate) fn good(task: &str, report: &Value) -> Vec<Case> {
    let request = json!({"model_ref": "tiny", "prompt": "the river", "max_tokens": 4});
    let taken = json!({"model_ref": "tiny", "prompt": "another prompt", "task_id": task});
    let foreign = json!({"model_ref": "nonesuch", "prompt": "x"});
    let mut cases = of_tasks(task);
    cases.extend([
        Case::of("a task", "POST", "/v1/tasks", 202).with(&request),
        Case::of("a taken id", "POST", "/v1/tasks", 409).with(&taken),
        Case::of("an unknown model", "POST", "/v1/tasks", 404).with(&foreign),
        Case::of("an unknown field", "POST", "/v1/tasks", 400).with(&json!({"model": "tiny"})),
        Case::of("a preview", "POST", "/v1/placement/explain", 200).with(&request),
    ]);
    cases.extend(of_the_fleet(report));
    cases.extend(of_artifacts());
    cases
}

fn of_tasks(task: &str) -> Vec<Case> {
    let of = |rest: &str| format!("/v1/tasks/{task}{rest}");
    vec![
        Case::of("the tasks", "GET", "/v1/tasks", 200),
        Case::of("one page", "GET", "/v1/tasks", 200).at("/v1/tasks?limit=1&state=completed".into()),
        Case::of("a page of none", "GET", "/v1/tasks", 400).at("/v1/tasks?limit=0".into()),
        Case::of("a task", "GET", "/v1/tasks/{id}", 200).at(of("")),
        Case::of("its decision", "GET", "/v1/tasks/{id}/decision", 200).at(of("/decision")),
        Case::of("its stream", "GET", "/v1/tasks/{id}/stream", 200).at(of("/stream")),
        Case::of("a cancel", "POST", "/v1/tasks/{id}/cancel", 204).at(of("/cancel")),
        Case::of("its session", "GET", "/v1/sessions/{id}", 200).at(format!("/v1/sessions/{SESSION}")),
        Case::of("its session's end", "DELETE", "/v1/sessions/{id}", 204)
            .at(format!("/v1/sessions/{SESSION}")),
        Case::of("no session", "GET", "/v1/sessions/{id}", 404).at(format!("/v1/sessions/{SESSION}")),
    ]
}

/// REQ-ARTIFACT-API.
fn of_artifacts() -> Vec<Case> {
    const PATH: &str = "/v1/artifacts";
    const ONE: &str = "/v1/artifacts/{id}";
    /// Of `abc`.
    const ID: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let note = json!({"kind": "summary", "content": "abc", "tags": ["a"]});
    let as_diff = json!({"kind": "diff", "content": "abc"});
    let bytes = json!({"kind": "other", "content": "/wA=", "encoding": "base64"});
    vec![
        Case::of("an artifact", "POST", PATH, 201).with(&note),
        Case::of("the same again", "POST", PATH, 200).with(&note),
        Case::of("the same as a diff", "POST", PATH, 409).with(&as_diff),
        Case::of("bytes", "POST", PATH, 201).with(&bytes),
        Case::of("no kind", "POST", PATH, 400).with(&json!({"content": "abc"})),
        Case::of("a large one", "POST", PATH, 413)
            .with(&json!({"kind": "other", "content": "x".repeat((4 << 20) + 1)})),
        Case::of("an artifact", "GET", ONE, 200).at(format!("{PATH}/{ID}")),
        Case::of("one that is known", "GET", ONE, 304)
            .at(format!("{PATH}/{ID}"))
            .header("If-None-Match", "*"),
        Case::of("an unknown one", "GET", ONE, 404).at(format!("{PATH}/sha256:{}", "0".repeat(64))),
        Case::of("the artifacts", "GET", PATH, 200),
        Case::of("one page", "GET", PATH, 200).at(format!("{PATH}?tag=a&kind=summary&limit=1")),
        Case::of("a known page", "GET", PATH, 304).header("If-None-Match", "*"),
        Case::of("a page of none", "GET", PATH, 400).at(format!("{PATH}?limit=0")),
    ]
}

/// Operations on pools: their node has to record them.
pub(crate) fn of_pools() -> Vec<Case> {
    let post = |name, path: &'static str, status, body: Value| {
        Case::of(name, "POST", path, status)
            .at(path.replace("{id}", "p"))
            .with(&body)
    };
    let (drain, load) = ("/v1/pools/{id}/drain", "/v1/pools/{id}/load");
    let (reload, unload) = ("/v1/pools/{id}/reload", "/v1/pools/{id}/unload");
    vec![
        post("a drain", drain, 202, json!({"deadline_ms": 1000})),
        post(
            "a drain of another age",
            drain,
            400,
            json!({"deadline_ms": 86_400_001}),
        ),
        post("a load", load, 202, json!({})),
        post(
            "a load of a stranger",
            load,
            400,
            json!({"model_ref": "stranger"}),
        ),
        post("an unload", unload, 202, json!({})),
        post(
            "a reload",
            reload,
            202,
            json!({"new_model_ref": "file:/models/other.gguf"}),
        ),
        post("a reload of nothing", reload, 400, json!({})),
        Case::of("no pool's drain", "POST", drain, 404)
            .at("/v1/pools/nonesuch/drain".into())
            .with(&json!({})),
        // Nobody answers at the address that the node has given.
        Case::of("logs", "GET", "/v1/pools/{id}/logs", 503).at("/v1/pools/p/logs".into()),
        Case::of("logs of no pool", "GET", "/v1/pools/{id}/logs", 404).at("/v1/pools/nonesuch/logs".into()),
    ]
}

fn of_the_fleet(report: &Value) -> Vec<Case> {
    let mut later = report.clone();
    later["seq"] = json!(report["seq"].as_u64().unwrap() + 1);
    let node = |rest: &str| format!("/v1/workers/box{rest}");
    let mut unreachable = report.clone();
    // Nobody listens there.
    (unreachable["relay"], unreachable["address"]) = (json!(true), json!("http://127.0.0.1:9"));
    vec![
        Case::of("capabilities", "GET", "/v1/capabilities", 200),
        Case::of("nodes", "GET", "/v1/nodes", 200),
        Case::of("pools", "GET", "/v1/pools", 200),
        Case::of("a pool", "GET", "/v1/pools/{id}", 200).at("/v1/pools/p".into()),
        Case::of("its health", "GET", "/v1/pools/{id}/health", 200).at("/v1/pools/p/health".into()),
        Case::of("metrics", "GET", "/metrics", 200),
        Case::of("liveness", "GET", "/healthz", 200),
        Case::of("readiness", "GET", "/readyz", 200),
        Case::of("the contract", "GET", "/openapi.json", 200),
        Case::of("a registration", "POST", "/v1/workers/register", 200).with(report),
        Case::of(
            "a registration without a way back",
            "POST",
            "/v1/workers/register",
            400,
        )
        .with(&unreachable),
        Case::of("a heartbeat", "POST", "/v1/workers/{node_id}/heartbeat", 200)
            .at(node("/heartbeat"))
            .with(&later),
        Case::of("an old heartbeat", "POST", "/v1/workers/{node_id}/heartbeat", 409)
            .at(node("/heartbeat"))
            .with(report),
        Case::of("a goodbye", "DELETE", "/v1/workers/{node_id}", 204).at(node("")),
    ]
}

/// Without a body and without a token.
pub(crate) fn bare(operation: &Operation) -> Call {
    Call::new(&operation.method, &target(operation, UNKNOWN_TASK))
}

/// Unknown ids, ids that are none, and bodies of the wrong kind.
pub(crate) fn probes(operation: &Operation) -> Vec<Case> {
    let case = |name, parameter: &str, body: Option<&[u8]>| Case {
        name,
        method: leak(&operation.method),
        path: leak(&operation.path),
        status: 0,
        target: target(operation, parameter),
        body: body.map(<[u8]>::to_vec),
        header: None,
    };
    let mut probes = vec![
        case("an unknown id", UNKNOWN_TASK, None),
        case("no id", "..%2f..%2fetc", None),
    ];
    if operation.spec.get("requestBody").is_some() {
        let bodies: [(&str, &[u8]); 4] = [
            ("an empty object", b"{}"),
            ("no object", b"[1]"),
            ("no JSON", b"{\"a"),
            ("null", b"null"),
        ];
        probes.extend(
            bodies
                .into_iter()
                .map(|(name, body)| case(name, UNKNOWN_TASK, Some(body))),
        );
    }
    probes
}

fn target(operation: &Operation, parameter: &str) -> String {
    let segments = operation.path.split('/').map(|segment| {
        if segment.starts_with('{') {
            parameter
        } else {
            segment
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

fn leak(text: &str) -> &'static str {
    text.to_owned().leak()
}
