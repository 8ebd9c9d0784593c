//! Samples the GPUs on a thread of their own, with a deadline. Owns that thread and the published
//! [`GpuState`].
//!
//! NVML calls can hang for ever inside the kernel. The daemon then says so and goes on; the hung call is
//! never repeated beside itself: the next probe is asked for only when the last one has come back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{DriverError, GpuInventory, GpuState, Gpus};

/// How often and how patiently.
#[derive(Debug, Clone, Copy)]
pub struct SamplerOptions {
    /// Between two samples.
    pub interval: Duration,
    /// How long one may take.
    pub deadline: Duration,
}

/// The samples, for whoever needs them. Cheap to clone; each clone remembers what it has seen.
#[derive(Debug, Clone)]
pub struct GpuWatch {
    states: watch::Receiver<GpuState>,
    samples: watch::Receiver<(u64, GpuState)>,
    asked: Arc<Notify>,
    begun: Arc<AtomicU64>,
}

impl GpuWatch {
    /// Every sample, the latest at any time.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<GpuState> {
        self.states.clone()
    }

    /// The latest sample, when this clone has not seen it yet.
    pub fn unseen(&mut self) -> Option<GpuState> {
        let new = self.samples.has_changed().unwrap_or(false);
        new.then(|| self.samples.borrow_and_update().1.clone())
    }

    /// A sample that begins after now, without waiting for the next one that is due.
    ///
    /// # Errors
    /// That the driver does not answer.
    pub async fn fresh(&mut self) -> GpuState {
        let begun = self.begun.load(Ordering::Acquire);
        self.asked.notify_one();
        let later = self.samples.wait_for(|(number, _)| *number > begun).await;
        // The sampler lives as long as the daemon; without it nothing is known.
        later.map_or(Err(DriverError::ProbeDied), |sample| sample.1.clone())
    }
}

/// The sampler before it runs: [`Sampler::start`] makes the thread, [`Sampler::run`] is the loop to spawn.
pub struct Sampler {
    options: SamplerOptions,
    probe: Probe,
    state: watch::Sender<GpuState>,
    /// The same, numbered in the order in which they began.
    samples: watch::Sender<(u64, GpuState)>,
    asked: Arc<Notify>,
    begun: Arc<AtomicU64>,
}

impl Sampler {
    /// Starts the probe thread. The state is [`DriverError::Pending`] until the first sample.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(gpus: Box<dyn Gpus>, options: SamplerOptions) -> io::Result<(Self, GpuWatch)> {
        let (state, states) = watch::channel(Err(DriverError::Pending));
        let (samples, numbered) = watch::channel((0, Err(DriverError::Pending)));
        let begun = Arc::new(AtomicU64::new(0));
        let asked = Arc::new(Notify::new());
        let sampler = Self {
            options,
            probe: Probe::start(gpus)?,
            state,
            samples,
            asked: Arc::clone(&asked),
            begun: Arc::clone(&begun),
        };
        let watch = GpuWatch {
            states,
            samples: numbered,
            asked,
            begun,
        };
        Ok((sampler, watch))
    }

    /// Publishes a sample per interval, and one whenever somebody asks for a fresh one, until `stop`. `observe` sees each before it is published.
    pub async fn run(mut self, stop: CancellationToken, mut observe: impl FnMut(&GpuState)) {
        let mut ticks = interval(self.options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.asked.notified() => {}
            }
            let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                sample = self.probe.ask(self.options.deadline) => {
                    observe(&sample);
                    // What was known before is of no use.
                    let _outdated = self.samples.send_replace((number, sample.clone()));
                    let _outdated = self.state.send_replace(sample);
                }
            }
        }
    }
}

/// One sample, for whoever needs no more. The thread that was asked goes with its answer; one that hangs is left behind.
///
/// # Errors
/// When the thread cannot be made. That the driver does not answer is in the state.
pub async fn look_once(gpus: Box<dyn Gpus>, deadline: Duration) -> io::Result<GpuState> {
    Ok(Probe::start(gpus)?.ask(deadline).await)
}

/// What a question is answered with.
pub type Answer = Result<GpuInventory, DriverError>;

struct Probe {
    requests: SyncSender<()>,
    answers: mpsc::Receiver<Answer>,
    outstanding: bool,
}

impl Probe {
    fn start(gpus: Box<dyn Gpus>) -> io::Result<Self> {
        let (requests, asked) = sync_channel(1);
        let (answer, answers) = mpsc::channel(1);
        thread::Builder::new()
            .name("nvml-probe".to_owned())
            .spawn(move || {
                let mut gpus = gpus;
                gpus.serve(&Desk { asked, answer });
            })?;
        Ok(Self {
            requests,
            answers,
            outstanding: false,
        })
    }

