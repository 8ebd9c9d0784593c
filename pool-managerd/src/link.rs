//! The link to the orchestrator: registers, sends the full state at the interval it asks for and after every
//! change, and publishes what it wishes. No trouble of the link ever touches an engine.

mod outcome;
mod pause;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api_types::link::DesiredState;
use llama_orch_client::OrchestratorClient;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::changes::Changes;
use crate::metrics::Metrics;
use crate::pool::Wishes;
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
    wishes: watch::Sender<Wishes>,
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
        wishes: watch::Sender<Wishes>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            reporter,
            sequence,
            wishes,
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
            let _heard_or_stale = timeout(FAREWELL, self.exchange()).await;
        }
    }

    async fn report(&mut self) -> Next {
        let outcome = self.exchange().await;
        self.metrics.reported(outcome.label());
        self.told.tell(&outcome, self.standing == Standing::Unknown);
        match outcome {
            Outcome::Accepted(desired) => self.accepted(&desired),
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

    async fn exchange(&self) -> Outcome {
        let report = self.reporter.full(self.sequence.next());
        let answer = match self.standing {
            Standing::Unknown => self.client.register(&report).await,
            Standing::Registered => self.client.heartbeat(&report.node_id, &report).await,
        };
        Outcome::of(answer)
    }

    fn accepted(&mut self, desired: &DesiredState) -> Next {
        let fresh = self.standing == Standing::Unknown;
        self.standing = Standing::Registered;
        self.pause.reset();
        self.wishes.send_if_modified(|wishes| {
            let wished = if fresh {
                fresh_wishes(desired)
            } else {
                newer_wishes(wishes, desired)
            };
            let differs = *wishes != wished;
            *wishes = wished;
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

/// The wishes of an orchestrator that has just met this node: its count may have started anew.
fn fresh_wishes(desired: &DesiredState) -> Wishes {
    let pools = desired.pools.iter();
    pools.map(|wish| (wish.pool_id.clone(), wish.clone())).collect()
}

/// The wishes after another answer: an older one never undoes a newer one, and a pool that is not named any
/// more is as configured.
fn newer_wishes(had: &Wishes, desired: &DesiredState) -> Wishes {
    let mut wishes = fresh_wishes(desired);
    for (pool, wish) in &mut wishes {
        if let Some(newer) = had.get(pool).filter(|known| known.generation > wish.generation) {
            *wish = newer.clone();
        }
    }
    wishes
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::PoolId;
    use api_types::link::DesiredPool;

    fn desired(pools: &[(&str, u64, bool)]) -> DesiredState {
        let wish = |&(id, generation, drain): &(&str, u64, bool)| DesiredPool {
            pool_id: PoolId::new(id).unwrap(),
            generation,
            drain,
        };
        DesiredState {
            heartbeat_interval_ms: 1000,
            stale_after_ms: 3000,
            pools: pools.iter().map(wish).collect(),
        }
    }

    fn drains(wishes: &Wishes, id: &str) -> Option<bool> {
        wishes.get(&PoolId::new(id).unwrap()).map(|wish| wish.drain)
    }

    #[test]
    fn an_older_wish_never_undoes_a_newer_one() {
        let had = fresh_wishes(&desired(&[("a", 5, true), ("b", 5, true)]));
        let now = newer_wishes(&had, &desired(&[("a", 4, false), ("b", 6, false)]));
        assert_eq!((drains(&now, "a"), drains(&now, "b")), (Some(true), Some(false)));
        assert_eq!(
            newer_wishes(&now, &desired(&[("a", 4, false), ("b", 6, false)])),
            now
        );
    }

    #[test]
    fn a_pool_that_is_not_named_is_as_configured() {
        let had = fresh_wishes(&desired(&[("a", 5, true)]));
        assert_eq!(drains(&newer_wishes(&had, &desired(&[])), "a"), None);
    }
}
