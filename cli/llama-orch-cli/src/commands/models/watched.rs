//! Work that takes its time: somebody may watch it, and stop it with Ctrl-C.

use std::future::Future;
use std::sync::Arc;

use model_provisioner::{Notice, ProvisionError, Reporter};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::console::Console;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render::progress::{self, Pace};

/// Notices that may wait to be shown. What is more is lost: it is only shown.
const WAITING: usize = 256;

/// What the work is steered by.
pub(super) struct Helm {
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) stop: CancellationToken,
}

struct Teller(Sender<Notice>);

impl Reporter for Teller {
    fn notice(&self, notice: Notice) {
        let _lost_when_nobody_keeps_up = self.0.try_send(notice);
    }
}

/// Does the work. The first Ctrl-C asks it to stop, the second leaves it.
pub(super) async fn watched<T, W>(
    console: &Console,
    name: &str,
    work: impl FnOnce(Helm) -> W,
) -> Result<T, Failure>
where
    W: Future<Output = Result<T, ProvisionError>>,
{
    let (teller, mut told) = channel(WAITING);
    let stop = CancellationToken::new();
    let mut interrupts = Interrupts::listen()?;
    let mut display = Display::new(console, name);
    let mut work = Box::pin(work(Helm {
        reporter: Arc::new(Teller(teller)),
        stop: stop.clone(),
    }));
    let done = loop {
        tokio::select! {
            biased;
            () = interrupts.next() => {
                if stop.is_cancelled() {
                    return Err(Failure::Provision(downloader::FetchError::Stopped.into()));
                }
                stop.cancel();
                console.note("stopping; Ctrl-C again leaves at once");
            }
            Some(notice) = told.recv() => display.show(&notice),
            done = &mut work => break done,
        }
    };
    display.rest(&mut told);
    Ok(done?)
}

struct Display<'c> {
    console: &'c Console,
    name: &'c str,
    pace: Pace,
}

impl<'c> Display<'c> {
    fn new(console: &'c Console, name: &'c str) -> Self {
        Self {
            console,
            name,
            pace: Pace::default(),
        }
    }

    fn show(&mut self, notice: &Notice) {
        match notice {
            Notice::Progress(progress) if self.console.has_status() => {
                self.console.status(&progress::bar(self.name, progress));
            }
            Notice::Progress(progress) => {
                if self.pace.is_due(progress) {
                    self.console.note(&progress::line(self.name, progress));
                }
            }
            other => {
                if let Some(line) = progress::notice(other) {
                    self.console.note(&line);
                }
            }
        }
    }

    fn rest(&mut self, told: &mut Receiver<Notice>) {
        while let Ok(notice) = told.try_recv() {
            self.show(&notice);
        }
        self.console.end_line();
    }
}
