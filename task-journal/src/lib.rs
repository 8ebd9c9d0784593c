//! What must survive a restart of the orchestrator, and nothing else knows how it is kept:
//!
//! - [`StateDir`]: the folder, its exclusive lock;
//! - [`Journal`]: admitted tasks and the edges of their lives, in redb, one writer thread, group
//!   commit; an admission is answered after its commit;
//! - [`Transcripts`]: what each task has said, in an append-only log of segments;
//! - [`Boot`], [`KeptClock`]: clocks that go on while the process is down, so that no wall clock
//!   decides anything.
//!
//! No async runtime, no HTTP. Touches files below its folder only.

mod boot;
mod clock;
mod journal;
mod record;
mod state_dir;
mod store;
mod transcript;

pub use boot::{Boot, Moment};
pub use clock::KeptClock;
pub use journal::{Done, InFlight, Journal, JournalOptions, NotCommitted, Op};
pub use record::{AdmissionRecord, EndRecord, Fingerprint, LifeRecord, PromptLength, RunRecord, TaskRecord};
pub use redb::StorageBackend;
pub use state_dir::{StateDir, StateDirError};
pub use store::{OpenError, Store, WriteError};
pub use transcript::{Recorder, Transcript, Transcripts};
