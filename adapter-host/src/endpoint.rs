//! From an endpoint's description to the adapter that speaks to it.

use std::sync::Arc;

use adapter_api::{Adapter, Timeouts};
use api_types::EngineKind;
use http_util::{BuildError, Client};
use llamacpp_http::LlamaCpp;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::error::BindError;
use crate::registry::Target;

/// Where an engine process answers, as its pool reports it.
#[derive(Debug, Clone)]
pub struct EndpointSpec {
    /// Which protocol it speaks.
    pub engine: EngineKind,
    /// Its base URL.
    pub url: String,
    /// Its own key. Never this daemon's token.
    pub key: Option<SecretString>,
}

impl PartialEq for EndpointSpec {
    fn eq(&self, other: &Self) -> bool {
        let key = |spec: &Self| spec.key.as_ref().map(|key| key.expose_secret().to_owned());
        self.engine == other.engine && self.url == other.url && key(self) == key(other)
    }
}

/// Makes adapters. One HTTP client per protocol serves all endpoints: its connection pool keeps hosts apart, and a
/// credential belongs to an endpoint.
pub(crate) struct Adapters {
    timeouts: Timeouts,
    llamacpp: Client,
}

impl Adapters {
    pub(crate) fn new(timeouts: Timeouts) -> Result<Self, BuildError> {
        Ok(Self {
            timeouts,
            llamacpp: LlamaCpp::client(&timeouts)?,
        })
    }

    pub(crate) fn build(&self, target: &Target, spec: &EndpointSpec) -> Result<Arc<dyn Adapter>, BindError> {
        let url = Url::parse(&spec.url).map_err(|source| BindError::Url {
            target: target.clone(),
            source,
        })?;
        match spec.engine {
            EngineKind::Llamacpp => {
                let endpoint = self.llamacpp.endpoint(url, spec.key.as_ref());
                let endpoint = endpoint.map_err(|source| BindError::Endpoint {
                    target: target.clone(),
                    source,
                })?;
                Ok(Arc::new(LlamaCpp::new(endpoint, self.timeouts)))
            }
            engine @ (EngineKind::Vllm | EngineKind::Tgi | EngineKind::Triton | EngineKind::Openai) => {
                Err(BindError::UnsupportedEngine {
                    target: target.clone(),
                    engine,
                })
            }
        }
    }
}
