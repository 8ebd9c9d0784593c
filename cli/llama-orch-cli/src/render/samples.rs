//! Answers for the snapshots, written as the wire has them.

use api_types::capabilities::Capabilities;
use api_types::{
    ArtifactList, ModelEntry, NodeList, PoolList, SessionStatus, TaskEvent, TaskList, TaskReceipt,
};
use http::StatusCode;
use llama_orch_client::{ApiError, ClientError, Peer, StreamItem};
use orchestrator_core::policy::{DecisionRecord, JobSpec, PlacementInput, Snapshot, Stage, decide};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::failure::Failure;

const TASK: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn item(id: Option<&str>, name: &str, data: &Value) -> StreamItem {
    StreamItem {
        id: id.map(str::to_owned),
        event: TaskEvent::parse(name, &data.to_string()).unwrap().unwrap(),
    }
}

/// A decision between a busy pool, a free one and one that is too small.
pub(super) fn decision() -> DecisionRecord {
    let job: JobSpec = read(json!({
        "needs": {"model_ref": "tiny", "workload": "completion", "determinism": "best_effort",
                  "placement": {"mode": "prefer", "prefer_pools": ["gpu0"], "allow_fallback": true}},
        "ctx_tokens": 3000
    }));
    let pool = |id: &str, free: u32, ctx: u32, mtps: Option<u64>| {
        json!({
            "pool_id": id, "readiness": "ready", "engine": "llamacpp", "model_id": "tiny",
            "model_ref": "file:/models/tiny.gguf", "ctx_max": ctx, "workloads": ["completion"], "deterministic": false,
            "device_mask": [format!("GPU-{id}")], "slots_total": 4, "slots_free": free,
            "predicted_free_ms": (free == 0).then_some(2500), "decode_mtps": mtps, "vram_free_bytes": 12_884_901_888_u64
        })
    };
    let pools = [
        pool("gpu0", 0, 4096, Some(81_500)),
        pool("gpu1", 3, 4096, Some(42_000)),
        pool("small", 4, 2048, None),
    ];
    let snapshot: Snapshot = read(json!({"version": 17, "pools": pools}));
    let decision = decide(&PlacementInput::new(&job, &snapshot));
    let task: api_types::TaskId = TASK.parse().unwrap();
    DecisionRecord::new(Stage::Placed, job, snapshot, decision).of(task)
}

/// One with every budget, and one with none and nothing cached.
pub(super) fn sessions() -> (SessionStatus, SessionStatus) {
    let full = json!({
        "ttl_ms_remaining": 540_000, "turns": 3, "turns_max": 8, "tasks_live": 1, "kv_tokens": 812, "kv_warmth": true,
        "pool_id": "gpu1", "tokens_spent": 2400, "time_spent_ms": 31_500, "cost_spent": 0.0125,
        "tokens_budget_remaining": 7600, "time_budget_remaining_ms": 268_500, "cost_budget_remaining": 0.9875
    });
    let bare = json!({
        "ttl_ms_remaining": 600_000, "turns": 1, "turns_max": 8, "tasks_live": 0, "kv_bytes": 0, "kv_tokens": 0,
        "kv_warmth": false, "tokens_spent": 0, "time_spent_ms": 0
    });
    (read(full), read(bare))
}

pub(super) fn token(text: &str) -> StreamItem {
    item(Some("0.1"), "token", &json!({"t": text, "i": 0}))
}

pub(super) fn stream() -> Vec<StreamItem> {
    let started = json!({
        "task_id": TASK, "queue_position": 2, "predicted_start_ms": 3250, "model_ref": "tiny", "seed": 7,
        "correlation_id": "c-1"
    });
    let queued = json!({"phase": "queued", "queue_position": 1, "predicted_start_ms": 900, "queue_depth": 3, "kv_warmth": false});
    let loading = json!({"phase": "loading", "queue_depth": 0, "kv_warmth": false});
    let decoding = json!({"phase": "decoding", "queue_depth": 0, "kv_warmth": false, "pool_id": "gpu0"});
    let placed = json!({"human": "interactive task goes to gpu0: free slot and the most free memory", "actor": "orchestratord", "action": "placement"});
    let end = json!({
        "finish_reason": "stop", "tokens_in": 12, "tokens_out": 41, "queue_time_ms": 3210, "first_token_ms": 35,
        "decode_time_ms": 434, "decode_ms": 434, "engine": "llamacpp", "engine_version": "b6500", "model_id": "tiny",
        "model_digest": format!("sha256:{}", "0123456789abcdef".repeat(4)), "seed": 7, "pool_id": "gpu0",
        "replica_id": "gpu0-0", "kv_warmth": false
    });
    vec![
        item(Some("0.0"), "started", &started),
        item(None, "metrics", &queued),
        item(None, "metrics", &loading),
        item(None, "narration", &placed),
        item(None, "metrics", &decoding),
        item(Some("0.1"), "token", &json!({"t": "Hello", "i": 0})),
        item(Some("0.2"), "token", &json!({"t": ", wörld\n", "i": 1})),
        item(Some("0.3"), "end", &end),
    ]
}

