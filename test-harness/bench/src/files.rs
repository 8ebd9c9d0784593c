//! How many files this process and its children may open: each stream needs a socket at each end. Touches the limit.

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a relay has open besides its streams' sockets, generously.
const BESIDES: u64 = 256;

/// Raises this process's limit as far as it may; children inherit it.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn raise_limit() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .context("raising the limit of open files")
}

/// Checks that a relay may open the sockets of so many streams.
///
/// # Errors
/// It may not; tells what to do.
pub(crate) fn ensure_enough_for(streams: u32) -> Result<()> {
    let needed = 2 * u64::from(streams) + BESIDES;
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(
        limit >= needed,
        "{streams} streams need {needed} open files, {limit} are allowed: try `ulimit -Hn {needed}`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_streams_are_refused_with_the_numbers() {
        let limit = getrlimit(Resource::Nofile).current;
        let outcome = ensure_enough_for(u32::MAX);
        match limit {
            Some(limit) if limit < u64::from(u32::MAX) => {
                let message = outcome.unwrap_err().to_string();
                assert!(message.contains(&limit.to_string()), "{message}");
            }
            _ => outcome.unwrap(),
        }
    }
}
