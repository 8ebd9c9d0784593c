//! What all connections of one engine share: how it was launched, its script, slots, report and
//! log, and how it dies. No global state.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::launch::Launch;
use super::llama_cpp;
use super::log::{Level, Log};
use super::report::Recorder;
use super::script::{Fault, Script};
use super::slots::Slots;

/// The engine behind all connections.
pub(super) struct Engine {
    pub(super) launch: Launch,
    pub(super) started: Instant,
    pub(super) slots: Arc<Slots>,
    pub(super) recorder: Recorder,
    pub(super) log: Log,
    pub(super) llama_cpp: llama_cpp::State,
    script: Mutex<Scripted>,
    death: watch::Sender<Option<Death>>,
}

/// The script and how often its fault was used.
struct Scripted {
    script: Arc<Script>,
    fault_uses: Arc<AtomicU32>,
}

/// How the process ends in mid-work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// SIGABRT.
    Abort,
    /// This exit code.
    Exit(u8),
}

impl Engine {
    pub(super) fn new(launch: Launch, script: Script) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(Self {
            slots: Slots::new(launch.slot_count()),
            recorder: Recorder::new(started, script.keep_requests),
            log: Log::new(started, launch.verbosity),
            llama_cpp: llama_cpp::State::new(launch.slot_count()),
            script: Mutex::new(Scripted::new(script)),
            death: watch::Sender::new(None),
            launch,
            started,
        })
    }

    /// The script as it is now.
    pub(super) fn script(&self) -> Arc<Script> {
        Arc::clone(&self.scripted().script)
    }

    /// Replaces the script; requests under way keep the one they started with.
    pub(super) fn set_script(&self, script: Script) {
        *self.scripted() = Scripted::new(script);
    }

    /// The fault that hits a request with this prompt, counted as used.
    pub(super) fn take_fault(&self, prompt: &str) -> Option<Fault> {
        let (script, uses) = {
            let scripted = self.scripted();
            (Arc::clone(&scripted.script), Arc::clone(&scripted.fault_uses))
        };
        let fault = script.fault.as_ref()?;
        if fault
            .prompt_contains
            .as_ref()
            .is_some_and(|text| !prompt.contains(text))
        {
            return None;
        }
        let used = uses.fetch_add(1, Ordering::Relaxed);
        fault
            .times
            .is_none_or(|times| used < times)
            .then(|| fault.clone())
    }

    /// Whether the model is still being loaded.
    pub(super) fn is_loading(&self) -> bool {
        self.started.elapsed() < Duration::from_millis(self.script().load_ms)
    }

    /// Ends when the script's loading time has passed.
    pub(super) async fn loaded(&self) {
        while self.is_loading() {
            tokio::time::sleep_until(self.started + Duration::from_millis(self.script().load_ms)).await;
        }
    }

    /// Tells whoever runs the engine to end it so.
    pub(super) fn die(&self, death: Death) {
        if death == Death::Abort {
            self.log.loader(Level::Error, "CUDA error: out of memory");
            self.log.loader(
                Level::Error,
                "  current device: 0, in function ggml_backend_cuda_buffer_type",
            );
            self.log.raw("ggml_abort: fatal error");
        }
        self.death.send_replace(Some(death));
    }

    /// Ends when the engine has to end.
    pub(super) async fn died(&self) -> Death {
        let mut death = self.death.subscribe();
        loop {
            if let Some(death) = *death.borrow_and_update() {
                return death;
            }
            // The sender is a field of `self`: it cannot go while we are here.
            if death.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn scripted(&self) -> MutexGuard<'_, Scripted> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scripted {
    fn new(script: Script) -> Self {
        Self {
            script: Arc::new(script),
            fault_uses: Arc::default(),
        }
    }
}
