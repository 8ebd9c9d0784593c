//! What a running engine says about itself over HTTP: whether it loads, serves, or is not ours at all. Reads `/health` and,
//! once, `/props` and the route of the pool's workload: all are answered outside the decode loop. That the loop turns is
//! shown by one token, or by `/slots` where slots are busy; neither is asked for often, since it would keep llama.cpp from
//! noticing clients that went away.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::StatusCode;
use http_util::{BuildError, Client, ClientOptions, Endpoint, HttpError};
use secrecy::SecretString;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::command::EngineMode;
use super::listener::{Listener, PortOwner, who_listens};

/// Engines listen here and nowhere else.
pub const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Between two looks at an engine that is starting or loading.
pub const LOADING_INTERVAL: Duration = Duration::from_millis(100);

/// How long an answer may take. The engine answers these routes outside its decode loop, so it answers at
/// once or is in trouble.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one token may take at most: the first one of an engine compiles its kernels. Watchdogs are shorter.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(300);

/// What an engine that serves says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Its build.
    pub version: Option<String>,
    /// Its slots.
    pub slots: u32,
    /// Context per slot, tokens.
    pub ctx_per_slot: u32,
}

/// One look at an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing answers yet.
    Silent,
    /// It answers that it loads.
    Loading,
    /// Health passed, and the process that answers is the one that was started.
    Serving(EngineFacts),
    /// Somebody else listens on its port.
    Foreign,
    /// It answers, but not as it must.
    Wrong(String),
    /// It answers as it must, but is not where it must be.
    NotOnGpu(String),
}

/// Looks at one generation of one engine.
#[derive(Debug, Clone)]
pub struct Prober {
    endpoint: Endpoint,
    patient: Endpoint,
    alias: String,
    mode: EngineMode,
    port: u16,
    owner: PortOwner,
}

/// The clients all probers share.
#[derive(Debug, Clone)]
pub struct Clients {
    /// For what is answered at once.
    quick: Client,
    /// For what waits for the decode loop.
    patient: Client,
}

impl Clients {
    /// # Errors
    /// When a connector cannot be made.
    pub fn new() -> Result<Self, BuildError> {
        let with = |timeout| {
            Client::new(ClientOptions {
                connect_timeout: ANSWER_TIMEOUT,
                first_byte_timeout: timeout,
                request_timeout: Some(timeout),
                ..ClientOptions::default()
            })
        };
        Ok(Self {
            quick: with(ANSWER_TIMEOUT)?,
            patient: with(TOKEN_TIMEOUT)?,
        })
    }
}

/// What an engine must show to be the one that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The name it reports for its model.
    pub alias: String,
    /// What it was started for.
    pub mode: EngineMode,
}

/// The base URL of an engine on this host.
#[must_use]
pub fn endpoint_url(port: u16) -> String {
    format!("http://{LOOPBACK}:{port}")
}

impl Prober {
    /// A prober of the engine whose port is its `owner`'s.
    ///
    /// # Errors
    /// When the key cannot be sent in a header.
    pub fn new(
        clients: &Clients,
        port: u16,
        owner: PortOwner,
        expected: Expected,
        key: &SecretString,
    ) -> Result<Self, BuildError> {
        let base = Url::parse(&endpoint_url(port)).map_err(|_| BuildError::Address {
            origin: endpoint_url(port),
            rule: "must be a URL",
        })?;
        Ok(Self {
            endpoint: clients.quick.endpoint(base.clone(), Some(key))?,
            patient: clients.patient.endpoint(base, Some(key))?,
            alias: expected.alias,
            mode: expected.mode,
            port,
            owner,
        })
    }

