//! Where rollouts are recorded: one small file per pool, written whole. What is recorded is what the node tells the
//! orchestrator to have taken up.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use api_types::PoolId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Rollout;
use crate::changes::Changes;
use crate::state_dir::write_whole;

/// Of the files. Another version is not read.
const VERSION: u32 = 1;

/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    rollout: Rollout,
}

/// The folder of the files.
#[derive(Debug, Clone)]
pub struct RolloutStore(PathBuf);

impl RolloutStore {
    /// Of this folder.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn file(&self, pool: &PoolId) -> PathBuf {
        self.0.join(format!("{pool}.json"))
    }

    /// What is recorded of a pool. Blocking.
    ///
    /// # Errors
    /// When there is a file that cannot be read, or that another version wrote.
    pub fn load(&self, pool: &PoolId) -> io::Result<Option<Rollout>> {
        let text = match fs::read(self.file(pool)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let stored: Stored = serde_json::from_slice(&text)?;
        if stored.version != VERSION {
            let message = format!("it has version {}, not {VERSION}", stored.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Some(stored.rollout))
    }

    fn save(&self, pool: &PoolId, rollout: Rollout) -> io::Result<()> {
        let stored = Stored {
            version: VERSION,
            rollout,
        };
        write_whole(&self.file(pool), &stored)
    }
}

/// Records every change of a pool's rollout until `stop`, and tells in `recorded` which operation is safe.
pub async fn keep(
    store: RolloutStore,
    pool: PoolId,
    mut rollouts: watch::Receiver<Rollout>,
    recorded: watch::Sender<u64>,
    changes: Changes,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = rollouts.changed() => if changed.is_err() { return },
        }
        let rollout = rollouts.borrow_and_update().clone();
        let generation = rollout.generation();
        while let Err(error) = save(&store, &pool, rollout.clone()).await {
            tracing::error!(pool_id = %pool, %error, "what the pool shall serve cannot be recorded");
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(RETRY) => {}
            }
        }
        let before = recorded.send_replace(generation);
        if before != generation {
            changes.announce();
        }
    }
}

async fn save(store: &RolloutStore, pool: &PoolId, rollout: Rollout) -> io::Result<()> {
    let (store, pool) = (store.clone(), pool.clone());
    let saving = spawn_blocking(move || store.save(&pool, rollout));
    saving.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::ModelId;
    use api_types::operation::ModelChoice;

    fn rollout(loaded: bool) -> Rollout {
        let model = ModelChoice {
            model_ref: "file:/m.gguf".parse().unwrap(),
            model_id: ModelId::new("m").unwrap(),
        };
        Rollout::new(model, loaded)
    }

    #[test]
    fn what_was_recorded_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = RolloutStore::new(folder.path().to_owned());
        let pool = PoolId::new("p").unwrap();
        assert_eq!(store.load(&pool).unwrap(), None);
        store.save(&pool, rollout(true)).unwrap();
        assert_eq!(store.load(&pool).unwrap(), Some(rollout(true)));
        for text in ["", "{", r#"{"version":2,"rollout":{}}"#] {
            fs::write(store.file(&pool), text).unwrap();
            assert!(store.load(&pool).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_change_is_on_disk_before_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = RolloutStore::new(folder.path().to_owned());
        let pool = PoolId::new("p").unwrap();
        let (changed, rollouts) = watch::channel(rollout(true));
        let (tell, mut told) = watch::channel(7);
        let stop = CancellationToken::new();
        let keeping = keep(
            store.clone(),
            pool.clone(),
            rollouts,
            tell,
            Changes::default(),
            stop.clone(),
        );
        let checking = async {
            changed.send_replace(rollout(false));
            told.changed().await.unwrap();
            assert_eq!(store.load(&pool).unwrap(), Some(rollout(false)));
            stop.cancel();
        };
        tokio::join!(keeping, checking);
    }
}