pub(super) fn error_event() -> StreamItem {
    let error = json!({
        "code": "WORKER_RESET", "message": "the engine ended: CUDA error: out of memory",
        "hint": "give the pool fewer slots or a shorter context", "retriable": true, "retry_after_ms": 1500,
        "correlation_id": "c-1"
    });
    item(Some("0.3"), "error", &error)
}

pub(super) fn refusal() -> Failure {
    let body = json!({
        "code": "ADMISSION_REJECT", "message": "the queue is full: 64 tasks wait", "retriable": true,
        "retry_after_ms": 1500, "policy_label": "reject", "correlation_id": "c-1"
    });
    let error = ApiError {
        peer: Peer {
            daemon: "orchestratord",
            base_url: "http://127.0.0.1:8080".into(),
        },
        status: StatusCode::TOO_MANY_REQUESTS,
        body: read(body),
        retry_after_header: None,
        identity: None,
    };
    ClientError::Api(Box::new(error)).into()
}

pub(super) fn receipt() -> TaskReceipt {
    read(json!({
        "task_id": TASK, "queue_position": 1, "predicted_start_ms": 900, "predicted_end_ms": 12_000,
        "backoff_ms": 0, "pool_id": "gpu0", "stream_url": "/s"
    }))
}

pub(super) fn tasks() -> TaskList {
    let queued = json!({
        "task_id": TASK, "state": "queued", "priority": "batch", "model_ref": "tiny", "queue_position": 2,
        "predicted_start_ms": 3250, "predicted_end_ms": 9000, "seed": 7, "usage": {"tokens_in": 0, "tokens_out": 0},
        "timings": {}, "correlation_id": "c-1", "stream_url": "/s"
    });
    let failed = json!({
        "task_id": TASK, "state": "failed", "priority": "interactive", "model_ref": "hf:org/repo/model.gguf",
        "session_id": "chat-1", "pool_id": "gpu1", "replica_id": "gpu1-0", "seed": 8,
        "usage": {"tokens_in": 12, "tokens_out": 3},
        "timings": {"queue_time_ms": 4, "first_token_ms": 61, "decode_time_ms": 1200},
        "error": {
            "code": "WORKER_RESET", "message": "the engine ended:\nsignal 9", "hint": "look at the pool's log",
            "retriable": true
        },
        "correlation_id": "c-2", "stream_url": "/s"
    });
    read(json!({"tasks": [queued, failed], "next_cursor": "n"}))
}

fn pool(id: &str, health: &Value, free: u32, total: u32) -> Value {
    json!({
        "pool_id": id, "node_id": "box", "engine": "llamacpp", "engine_version": "b6500", "model_id": "tiny",
        "model_ref": "file:/models/tiny.gguf", "ctx_max": 4096,
        "device_mask": ["GPU-00000000-1111-2222-3333-444444444444"], "slots_total": total, "slots_free": free,
        "perf": {}, "health": health, "replicas": []
    })
}

pub(super) fn pools() -> PoolList {
    let metrics = json!({"slots_total": 4, "slots_free": 3, "active_leases": 1, "restarts": 0});
    let ready = json!({"live": true, "ready": true, "draining": false, "generation": 1, "metrics": metrics});
    let oom = json!({
        "live": true, "ready": false, "draining": false, "generation": 2, "cause": "VRAM_OOM",
        "hint": "lower the context or the number of slots", "last_error": "CUDA error: out of memory\nexit 1",
        "metrics": {"slots_total": 0, "slots_free": 0, "active_leases": 0, "restarts": 3}
    });
    let draining = json!({"live": true, "ready": false, "draining": true, "generation": 1, "cause": "DRAINING", "metrics": metrics});
    let silent = json!({"live": false, "ready": false, "draining": false, "generation": 1, "cause": "NODE_STALE", "metrics": metrics});
    read(json!({"pools": [
        pool("gpu0", &ready, 3, 4),
        pool("gpu1", &oom, 0, 0),
        pool("gpu2", &draining, 4, 4),
        pool("gpu3", &silent, 4, 4),
    ]}))
}

