//! What engines were seen to hold on their GPUs, into the catalog, so that plans are made from measurements
//! (REQ-VRAM-LEARN). Reads the pools' reports; writes the catalog's list of measurements, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_types::operation::OperationState;
use api_types::pool::{PoolReport, ReplicaReport, ReplicaState};
use api_types::{KvCacheType, MeasuredUsage, UsageKey};
use catalog_core::Catalog;
use narration_core::wall;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::pool::Pools;
use crate::trouble::chain;

/// Between two looks: the driver is asked every second, and what an engine holds hardly changes once it serves.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The element types of a pool's KV cache: its keys', its values'.
pub type CacheTypes = (KvCacheType, KvCacheType);

/// Looks on, and notes the most it sees.
#[derive(Debug)]
pub struct Learner {
    pools: Pools,
    catalog: Arc<Catalog>,
    noted: BTreeMap<UsageKey, u64>,
}

impl Learner {
    /// Of these pools, into this catalog.
    #[must_use]
    pub const fn new(pools: Pools, catalog: Arc<Catalog>) -> Self {
        Self {
            pools,
            catalog,
            noted: BTreeMap::new(),
        }
    }

    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let looking = async {
            loop {
                self.look().await;
                sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = looking => {}
        }
    }

    async fn look(&mut self) {
        let now_ms = wall::unix_ms();
        let seen: Vec<MeasuredUsage> = self
            .pools
            .iter()
            .filter_map(|pool| Some((pool.report(), pool.spec.cache?)))
            .flat_map(|(report, cache)| measurements(&report, cache, now_ms))
            .filter(|seen| self.noted.get(&seen.key).is_none_or(|most| *most < seen.bytes))
            .collect();
        for measurement in seen {
            self.note(measurement, now_ms).await;
        }
    }

    async fn note(&mut self, seen: MeasuredUsage, now_ms: u64) {
        let (catalog, measurement) = (Arc::clone(&self.catalog), seen.clone());
        let noting = spawn_blocking(move || catalog.record_usage(&measurement, now_ms));
        match noting.await {
            Ok(Ok(())) => _ = self.noted.insert(seen.key, seen.bytes),
            // Nothing depends on it: the next look tries again.
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "a measurement could not be kept"),
            Err(error) => tracing::warn!(%error, "a measurement could not be kept"),
        }
    }
}

/// What a report shows of engines that serve: only what is known for sure is a measurement.
fn measurements(report: &PoolReport, cache: CacheTypes, now_ms: u64) -> Vec<MeasuredUsage> {
    // While it changes its model, a report has engines of both.
    let changes = report.operation.as_ref();
    if changes.is_some_and(|operation| operation.state == OperationState::Running) {
        return Vec::new();
    }
    let digest = report
        .model_digest
        .as_deref()
        .and_then(|digest| digest.parse().ok());
    let Some(model) = digest else {
        return Vec::new();
    };
    let ready = report
        .replicas
        .iter()
        .filter(|replica| replica.state == ReplicaState::Ready);
    let measured = ready.filter_map(|replica: &ReplicaReport| {
        Some(MeasuredUsage {
            key: UsageKey {
                engine: report.engine,
                engine_version: replica.engine_version.clone()?,
                model,
                ctx: u64::from(replica.ctx_per_slot?),
                slots: replica.slots_total?,
                cache_k: cache.0,
                cache_v: cache.1,
            },
            bytes: replica.gpu_memory_bytes.filter(|bytes| *bytes > 0)?,
            samples: 1,
            measured_unix_ms: now_ms,
        })
    });
    measured.collect()
}

/// The types that llama.cpp's arguments ask for; `None` where one is not known here.
#[must_use]
pub fn cache_types(args: &[String]) -> Option<CacheTypes> {
    let of = |names: [&str; 2]| match value_of(args, names) {
        Some(text) => text.parse().ok(),
        None => Some(KvCacheType::F16),
    };
    Some((of(["-ctk", "--cache-type-k"])?, of(["-ctv", "--cache-type-v"])?))
}

/// Of the last of an argument's occurrences, as the engine reads it.
fn value_of<'a>(args: &'a [String], names: [&str; 2]) -> Option<&'a str> {
    let at = args.iter().rposition(|arg| names.contains(&arg.as_str()))?;
    args.get(at + 1).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_cache_is_what_the_arguments_say() {
        let half = KvCacheType::F16;
        assert_eq!(cache_types(&[]), Some((half, half)));
        assert_eq!(
            cache_types(&args("-fa on -ctk q8_0 --cache-type-v q4_0 -ctk q5_1")),
            Some((KvCacheType::Q51, KvCacheType::Q40))
        );
        assert_eq!(cache_types(&args("-ctv whatever")), None);
        assert_eq!(cache_types(&args("--cache-type-k")), Some((half, half)));
    }
}
