//! The contract as the checks need it: operations, and a validator for each documented answer.

use orchestratord::api::spec;
use serde_json::{Value, json};
use test_harness_support::http1::Answer;
use utoipa::openapi::OpenApi;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The documents with the names of their files.
pub(crate) fn documents() -> [(&'static str, OpenApi); 2] {
    [("data.yaml", spec::data()), ("control.yaml", spec::control())]
}

/// One operation.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// In capitals.
    pub(crate) method: String,
    /// With its parameters in braces.
    pub(crate) path: String,
    /// Whether it needs no token.
    pub(crate) public: bool,
    /// Its part of the document.
    pub(crate) spec: Value,
}

impl Operation {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn parameters(&self) -> impl Iterator<Item = &Value> {
        self.spec
            .get("parameters")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    /// The bodies of requests and of good answers, with their media types.
    fn shown(&self) -> Vec<(&String, &Value)> {
        let answers = self.spec["responses"].as_object().unwrap().iter();
        let good = answers
            .filter(|(status, _)| status.starts_with('2'))
            .map(|(_, answer)| answer);
        let bodies = self.spec.get("requestBody").into_iter().chain(good);
        bodies
            .filter_map(|body| body.get("content")?.as_object())
            .flatten()
            .collect()
    }

    /// Whether there is a parameter or a body to show.
    pub(crate) fn shows_something(&self) -> bool {
        self.parameters().next().is_some() || !self.shown().is_empty()
    }
}

/// Both documents.
pub(crate) struct Contract {
    operations: Vec<Operation>,
    components: Value,
}

impl Contract {
    pub(crate) fn load() -> Self {
        let document = serde_json::to_value(spec::whole()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let of_path = |(path, item): (&String, &Value)| -> Vec<Operation> {
            METHODS
                .into_iter()
                .filter_map(|method| Some((method, item.get(method)?.clone())))
                .map(|(method, spec)| Operation {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    public: spec["security"] == json!([{}]),
                    spec,
                })
                .collect()
        };
        let operations: Vec<Operation> = paths.iter().flat_map(of_path).collect();
        assert!(operations.len() >= 19, "{}", operations.len());
        Self {
            operations,
            components: document["components"].clone(),
        }
    }

    pub(crate) fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter()
    }

    pub(crate) fn operation(&self, method: &str, path: &str) -> Operation {
        let found = self
            .operations()
            .find(|operation| operation.method == method && operation.path == path);
        found
            .unwrap_or_else(|| panic!("the contract has no {method} {path}"))
            .clone()
    }

    /// Status, media type, headers and body of an answer.
    pub(crate) fn check(&self, operation: &Operation, answer: &Answer, case: &str) {
        let place = format!("{} ({case}) -> {}", operation.name(), answer.status);
        let told = operation.spec["responses"].get(answer.status.to_string());
        let told = told.unwrap_or_else(|| panic!("{place} is not documented: {}", answer.text()));
        assert!(
            answer.header("x-correlation-id").is_some_and(|id| !id.is_empty()),
            "{place}: no correlation id"
        );
        let Some(content) = told.get("content").and_then(Value::as_object) else {
            assert!(answer.body.is_empty(), "{place} has a body: {}", answer.text());
            return;
        };
        let given = answer.header("content-type").unwrap_or_default();
        let media = given.split(';').next().unwrap_or_default().trim();
        let body = content
            .get(media)
            .unwrap_or_else(|| panic!("{place}: {given:?} is not a documented media type"));
        if media == "application/json" {
            self.validate(&body["schema"], &answer.json().unwrap(), &place);
        }
        if answer.status >= 400 {
            let error: Value = answer.json().unwrap();
            assert_eq!(
                error["correlation_id"].as_str(),
                answer.header("x-correlation-id"),
                "{place}"
            );
        }
    }

    /// What an operation shows, against what it says.
    pub(crate) fn check_examples(&self, operation: &Operation) {
        let name = operation.name();
        for parameter in operation.parameters() {
            let place = format!("{name}: example of parameter {}", parameter["name"]);
            match parameter.get("example") {
                Some(example) => self.validate(&parameter["schema"], example, &place),
                None => assert!(parameter["required"] != true, "{place} is missing"),
            }
        }
        for (media, content) in operation.shown() {
            let place = format!("{name}: example of {media}");
            let example = content
                .get("example")
                .unwrap_or_else(|| panic!("{place} is missing"));
            match media.as_str() {
                "text/event-stream" => self.check_events(example.as_str().unwrap()),
                _ => self.validate(&content["schema"], example, &place),
            }
        }
    }

    fn check_events(&self, text: &str) {
        for frame in text.split("\n\n").filter(|frame| !frame.is_empty()) {
            let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let data: Value = serde_json::from_str(field("data: ")).unwrap();
            self.check_schema("TaskEvent", &json!({"event": field("event: "), "data": data}));
        }
    }

    /// A value against a named schema.
    pub(crate) fn check_schema(&self, name: &str, value: &Value) {
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        self.validate(&reference, value, name);
    }

    fn validate(&self, schema: &Value, value: &Value, place: &str) {
        // Beside the schema, so that its references into the document resolve.
        let document = json!({"allOf": [schema], "components": self.components});
        let validator = jsonschema::draft202012::new(&document).unwrap();
        let violations: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{}: {:.2000}", error.instance_path(), error.to_string()))
            .collect();
        let shown = format!("{value:#}");
        assert!(violations.is_empty(), "{place}: {violations:#?}\n{shown:.2000}");
    }
}