    /// Looks at an engine that has not served yet.
    pub async fn look(&self) -> Look {
        match self.health().await {
            Health::Silent(_) => Look::Silent,
            Health::Loading => Look::Loading,
            Health::Wrong(what) => Look::Wrong(what),
            Health::Passed => match self.owner().await {
                Ok(Listener::Ours) => self.facts().await,
                Ok(Listener::Foreign) => Look::Foreign,
                Ok(Listener::Nobody) => Look::Silent,
                Ok(Listener::OursExposed) => Look::Wrong("the engine listens beyond loopback".to_owned()),
                Err(error) => Look::Wrong(format!("the owner of port {} is unknown: {error}", self.port)),
            },
        }
    }

    /// Looks at an engine that serves: `Err` says what is wrong with it.
    ///
    /// # Errors
    /// What health answered instead of 200.
    pub async fn still_serves(&self) -> Result<(), String> {
        match self.health().await {
            Health::Passed => Ok(()),
            Health::Silent(what) | Health::Wrong(what) => Err(what),
            Health::Loading => Err("health says that the model is loading again".to_owned()),
        }
    }

    async fn health(&self) -> Health {
        match self.endpoint.send(http_util::Request::get("/health")).await {
            Ok(_) => Health::Passed,
            Err(HttpError::Status {
                status: StatusCode::SERVICE_UNAVAILABLE,
                ..
            }) => Health::Loading,
            Err(HttpError::Status { status, .. }) => Health::Wrong(format!("/health answers {status}")),
            Err(other) => Health::Silent(other.to_string()),
        }
    }

    async fn owner(&self) -> std::io::Result<Listener> {
        let (port, owner) = (self.port, self.owner.clone());
        tokio::task::spawn_blocking(move || who_listens(port, &owner))
            .await
            .map_err(std::io::Error::other)?
    }

    async fn facts(&self) -> Look {
        match self.endpoint.get_json::<Props>("/props").await {
            Ok(props) => match props.check(&self.alias) {
                Look::Serving(facts) => self.workload(facts).await,
                other => other,
            },
            Err(HttpError::Status {
                status: StatusCode::SERVICE_UNAVAILABLE,
                ..
            }) => Look::Loading,
            Err(other) => Look::Wrong(other.to_string()),
        }
    }
}

/// A question without content: an engine that serves the route says what is missing, one that does not says so. Neither
/// computes anything.
#[derive(Debug, Serialize)]
struct Nothing {}

impl Prober {
    /// Whether the engine serves what its pool promises (ORCH-3526). `/props` does not tell; that chats and completions
    /// are served goes without saying.
    async fn workload(&self, facts: EngineFacts) -> Look {
        let path = match self.mode {
            EngineMode::Generate => return Look::Serving(facts),
            EngineMode::Embed => "/v1/embeddings",
            EngineMode::Rerank => "/v1/rerank",
        };
        match self.endpoint.post_json::<_, IgnoredAny>(path, &Nothing {}).await {
            // Said before the question is looked at, and so to every real one.
            Err(HttpError::Status { excerpt, .. }) if excerpt.contains("Pooling type 'none'") => Look::Wrong(
                "the model file names no pooling, so the engine gives no vector for a text; add \"--pooling\" and \
                 \"mean\", \"cls\" or \"last\" to the pool's args, whichever the model was made for"
                    .to_owned(),
            ),
            Ok(_)
            | Err(HttpError::Status {
                status: StatusCode::BAD_REQUEST,
                ..
            }) => Look::Serving(facts),
            Err(HttpError::Status {
                status: StatusCode::SERVICE_UNAVAILABLE,
                ..
            }) => Look::Loading,
            Err(HttpError::Status { status, excerpt, .. }) => Look::Wrong(format!(
                "{path} answers {status}, the pool's workload is not served: {excerpt}"
            )),
            Err(other) => Look::Wrong(other.to_string()),
        }
    }
}

/// One token, the shortest proof that the whole of an engine works.
#[derive(Debug, Serialize)]
struct OneToken {
    /// Token ids; a text would begin with the model's first token, and leave it in the cache for the first client to find.
    prompt: [u32; 1],
    n_predict: u32,
    stream: bool,
    /// What clients have in the cache stays there.
    cache_prompt: bool,
}