    async fn ask(&mut self, deadline: Duration) -> GpuState {
        if !self.outstanding {
            match self.requests.try_send(()) {
                Ok(()) | Err(TrySendError::Full(())) => self.outstanding = true,
                Err(TrySendError::Disconnected(())) => return Err(DriverError::ProbeDied),
            }
        }
        match timeout(deadline, self.answers.recv()).await {
            Ok(Some(answer)) => {
                self.outstanding = false;
                answer.map(Arc::new)
            }
            Ok(None) => Err(DriverError::ProbeDied),
            Err(_elapsed) => Err(DriverError::Unresponsive {
                deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }
}

/// Where the probe thread is asked and answers.
#[derive(Debug)]
pub struct Desk {
    asked: Receiver<()>,
    answer: mpsc::Sender<Answer>,
}

impl Desk {
    /// Waits for a question; false when nobody asks any more.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.asked.recv().is_ok()
    }

    /// Answers it; false when nobody listens any more.
    pub fn answer(&self, answer: Answer) -> bool {
        self.answer.blocking_send(answer).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    use api_types::pool::DriverReport;

    fn inventory() -> GpuInventory {
        GpuInventory {
            driver: DriverReport {
                driver_version: "570.1".into(),
                cuda_version: "12.8".into(),
            },
            gpus: Vec::new(),
            mig: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Hangs until the gate is opened, and counts its calls.
    struct Gated {
        gate: Receiver<()>,
        calls: Arc<AtomicU32>,
    }

    impl Gpus for Gated {
        fn serve(&mut self, desk: &Desk) {
            while desk.asked() {
                self.calls.fetch_add(1, Ordering::SeqCst);
                let _opened_or_gone = self.gate.recv();
                desk.answer(Ok(inventory()));
            }
        }
    }

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    /// ORCH-3428.
    #[tokio::test]
    async fn a_hung_probe_is_reported_once_per_deadline_and_never_doubled() {
        let (open, gate) = sync_channel(4);
        let calls = Arc::new(AtomicU32::new(0));
        let gpus = Gated {
            gate,
            calls: Arc::clone(&calls),
        };
        let mut probe = Probe::start(Box::new(gpus)).unwrap();
        for _ in 0..3 {
            assert_eq!(
                probe.ask(SHORT).await,
                Err(DriverError::Unresponsive { deadline_ms: 20 })
            );
        }
        assert!(calls.load(Ordering::SeqCst) <= 1, "a second probe was piled up");
        open.send(()).unwrap();
        assert!(probe.ask(LONG).await.is_ok(), "the late answer heals the state");
        open.send(()).unwrap();
        assert!(probe.ask(LONG).await.is_ok());
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    struct Panics;
    impl Gpus for Panics {
        fn serve(&mut self, _: &Desk) {
            panic!("as a broken library might")
        }
    }

    #[tokio::test]
    async fn a_dead_probe_thread_is_an_error_not_a_silence() {
        let mut probe = Probe::start(Box::new(Panics)).unwrap();
        assert_eq!(probe.ask(LONG).await, Err(DriverError::ProbeDied));
        assert_eq!(probe.ask(LONG).await, Err(DriverError::ProbeDied));
    }

    #[tokio::test]
    async fn one_look_has_its_answer_or_ends_in_time() {
        let (open, gate) = sync_channel(4);
        open.send(()).unwrap();
        let gated = |gate| Gated {
            gate,
            calls: Arc::default(),
        };
        assert!(look_once(Box::new(gated(gate)), LONG).await.unwrap().is_ok());
        let (_shut, gate) = sync_channel(4);
        assert_eq!(
            look_once(Box::new(gated(gate)), SHORT).await.unwrap(),
            Err(DriverError::Unresponsive { deadline_ms: 20 })
        );
    }

    #[tokio::test]
    async fn the_state_is_pending_until_the_first_sample() {
        let (open, gate) = sync_channel(4);
        let gpus = Gated {
            gate,
            calls: Arc::default(),
        };
        let options = SamplerOptions {
            interval: LONG,
            deadline: LONG,
        };
        let (sampler, watch) = Sampler::start(Box::new(gpus), options).unwrap();
        let mut latest = watch.states();
        assert_eq!(*latest.borrow_and_update(), Err(DriverError::Pending));
        let stop = CancellationToken::new();
        let running = async {
            open.send(()).unwrap();
            latest.changed().await.unwrap();
            assert!(latest.borrow().is_ok());
            stop.cancel();
        };
        tokio::join!(sampler.run(stop.clone(), |_| {}), running);
    }
}
