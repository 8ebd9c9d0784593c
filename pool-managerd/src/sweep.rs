//! Containers of earlier runs of this daemon, of which some go on and the others are removed before anything new is started
//! beside them. Remembers which runtimes are swept; asks each until it has answered once.

use std::collections::BTreeSet;
use std::sync::Arc;

use container_runtime::{Backend, ContainerRuntime, Home, Owner};
use tokio::sync::{Mutex, watch};

use crate::engine::container::{Client, trouble};
use crate::engine::shim::Contained;
use crate::story;
use crate::trouble::{Unready, chain};

/// Sweeps each runtime once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sweeper {
    home: Home,
    /// Whose containers go on; nothing is swept before that is known.
    keep: watch::Receiver<Option<BTreeSet<Owner>>>,
    swept: Arc<Mutex<Vec<Backend>>>,
}

impl Sweeper {
    /// Of this daemon's containers.
    #[must_use]
    pub fn new(home: Home, keep: watch::Receiver<Option<BTreeSet<Owner>>>) -> Self {
        Self {
            home,
            keep,
            swept: Arc::default(),
        }
    }

    /// Returns when the runtime holds no container of an earlier run, but those that go on. Whoever starts containers there
    /// has to have waited for this.
    ///
    /// # Errors
    /// The runtime does not answer, or something cannot be removed.
    pub async fn swept(&self, runtime: &ContainerRuntime) -> Result<(), Unready> {
        let keep = self
            .keep
            .clone()
            .wait_for(Option::is_some)
            .await
            .map(|keep| keep.clone());
        // The sender lives as long as the daemon.
        let keep = keep.ok().flatten().unwrap_or_default();
        let mut done = self.swept.lock().await;
        let backend = runtime.facts().backend;
        if done.contains(&backend) {
            return Ok(());
        }
        let swept = runtime
            .sweep(&self.home, &keep)
            .await
            .map_err(|error| trouble(&error))?;
        for container in &swept.removed {
            story::swept(&container.name);
        }
        if let Some((_, error)) = swept.left.first() {
            return Err(trouble(error));
        }
        done.push(backend);
        Ok(())
    }
}

/// Removes the containers of starts that are over, whether or not a pool still uses their runtime.
pub async fn remove(left: Vec<Contained>, client: Client) {
    for contained in left {
        if let Err(error) = contained.remove(&client).await {
            story::left_behind(&format!(
                "the container of {}: {}",
                contained.owner,
                chain(&error)
            ));
        }
    }
}
