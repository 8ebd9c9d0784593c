//! The one vocabulary of llama-orch: ids, enums, wire structs, error codes with their HTTP status,
//! and stream events. Every other crate takes its names from here.
//!
//! Nothing here does I/O, reads a clock, or decides anything: types, their validation and their
//! wire form only.

pub mod artifact;
pub mod capabilities;
pub mod catalog;
pub mod container;
pub mod digest;
pub mod error;
pub mod event;
pub mod ids;
pub mod link;
pub mod list;
pub mod log;
pub mod model_ref;
pub mod operation;
pub mod placement;
pub mod pool;
pub mod result;
pub mod session;
pub mod task;
mod validate;

pub use artifact::{
    Artifact, ArtifactId, ArtifactInfo, ArtifactKind, ArtifactList, ArtifactQuery, ArtifactRequest,
    ArtifactTag, ContentEncoding, TranscriptRef,
};
pub use catalog::{
    EngineEntry, EngineMode, FilePlace, KvCacheType, Lifecycle, MeasuredUsage, ModelEntry, ModelFacts,
    ModelFile, ModelFormat, PathError, RelativePath, UsageKey,
};
pub use digest::{DigestError, Sha256Digest};
pub use error::{ErrorBody, ErrorCode, PolicyLabel};
pub use event::{
    EndEvent, FinishReason, MetricsEvent, NarrationEvent, Phase, ResyncEvent, StartedEvent, TaskEvent,
    TokenEvent, TokenKind,
};
pub use ids::{CorrelationId, EngineId, ModelId, NodeId, PoolId, ReplicaId, SessionId, TaskId};
pub use list::{NodeList, PoolList, TaskList, TaskQuery};
pub use log::LogFormat;
pub use model_ref::{ModelRef, ModelRefError, ModelRefParts, OciReference};
pub use operation::{
    DesiredPool, LoadRequest, ModelChoice, OperationAccepted, OperationKind, OperationPhase, OperationState,
    OperationStatus, ReloadRequest, StopRequest,
};
pub use placement::{PlacementMode, PlacementOverrides};
pub use result::{RerankScore, TaskResult};
pub use session::{BudgetsRemaining, Cost, SessionStatus};
pub use task::{
    Determinism, EngineKind, KvHint, Message, OutputMode, Priority, Role, Sampling, TaskReceipt, TaskRequest,
    TaskState, TaskStatus, Workload,
};
pub use validate::{FieldError, Limits};
