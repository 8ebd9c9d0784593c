//! The link to the orchestrator: registers, sends the full state at the interval it asks for and after every
//! change, and publishes what it orders. No trouble of the link ever touches an engine.

mod outcome;
mod pause;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api_types::link::{DesiredState, NodeReport};
use api_types::operation::DesiredPool;
use api_types::pool::{ReplicaReport, ReplicaState};
use api_types::{PoolId, ReplicaId};
use llama_orch_client::OrchestratorClient;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::changes::Changes;
use crate::metrics::Metrics;
use crate::pool::Orders;
use crate::report::Reporter;
use outcome::{Outcome, Told};
use pause::Pause;

/// Changes that come this close together are one report.
const COALESCE: Duration = Duration::from_millis(25);

/// How long the last report may take: the orchestrator notices a silent node by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// Bounds of the interval that an orchestrator may ask for: a wrong answer must neither flood nor silence the
/// link.
const INTERVAL_MS: std::ops::RangeInclusive<u64> = 50..=60_000;

/// The number of the last report, for readers other than the orchestrator.
#[derive(Debug, Clone, Default)]
pub struct Sequence(Arc<AtomicU64>);

impl Sequence {
    /// The number of the last report.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The link before it runs.
#[derive(Debug)]
pub struct Link {
    client: OrchestratorClient,
    reporter: Reporter,
    sequence: Sequence,
    orders: watch::Sender<Orders>,
    metrics: Metrics,
    standing: Standing,
    told: Told,
    pause: Pause,
}

/// Whether the orchestrator knows this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unknown,
    Registered,
}

/// What to do next.
enum Next {
    /// Report again after this, or at once after a change.
    WhenDueOrChanged(Duration),
    /// Try again after this; changes wait.
    WhenDue(Duration),
}

impl Link {
    /// A link that has said nothing yet.
    #[must_use]
    pub fn new(
        client: OrchestratorClient,
        reporter: Reporter,
        sequence: Sequence,
        orders: watch::Sender<Orders>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            reporter,
            sequence,
            orders,
            metrics,
            standing: Standing::Unknown,
            told: Told::default(),
            pause: Pause::default(),
        }
    }

    /// Keeps the link up until `stop`, then sends a last report.
    pub async fn run(mut self, changes: Changes, stop: CancellationToken) {
        let mut changed = changes.subscribe();
        loop {
            changed.mark_unchanged();
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                next = self.report() => next,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = wait(next, &mut changed) => {}
            }
        }
        if self.standing == Standing::Registered {
            // The engines are gone or left alone by now; an orchestrator that misses this sees a stale node
            // soon.
            let report = self.reporter.full(self.sequence.next());
            let _heard_or_stale = timeout(FAREWELL, self.exchange(&report)).await;
        }
    }

    async fn report(&mut self) -> Next {
        let report = self.reporter.full(self.sequence.next());
        let outcome = self.exchange(&report).await;
        self.metrics.reported(outcome.label());
        self.told.tell(&outcome, self.standing == Standing::Unknown);
        match outcome {
            Outcome::Accepted(desired) => self.accepted(&desired, &report),
            // The orchestrator has restarted: it learns of this node at once.
            Outcome::UnknownNode if self.standing == Standing::Registered => {
                self.standing = Standing::Unknown;
                Next::WhenDue(Duration::ZERO)
            }
            Outcome::UnknownNode | Outcome::Refused(_) | Outcome::Unavailable(_) => {
                Next::WhenDue(self.pause.next(Uuid::new_v4().as_u64_pair().1))
            }
        }
    }

    async fn exchange(&self, report: &NodeReport) -> Outcome {
        let answer = match self.standing {
            Standing::Unknown => self.client.register(report).await,
            Standing::Registered => self.client.heartbeat(&report.node_id, report).await,
        };
        Outcome::of(answer)
    }

    fn accepted(&mut self, desired: &DesiredState, report: &NodeReport) -> Next {
        self.standing = Standing::Registered;
        self.pause.reset();
        self.orders.send_if_modified(|orders| {
            let told = Orders {
                operations: latest(&orders.operations, desired),
                leases: resting(report, desired),
            };
            let differs = *orders != told;
            *orders = told;
            differs
        });
        let interval = desired
            .heartbeat_interval_ms
            .clamp(*INTERVAL_MS.start(), *INTERVAL_MS.end());
        Next::WhenDueOrChanged(Duration::from_millis(interval))
    }
}

async fn wait(next: Next, changed: &mut watch::Receiver<u64>) {
    match next {
        Next::WhenDue(pause) => sleep(pause).await,
        Next::WhenDueOrChanged(interval) => {
            tokio::select! {
                biased;
                () = sleep(interval) => {}
                Ok(()) = changed.changed() => sleep(COALESCE).await,
            }
        }
    }
}

/// The latest operation on each pool: an older one never undoes a newer one, and a pool that is not named keeps its own.
fn latest(had: &BTreeMap<PoolId, DesiredPool>, desired: &DesiredState) -> BTreeMap<PoolId, DesiredPool> {
    let mut operations = had.clone();
    for wish in &desired.pools {
        let known = operations.get(&wish.pool_id);
        // A count may be given twice when the orchestrator restarts in between; what it says now counts.
        if known.is_none_or(|known| known.generation <= wish.generation) {
            operations.insert(wish.pool_id.clone(), wish.clone());
        }
    }
    operations
}

/// Tasks on the replicas that take no new work by the report that this is the answer to. Of others nothing is known: they
/// may have been sent more since.
fn resting(report: &NodeReport, desired: &DesiredState) -> BTreeMap<(PoolId, ReplicaId), u32> {
    let mut resting = BTreeMap::new();
    for pool in &report.pools {
        let rests = |replica: &&ReplicaReport| pool.draining || replica.state != ReplicaState::Ready;
        for replica in pool.replicas.iter().filter(rests) {
            resting.insert((pool.pool_id.clone(), replica.replica_id.clone()), 0);
        }
    }
    for running in &desired.leases {
        if let Some(leases) = resting.get_mut(&(running.pool_id.clone(), running.replica_id.clone())) {
            *leases = running.leases;
        }
    }
    resting
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::operation::OperationKind;

    fn desired(pools: &[(&str, u64)]) -> DesiredState {
        let wish = |&(id, generation): &(&str, u64)| DesiredPool {
            pool_id: PoolId::new(id).unwrap(),
            generation,
            operation_id: Uuid::from_u128(u128::from(generation)),
            kind: OperationKind::Drain,
            model: None,
            deadline_ms: 0,
        };
        DesiredState {
            heartbeat_interval_ms: 1000,
            stale_after_ms: 3000,
            pools: pools.iter().map(wish).collect(),
            leases: Vec::new(),
        }
    }

    #[test]
    fn an_older_operation_never_undoes_a_newer_one() {
        let generations = |operations: &BTreeMap<PoolId, DesiredPool>| {
            operations
                .values()
                .map(|wish| wish.generation)
                .collect::<Vec<_>>()
        };
        let had = latest(&BTreeMap::new(), &desired(&[("a", 5), ("b", 5)]));
        let now = latest(&had, &desired(&[("a", 4), ("b", 6)]));
        assert_eq!(generations(&now), [5, 6]);
        assert_eq!(latest(&now, &desired(&[])), now);
    }
}
