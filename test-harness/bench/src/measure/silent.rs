//! Clients that open a stream and never read it, while the engine gives all it can: what each costs the relay.

use std::time::Duration;

use anyhow::{Context as _, Result};
use test_harness_support::scripted_engine::Script;
use test_harness_support::wait::{Look, wait_for};

use super::{Findings, Pair, alternate, within_limit};
use crate::accounting::resident_bytes;
use crate::load::Job;
use crate::options::Scale;
use crate::relay::{Engine, Ground, Relay, Which};
use crate::report::Figure;

/// Streams at a time.
const CLIENTS: u32 = 64;
/// Tens of megabytes a stream, if anybody took them.
const TOKENS: u32 = 1_000_000;
/// A relay whose memory was the same in so many looks has stopped reading from the engine.
const STEADY: u32 = 20;
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// Measures.
pub(super) async fn measure(ground: &Ground, scale: Scale) -> Result<Findings> {
    let engine = Engine::start(ground, CLIENTS, Script::default()).await?;
    let Pair { ours, nginx } = alternate(scale.pick(1, 3), async |which| {
        let relay = match which {
            Which::Ours => engine.behind_ours(ground).await?,
            Which::Nginx => engine.behind_nginx(ground).await?,
        };
        let idle = resident_bytes(relay.pid())?;
        let mut silent = Vec::new();
        for number in 0..CLIENTS as usize {
            let (mut connection, job) = (relay.target.connect().await?, Job::numbered(number, TOKENS));
            within_limit(relay.target.open(&mut connection, &job)).await?;
            silent.push(connection);
        }
        let full = settled(&relay).await?;
        drop((silent, relay));
        engine.is_quiet().await?;
        Ok((full as f64 - idle as f64) / 1024.0 / f64::from(CLIENTS))
    })
    .await?;
    let title = format!("memory per client that never reads, {CLIENTS} of them, engine unpaced");
    Ok(Findings {
        figures: vec![Figure::value(title, "KiB", ours, Some(nginx), None)],
        ..Findings::default()
    })
}

/// The memory of a relay once it does not grow any more.
async fn settled(relay: &Relay) -> Result<u64> {
    let (mut last, mut same) = (0, 0);
    let look = || {
        let now = resident_bytes(relay.pid());
        let outcome = match now {
            Ok(now) if now == last => {
                same += 1;
                if same >= STEADY {
                    Look::Ready(now)
                } else {
                    Look::NotYet(format!("{now} bytes"))
                }
            }
            Ok(now) => {
                (last, same) = (now, 0);
                Look::NotYet(format!("{now} bytes"))
            }
            Err(error) => Look::NotYet(error.to_string()),
        };
        std::future::ready(outcome)
    };
    wait_for("a relay that has stopped reading", SETTLE_LIMIT, look)
        .await
        .context("waiting for the relay's memory")
}
