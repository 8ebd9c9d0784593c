//! What the daemon keeps on disk, opened before anything is served: the lock, the journal and the
//! tasks in it. With `durability = "off"` there is nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context as _;
use api_types::TaskId;
use config_schema::{Config, Durability};
use narration_core::Narration;
use task_journal::{Journal, StateDir, Store, TaskRecord, Transcript, Transcripts};
use tokio_util::sync::CancellationToken;

use crate::artifacts::Files;
use crate::options;
use crate::story::ACTOR;

/// Exit status when the journal cannot be written any more (`EX_IOERR`): what was acknowledged is on
/// the disk, nothing else was acknowledged, and a restart takes it up.
pub const EXIT_JOURNAL_FAILED: u8 = 74;

/// The opened state.
#[derive(Debug, Default)]
pub struct State {
    /// The journal's writer.
    pub journal: Option<Arc<Journal>>,
    /// What tasks say.
    pub transcripts: Option<Arc<Transcripts>>,
    /// What clients store, and the traces of tasks.
    pub artifacts: Option<Arc<Files>>,
    /// Raised when the journal's storage has failed.
    pub failed: CancellationToken,
    /// Holds the lock, and outlives the journal.
    _dir: Option<Arc<StateDir>>,
}

/// What was there.
#[derive(Debug, Default)]
pub struct Found {
    /// The tasks of the journal.
    pub records: Vec<TaskRecord>,
    /// What they have said.
    pub said: HashMap<TaskId, Transcript>,
}

impl State {
    /// Opens what the configuration asks for and tells the tasks that were there.
    ///
    /// # Errors
    /// The directory is in use or cannot be used; the journal is damaged or of another version.
    pub fn open(config: &Config) -> anyhow::Result<(Self, Found)> {
        if config.orchestratord.durability == Durability::Off {
            return Ok((Self::default(), Found::default()));
        }
        let dir = Arc::new(StateDir::open(&config.orchestratord.state_dir)?);
        let (store, records) = Store::open(&dir.journal())?;
        let known: HashSet<TaskId> = records.iter().map(|record| record.id).collect();
        let folder = dir.transcripts()?;
        let most = options::transcript_bytes(config);
        let (transcripts, said) = Transcripts::open(&folder, most, |id| known.contains(id))
            .with_context(|| format!("the transcripts in {} cannot be opened", folder.display()))?;
        let artifacts = Files::open(&dir, &options::artifacts(config))?;
        let failed = CancellationToken::new();
        let (told, disk) = (failed.clone(), Arc::clone(&dir));
        let on_failure = move |error: &task_journal::WriteError| {
            let human = "The journal cannot be written; the daemon stops.";
            let line = Narration::new(ACTOR, "journal", &"storage", human).error();
            line.decision(&chain(error)).emit();
            told.cancel();
        };
        let journal = Journal::start(store, options::journal(config), move || disk.room(), on_failure)
            .context("the journal's thread cannot be started")?;
        let state = Self {
            journal: Some(Arc::new(journal)),
            transcripts: Some(Arc::new(transcripts)),
            artifacts: Some(Arc::new(artifacts)),
            failed,
            _dir: Some(dir),
        };
        Ok((state, Found { records, said }))
    }

    /// Waits until what was taken up is durable as such.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn flush(&self) -> anyhow::Result<()> {
        let flushed = self.journal.iter().try_for_each(|journal| journal.flush());
        flushed.context("the tasks of the journal cannot be taken up")
    }

    /// Writes out what waits. Blocks for as long as the disk does.
    pub fn close(&self) {
        if let Some(journal) = &self.journal {
            journal.close();
        }
        if let Some(artifacts) = &self.artifacts {
            artifacts.close();
        }
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
