//! From an endpoint's description to the adapter that speaks to it.

use std::sync::Arc;

use adapter_api::{Adapter, Timeouts};
use api_types::EngineKind;
use api_types::link::{ENGINE_START_HEADER, EngineStart};
use http::{HeaderName, HeaderValue};
use http_util::{BuildError, Client, Endpoint};
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
    /// Its base URL, or that of its node's relay.
    pub url: String,
    /// The key of whoever answers there: the engine's own, or the installation's token where that is a relay. A token
    /// never goes to an engine.
    pub key: Option<SecretString>,
    /// Where a relay answers: which start of the engine is meant.
    pub relay: Option<EngineStart>,
}

impl PartialEq for EndpointSpec {
    fn eq(&self, other: &Self) -> bool {
        let key = |spec: &Self| spec.key.as_ref().map(|key| key.expose_secret().to_owned());
        let address = |spec: &Self| (spec.engine, spec.url.clone(), spec.relay);
        address(self) == address(other) && key(self) == key(other)
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
                Ok(Arc::new(LlamaCpp::new(meant(endpoint, spec), self.timeouts)))
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

/// A relay is told with every request which start of the engine is meant.
#[expect(clippy::expect_used, reason = "a UUID, a dot and digits are visible ASCII")]
fn meant(endpoint: Endpoint, spec: &EndpointSpec) -> Endpoint {
    let Some(start) = spec.relay else {
        return endpoint;
    };
    let value = HeaderValue::from_str(&start.to_string()).expect("visible ASCII is a header's value");
    endpoint.with_header(HeaderName::from_static(ENGINE_START_HEADER), value)
}