const ONE_TOKEN: OneToken = OneToken {
    prompt: [0],
    n_predict: 1,
    stream: false,
    cache_prompt: false,
};

#[derive(Debug, Deserialize)]
struct Generated {
    tokens_predicted: u32,
}

#[derive(Debug, Deserialize)]
struct Slot {
    is_processing: bool,
}

impl Prober {
    /// Whether the engine computes (ORCH-3421): one token, or one input through the pool's own route.
    ///
    /// # Errors
    /// What it answered instead.
    pub async fn computes(&self) -> Result<(), String> {
        let (path, question) = match self.mode {
            EngineMode::Generate => return self.generates().await,
            EngineMode::Embed => ("/v1/embeddings", json!({"input": "1"})),
            EngineMode::Rerank => ("/v1/rerank", json!({"query": "1", "documents": ["1"]})),
        };
        let answer = self.patient.post_json::<_, IgnoredAny>(path, &question).await;
        answer.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn generates(&self) -> Result<(), String> {
        match self
            .patient
            .post_json::<_, Generated>("/completion", &ONE_TOKEN)
            .await
        {
            Ok(Generated {
                tokens_predicted: 1..,
            }) => Ok(()),
            Ok(_) => Err("the engine answers without generating a token".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the decode loop of a serving engine turns, within `limit`: it tells its slots between two steps, and one
    /// that is idle is asked for a token.
    ///
    /// # Errors
    /// What it did not answer.
    pub async fn turns(&self, limit: Duration) -> Result<(), String> {
        let looking = async {
            let slots: Vec<Slot> = self
                .patient
                .get_json("/slots")
                .await
                .map_err(|error| error.to_string())?;
            if slots.iter().any(|slot| slot.is_processing) {
                return Ok(());
            }
            self.computes().await
        };
        tokio::time::timeout(limit, looking)
            .await
            .unwrap_or_else(|_elapsed| {
                Err(format!(
                    "its decode loop has not answered for {} s",
                    limit.as_secs_f32()
                ))
            })
    }
}

enum Health {
    Silent(String),
    Loading,
    Passed,
    Wrong(String),
}

/// `GET /props` of llama.cpp's server, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Props {
    total_slots: u32,
    default_generation_settings: GenerationSettings,
    model_alias: Option<String>,
    build_info: Option<String>,
}

#[derive(Debug, Deserialize)]
struct GenerationSettings {
    n_ctx: u32,
}

impl Props {
    /// Older builds do not tell the alias; the owner of the port is proven either way.
    fn check(self, alias: &str) -> Look {
        match self.model_alias {
            Some(other) if other != alias => {
                Look::Wrong(format!("/props names the model {other:?} instead of {alias:?}"))
            }
            _ => Look::Serving(EngineFacts {
                version: self.build_info,
                slots: self.total_slots,
                ctx_per_slot: self.default_generation_settings.n_ctx,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn props_of_llama_cpp_are_read() {
        let text = r#"{"default_generation_settings":{"params":{"seed":4294967295},"n_ctx":512},"total_slots":2,
            "model_alias":"tiny-alias","build_info":"b1-0c1e570","is_sleeping":false}"#;
        let props: Props = serde_json::from_str(text).unwrap();
        let facts = EngineFacts {
            version: Some("b1-0c1e570".into()),
            slots: 2,
            ctx_per_slot: 512,
        };
        assert_eq!(props.check("tiny-alias"), Look::Serving(facts));
    }

    #[test]
    fn another_model_is_not_ours() {
        let props = Props {
            total_slots: 1,
            default_generation_settings: GenerationSettings { n_ctx: 1 },
            model_alias: Some("other".into()),
            build_info: None,
        };
        assert!(matches!(props.check("tiny"), Look::Wrong(what) if what.contains("\"other\"")));
    }
}
