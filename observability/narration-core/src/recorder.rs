//! Listening to narration in tests: for one thread, or for one future wherever it runs.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::instrument::{WithDispatch, WithSubscriber};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::narration::TARGET;

/// One narration line as it was emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// INFO, WARN or ERROR.
    pub level: Level,
    /// Every field that was set, by its name in the log.
    pub fields: BTreeMap<&'static str, String>,
}

impl Recorded {
    /// A field's text; empty when it was not set.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Who.
    #[must_use]
    pub fn actor(&self) -> &str {
        self.field("actor")
    }

    /// Does what.
    #[must_use]
    pub fn action(&self) -> &str {
        self.field("action")
    }

    /// In plain English.
    #[must_use]
    pub fn human(&self) -> &str {
        self.field("human")
    }
}

/// Keeps the narration lines of the scopes it listens to.
#[derive(Clone, Default)]
pub struct Recorder {
    lines: Arc<Mutex<Vec<Recorded>>>,
}

impl Recorder {
    /// A recorder that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens to this thread until the guard is dropped.
    #[must_use]
    pub fn listen(&self) -> DefaultGuard {
        tracing::dispatcher::set_default(&self.dispatch())
    }

    /// Listens to one future, on whatever threads it runs.
    pub fn follow<F>(&self, future: F) -> WithDispatch<F> {
        future.with_subscriber(self.dispatch())
    }

    /// Everything heard so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Recorded> {
        self.locked().clone()
    }

    /// Everything with this action.
    #[must_use]
    pub fn of(&self, action: &str) -> Vec<Recorded> {
        let matching = |line: &&Recorded| line.action() == action;
        self.locked().iter().filter(matching).cloned().collect()
    }

    fn dispatch(&self) -> Dispatch {
        let layer = Capture {
            lines: Arc::clone(&self.lines),
        };
        Dispatch::new(tracing_subscriber::registry().with(layer))
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.locked().iter()).finish()
    }
}

struct Capture {
    lines: Arc<Mutex<Vec<Recorded>>>,
}

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut fields = Texts::default();
        event.record(&mut fields);
        let line = Recorded {
            level: *event.metadata().level(),
            fields: fields.0,
        };
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }
}

/// The fields of an event as texts.
#[derive(Default)]
pub(crate) struct Texts(pub(crate) BTreeMap<&'static str, String>);

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::Narration;

    fn say(action: &'static str) {
        Narration::new("tester", action, &"thing", "does it")
            .tokens_out(7)
            .emit();
    }

    #[test]
    fn hears_its_scope_and_nothing_else() {
        let recorder = Recorder::new();
        say("before");
        {
            let _listening = recorder.listen();
            say("during");
            tracing::info!("not a narration");
            thread::spawn(|| say("elsewhere")).join().unwrap();
        }
        say("after");
        let lines = recorder.lines();
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (lines[0].actor(), lines[0].action(), lines[0].human()),
            ("tester", "during", "does it")
        );
        assert_eq!(lines[0].field("tokens_out"), "7");
        assert_eq!(recorder.of("during").len(), 1);
    }

    #[test]
    fn follows_a_future_to_another_thread() {
        let recorder = Recorder::new();
        let future = recorder.follow(async { say("inside") });
        thread::spawn(|| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let mut future = std::pin::pin!(future);
            assert!(future.as_mut().poll(&mut context).is_ready());
        })
        .join()
        .unwrap();
        assert_eq!(recorder.of("inside").len(), 1);
    }
}
