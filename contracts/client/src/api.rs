//! One daemon's endpoint: calls in, typed answers or [`ClientError`] out. Knows no route.

use auth_min::{Fp6, Identity};
use http_util::{Endpoint, HttpError, Reply, Request, StreamResponse};
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::error::{ClientError, Peer, ProtocolFault};

#[derive(Debug, Clone)]
pub(crate) struct Api {
    endpoint: Endpoint,
    peer: Peer,
    identity: Option<Identity>,
}

impl Api {
    pub(crate) fn new(
        client: &http_util::Client,
        daemon: &'static str,
        base_url: &str,
        token: Option<&SecretString>,
    ) -> Result<Self, ClientError> {
        let base_url: Url = base_url.parse().map_err(ClientError::Address)?;
        let endpoint = client.endpoint(base_url, token).map_err(ClientError::Setup)?;
        let base_url = endpoint.base().as_str().trim_end_matches('/').into();
        Ok(Self {
            endpoint,
            peer: Peer { daemon, base_url },
            identity: token.map(|token| Identity::Token(Fp6::of(token))),
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.endpoint.get_json(path).await.map_err(|e| self.error(e))
    }

    pub(crate) async fn post<B, T>(&self, path: &str, body: &B) -> Result<T, ClientError>
    where
        B: Serialize + Sync,
        T: DeserializeOwned,
    {
        self.endpoint
            .post_json(path, body)
            .await
            .map_err(|e| self.error(e))
    }

    pub(crate) async fn send(&self, request: Request) -> Result<Reply, ClientError> {
        self.endpoint.send(request).await.map_err(|e| self.error(e))
    }

    pub(crate) async fn stream(&self, request: Request) -> Result<StreamResponse, ClientError> {
        self.endpoint.stream(request).await.map_err(|e| self.error(e))
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn error(&self, error: HttpError) -> ClientError {
        ClientError::from_http(self.peer.clone(), self.identity, error)
    }

    pub(crate) fn fault(&self, source: ProtocolFault) -> ClientError {
        ClientError::Protocol {
            peer: self.peer.clone(),
            source,
        }
    }
}
