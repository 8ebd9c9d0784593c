//! Whose container it is: the labels that say so, the name made of them. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use api_types::ids::{NodeId, PoolId, ReplicaId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The label of the one who starts and sweeps.
pub(crate) const HOME: &str = "orch.home";
const NODE: &str = "orch.node";
const POOL: &str = "orch.pool";
const REPLICA: &str = "orch.replica";
const GENERATION: &str = "orch.generation";

/// Enough of a digest that two owners of one node never get the same name.
const NAME_DIGEST_BYTES: usize = 6;

/// Who starts containers and sweeps them: a manager by its folder, of which each on a machine has its own. What it is called
/// may change, and two may be called alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Home(Box<str>);

impl Home {
    /// The manager with this folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self(short_digest(folder.as_os_str().as_bytes()).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        (text.len() == 2 * NAME_DIGEST_BYTES && text.bytes().all(digits)).then(|| Self(text.into()))
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn short_digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    hex::encode(digest.get(..NAME_DIGEST_BYTES).unwrap_or(&digest))
}

/// One start of one replica of one pool on one node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Whose folder it is kept by.
    pub home: Home,
    /// What that pool-managerd is called.
    pub node: NodeId,
    /// The pool.
    pub pool: PoolId,
    /// The replica.
    pub replica: ReplicaId,
    /// Which start of the replica.
    pub generation: u64,
}

impl Owner {
    /// The container's name: for people to read, and different for different owners. Ids may contain every character
    /// that could part them, so a digest of everything ends it.
    #[must_use]
    pub fn container_name(&self) -> String {
        let parts = [self.node.as_str(), self.pool.as_str(), self.replica.as_str()];
        let text = format!("{}/{}/{}", self.home, parts.join("/"), self.generation);
        let digest = short_digest(text.as_bytes());
        format!("orch-{}-{}-{}-{digest}", self.pool, self.replica, self.generation)
    }

    pub(crate) fn labels(&self) -> [String; 5] {
        [
            format!("{HOME}={}", self.home),
            format!("{NODE}={}", self.node),
            format!("{POOL}={}", self.pool),
            format!("{REPLICA}={}", self.replica),
            format!("{GENERATION}={}", self.generation),
        ]
    }

    /// `None` unless all five labels are there and are what we would write.
    pub(crate) fn of_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            home: Home::parse(labels.get(HOME)?)?,
            node: labels.get(NODE)?.parse().ok()?,
            pool: labels.get(POOL)?.parse().ok()?,
            replica: labels.get(REPLICA)?.parse().ok()?,
            generation: labels.get(GENERATION)?.parse().ok()?,
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            pool,
            replica,
            generation,
            ..
        } = self;
        write!(
            f,
            "generation {generation} of replica {replica} of pool {pool} on {node}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner(node: &str, pool: &str, replica: &str, generation: u64) -> Owner {
        Owner {
            home: Home::of(Path::new("/state")),
            node: node.parse().unwrap(),
            pool: pool.parse().unwrap(),
            replica: replica.parse().unwrap(),
            generation,
        }
    }

    const ID: &str = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}";

    proptest! {
        /// REQ-CONTAINER-SWEEP: what a sweep reads is what a start wrote.
        #[test]
        fn labels_read_back(node in ID, pool in ID, replica in ID, generation: u64) {
            let owner = owner(&node, &pool, &replica, generation);
            let labels = owner.labels().map(|label| {
                let (name, value) = label.split_once('=').unwrap();
                (name.to_owned(), value.to_owned())
            });
            prop_assert_eq!(Owner::of_labels(&labels.clone().into()), Some(owner.clone()));
            for missing in 0..labels.len() {
                let mut rest: BTreeMap<_, _> = labels.clone().into();
                rest.remove(&labels[missing].0);
                prop_assert_eq!(Owner::of_labels(&rest), None);
            }
            let name = owner.container_name();
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
        }
    }

    #[test]
    fn ids_that_run_together_have_different_names() {
        let names = [
            owner("n", "a-b", "c", 1),
            owner("n", "a", "b-c", 1),
            owner("m", "a", "b-c", 1),
            owner("n", "a", "b-c", 2),
            Owner {
                home: Home::of(Path::new("/another")),
                ..owner("n", "a", "b-c", 2)
            },
        ]
        .map(|owner| owner.container_name());
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert!(names[0].starts_with("orch-a-b-c-1-"), "{}", names[0]);
    }
}