pub(super) fn nodes() -> NodeList {
    let gpu = |index: u32, name: &str, total: u64, free: u64| {
        json!({
            "uuid": format!("GPU-0000000{index}-1111"), "index": index, "name": name, "compute_capability": "8.6",
            "memory_total_bytes": total, "memory_free_bytes": free, "memory_used_bytes": total - free
        })
    };
    let gpus = [
        gpu(0, "NVIDIA GeForce RTX 3090", 24 << 30, 20 << 30),
        gpu(1, "NVIDIA GeForce RTX 3060", 12 << 30, 3 << 29),
    ];
    read(json!({"nodes": [
        {"node_id": "box", "address": "http://127.0.0.1:9200", "version": "0.1.0", "live": true, "last_seen_ms": 120,
         "driver": {"driver_version": "580.65", "cuda_version": "13.0"}, "gpus": gpus, "pools": ["gpu0", "gpu1"]},
        {"node_id": "old", "address": "http://10.0.0.2:9200", "relay": true, "version": "0.1.0", "live": false,
         "last_seen_ms": 65_000, "driver_error": "NVML: driver not loaded", "gpus": [], "pools": []}
    ]}))
}

pub(super) fn artifacts() -> ArtifactList {
    let info = |digit: &str, kind: &str, bytes: u64, media_type: &str, tags: &[&str]| {
        json!({
            "id": format!("sha256:{}", digit.repeat(64)), "kind": kind, "bytes": bytes, "media_type": media_type,
            "tags": tags, "created_unix_ms": 1_700_000_000_000_u64
        })
    };
    let task = format!("task:{TASK}");
    read(json!({"artifacts": [
        info("a", "diff", 1536, "text/x-diff", &["release-7", "review"]),
        info("0", "trace", 2800, "application/json", &["outcome:stop", &task]),
    ], "next_cursor": "7"}))
}

pub(super) fn capabilities() -> Capabilities {
    read(json!({"api_version": "1.0.0", "pools": [{
        "pool_id": "gpu0", "node_id": "box", "engine": "llamacpp", "engine_version": "b6500", "model_id": "tiny",
        "ctx_max": 4096, "slots_total": 4, "supported_workloads": ["completion", "chat"],
        "features": ["seed", "stop"], "rate_limits": [], "deterministic": true
    }], "engines": [{"engine": "llamacpp", "engine_versions": ["b6500"]}]}))
}

/// A model as large as people have them.
pub(super) fn model() -> ModelEntry {
    let digest = format!("sha256:{}", "ab".repeat(32));
    read(json!({
        "id": "qwen3-8b", "state": "Active", "source": "hf:org/Qwen3-8B-GGUF/qwen3-8b-q4_k_m.gguf",
        "resolved": "hf:org/Qwen3-8B-GGUF@0123456789abcdef0123456789abcdef01234567/qwen3-8b-q4_k_m.gguf",
        "digest": digest, "bytes": 5_027_783_488_u64,
        "files": [{"name": "qwen3-8b-q4_k_m.gguf", "bytes": 5_027_783_488_u64, "sha256": digest,
                   "place": {"cached": "models/qwen3-8b/abababababababab/qwen3-8b-q4_k_m.gguf"}}],
        "facts": {
            "format": "gguf", "architecture": "qwen3", "name": "Qwen3 8B", "quantization": "Q4_K_M",
            "parameters": 8_190_735_360_u64, "tensor_bytes": 5_021_835_264_u64, "offloaded_bytes": 4_671_668_224_u64,
            "context_length": 40_960, "layers": 36, "embedding_length": 4096, "feed_forward_length": 12_288,
            "heads": 32, "kv_heads": [8], "key_length": 128, "value_length": 128, "vocabulary": 151_936,
            "chat_template": true
        },
        "created_unix_ms": 1_700_000_000_000_u64, "state_unix_ms": 1_700_000_000_000_u64
    }))
}
