//! The routes of artifacts.

use api_types::{Artifact, ArtifactId, ArtifactInfo, ArtifactList, ArtifactQuery, ArtifactRequest};
use http::StatusCode;
use http_util::Request;

use crate::error::{ClientError, ProtocolFault};
use crate::orchestrator::{OrchestratorClient, query_string};

/// No artifact has a longer answer: 64 MiB of content, each byte a control character that JSON writes as six.
const MAX_ANSWER_BYTES: usize = (6 * 64 + 1) << 20;

/// What became of something to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredArtifact {
    /// As the orchestrator knows it now.
    pub info: ArtifactInfo,
    /// Whether its content is new.
    pub created: bool,
}

impl OrchestratorClient {
    /// Stores an artifact: `POST /v1/artifacts`. The same content again is the same artifact.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn store_artifact(&self, artifact: &ArtifactRequest) -> Result<StoredArtifact, ClientError> {
        let request = Request::post("/v1/artifacts")
            .json(artifact)
            .map_err(|e| self.api.error(e))?;
        let reply = self.api.send(request).await?;
        Ok(StoredArtifact {
            info: reply.json().map_err(|e| self.api.error(e))?,
            created: reply.status == StatusCode::CREATED,
        })
    }

    /// One artifact with its content, which the orchestrator has verified: `GET /v1/artifacts/{id}`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn artifact(&self, id: ArtifactId) -> Result<Artifact, ClientError> {
        let request = Request::get(format!("/v1/artifacts/{id}"));
        // An artifact may be larger than a short reply.
        let mut body = self.api.stream(request).await?.body;
        let mut json = Vec::new();
        while let Some(chunk) = body.chunk().await.map_err(|e| self.api.error(e))? {
            if json.len() + chunk.len() > MAX_ANSWER_BYTES {
                let limit = MAX_ANSWER_BYTES;
                return Err(self.api.fault(ProtocolFault::TooLong { limit }));
            }
            json.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&json).map_err(|source| self.api.fault(ProtocolFault::Answer { source }))
    }

    /// One page of artifacts: `GET /v1/artifacts`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn artifacts(&self, query: &ArtifactQuery) -> Result<ArtifactList, ClientError> {
        let query = query_string([
            ("tag", query.tag.as_ref().map(ToString::to_string)),
            ("kind", query.kind.map(|kind| kind.to_string())),
            ("cursor", query.cursor.clone()),
            ("limit", query.limit.map(|limit| limit.to_string())),
        ]);
        self.api.get(&format!("/v1/artifacts{query}")).await
    }
}
