//! How one running engine is watched: until it serves, with the proof that it computes on its GPUs, and from then on for
//! as long as it does. Asks the engine and the samples of the GPUs; decides nothing about the process.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api_types::pool::UnreadyCause;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::monitor::News;
use crate::engine::probe::{EngineFacts, LOADING_INTERVAL, Look, Prober};
use crate::engine::shim::Start;
use crate::gpu::residency::{Claim, Residency};
use crate::gpu::{GpuInventory, GpuWatch};
use crate::procfs::Stat;
use crate::trouble::{Unready, cure};

/// Answers in a row that must fail before a serving engine counts as unhealthy: one lost answer is no reason
/// to end running streams.
const UNHEALTHY_AFTER: u32 = 3;

/// Samples in a row that must show an engine elsewhere than on its GPUs: the list of a driver lags a little.
const ASTRAY_AFTER: u32 = 3;

/// Looks in a row at a decode loop that does not turn.
const STALLED_AFTER: u32 = 2;

/// Longest wait for a sample of the GPUs before an engine is looked at anew.
const SAMPLE_LIMIT: Duration = Duration::from_secs(5);

/// More than a driver moves about by itself.
const PROGRESS_BYTES: u64 = 8 << 20;

/// Whom to watch, and with what.
pub(super) struct Subject {
    pub prober: Prober,
    pub gpus: GpuWatch,
    pub claim: Claim,
    /// The engine's process group.
    pub group: u32,
    pub start: Start,
    pub health_interval: Duration,
    pub watchdog: Duration,
}

/// Watches one engine.
pub(super) struct Watch {
    subject: Subject,
    news: mpsc::Sender<News>,
    held: Option<u64>,
}

impl Watch {
    pub(super) const fn new(subject: Subject, news: mpsc::Sender<News>) -> Self {
        Self {
            subject,
            news,
            held: None,
        }
    }

    /// For ever; the process's end is somebody else's to see.
    pub(super) async fn run(mut self) -> Infallible {
        self.until_it_serves().await;
        self.while_it_serves().await
    }

    async fn until_it_serves(&mut self) {
        let mut before = Look::Silent;
        while !matches!(before, Look::Serving(_)) {
            sleep(LOADING_INTERVAL).await;
            self.weigh().await;
            let look = match self.subject.prober.look().await {
                Look::Serving(facts) => self.proven(facts).await,
                other => other,
            };
            if look != before {
                self.tell(News::Looked(look.clone())).await;
            }
            before = look;
        }
    }

    /// Health is a claim; one token and the driver's list are the proof (ORCH-3421, ORCH-3430).
    async fn proven(&mut self, facts: EngineFacts) -> Look {
        if let Err(what) = self.subject.prober.computes().await {
            return Look::Wrong(format!("health passes, but nothing is computed: {what}"));
        }
        let mut astray = String::new();
        for _ in 0..ASTRAY_AFTER {
            match self.fresh_verdict().await {
                Some(Residency::Proven(_)) => return Look::Serving(facts),
                Some(Residency::Violated(why)) => astray = why,
                // Without the driver nothing is proven; it loads on until its deadline.
                None => return Look::Loading,
            }
        }
        Look::NotOnGpu(astray)
    }

    /// By a sample that began after now.
    async fn fresh_verdict(&mut self) -> Option<Residency> {
        let sampled = timeout(SAMPLE_LIMIT, self.subject.gpus.fresh()).await;
        let inventory = sampled.ok()?.ok()?;
        self.note(&inventory).await;
        Some(self.judge(&inventory))
    }

    fn judge(&self, inventory: &GpuInventory) -> Residency {
        self.subject.claim.judge(inventory, |pid| self.owns(pid))
    }

    fn owns(&self, pid: u32) -> bool {
        Stat::of(pid).is_some_and(|stat| stat.group == self.subject.group) || self.subject.start.owns(pid)
    }

    async fn while_it_serves(&mut self) -> Infallible {
        let (mut misses, mut astray, mut stalls) = (0, 0, 0);
        let mut turned = Instant::now();
        loop {
            sleep(self.subject.health_interval).await;
            misses = match self.subject.prober.still_serves().await {
                Ok(()) => 0,
                Err(what) => {
                    self.count(misses, UNHEALTHY_AFTER, UnreadyCause::EngineUnhealthy, what)
                        .await
                }
            };
            astray = match self.astray().await {
                Some(None) => 0,
                Some(Some(why)) => {
                    self.count(astray, ASTRAY_AFTER, UnreadyCause::EngineNotOnGpu, why)
                        .await
                }
                None => astray,
            };
            if turned.elapsed() >= self.subject.watchdog {
                stalls = match self.subject.prober.turns(self.subject.watchdog).await {
                    Ok(()) => 0,
                    Err(what) => {
                        self.count(stalls, STALLED_AFTER, UnreadyCause::EngineStalled, what)
                            .await
                    }
                };
                turned = Instant::now();
            }
        }
    }

    /// One more in a row; tells when it is one too many.
    async fn count(&self, before: u32, limit: u32, cause: UnreadyCause, what: String) -> u32 {
        let now = before + 1;
        if now == limit {
            let why = Unready::new(cause, format!("{what}; {}", cure(cause)));
            self.tell(News::Unhealthy(why)).await;
        }
        now
    }

    /// What a new sample says against the engine; `None` without a new sample, or when a device is not there at all,
    /// which is for the gates to judge.
    async fn astray(&mut self) -> Option<Option<String>> {
        let inventory = self.weigh().await?;
        if !self.subject.claim.mask.iter().all(|uuid| inventory.has(uuid)) {
            return None;
        }
        Some(match self.judge(&inventory) {
            Residency::Proven(_) => None,
            Residency::Violated(why) => Some(why),
        })
    }

    /// Tells what a new sample says the engine holds, and whether that is progress.
    async fn weigh(&mut self) -> Option<Arc<GpuInventory>> {
        let inventory = self.subject.gpus.unseen()?.ok()?;
        self.note(&inventory).await;
        Some(inventory)
    }

    async fn note(&mut self, inventory: &GpuInventory) {
        let held = inventory.held_by(|pid| self.owns(pid));
        if held != self.held {
            let grown = held.unwrap_or(0).saturating_sub(self.held.unwrap_or(0));
            self.held = held;
            self.tell(News::Holds(held)).await;
            if grown >= PROGRESS_BYTES {
                self.tell(News::Progress).await;
            }
        }
    }

    async fn tell(&self, what: News) {
        // The actor is gone only when the whole daemon goes; the process is ended or left by then.
        let _told_or_gone = self.news.send(what).await;
    }
}
