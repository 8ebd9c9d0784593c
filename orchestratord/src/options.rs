//! From the configuration to what each part of the daemon takes.

use std::time::Duration;

use adapter_api::Timeouts;
use adapter_host::BreakerOptions;
use api_types::Cost;
use config_schema::{Config, Count, Durability, QueuePolicy, RateLimit, Sessions};
use orchestrator_core::queue::{FullPolicy, QueueConfig};
use orchestrator_core::rate::Rate;
use orchestrator_core::session;
use orchestrator_core::session::budget::{Budgets, Prices};
use task_journal::JournalOptions;

use crate::artifacts;
use crate::dispatcher::{Options, Policy};
use crate::runner::RunLimits;
use crate::task_log::LogOptions;

/// Most bytes of one task's frames: far beyond any context of today at forty bytes a token, and
/// small enough that a runaway engine cannot fill the memory.
const MAX_TASK_BYTES: usize = 32 << 20;

/// Three failures in a row are no accident; half a second lets a restarted engine bind its port;
/// half a minute keeps a dead one from costing more than a probe now and then.
const BREAKER: BreakerOptions = BreakerOptions {
    faults_to_open: 3,
    cooldown: Duration::from_millis(500),
    cooldown_max: Duration::from_secs(30),
};

/// Longest short call to an engine (props, token count): engines answer these from memory.
const PROBE: Duration = Duration::from_secs(5);

/// Options of the dispatcher.
#[must_use]
pub fn dispatcher(config: &Config) -> Options {
    let own = &config.orchestratord;
    Options {
        queue: QueueConfig {
            capacity: own.queue.capacity.get(),
            full_policy: match own.queue.policy {
                QueuePolicy::Reject => FullPolicy::Reject,
                QueuePolicy::DropLru => FullPolicy::DropLru,
            },
            batch_max_wait_ms: own.queue.batch_max_wait_ms.ms(),
        },
        pool_capacity: own
            .queue
            .pool_capacity
            .map_or_else(|| own.queue.capacity.get(), Count::get),
        stranded_max_wait: own.queue.stranded_max_wait_ms.duration(),
        swap_after: own.queue.swap_after_ms.duration(),
        swap_drain: own.queue.swap_drain_ms.duration(),
        log: LogOptions {
            reader_lag_cap: own.sse.channel_cap.get() as u64,
            microbatch: own.sse.microbatch,
            max_bytes: MAX_TASK_BYTES,
        },
        run: RunLimits {
            wall: own.engine.wall_timeout_ms.duration(),
            slow_reader: own.sse.slow_reader_timeout_ms.duration(),
        },
        resume_window: own.sse.resume_window_ms.duration(),
        retained_tasks: own.sse.retained_tasks.get(),
        cancel_on_disconnect: own.cancel_on_disconnect,
        disconnect_grace: own.disconnect_grace_ms.duration(),
        narrate_every: own.sse.logs_enabled.then(|| own.sse.logs_period_ms.duration()),
        kept_decision_pools: own.placement.kept_decision_pools.get(),
        sessions: sessions(&own.sessions),
        heartbeat_interval: own.nodes.heartbeat_interval_ms.duration(),
        stale_after: own.nodes.stale_after_ms.duration(),
        shutdown_grace: config.http.shutdown_grace_ms.duration(),
    }
}

fn sessions(own: &Sessions) -> session::Limits {
    let priced = own.price_in_per_1k.is_some() || own.price_out_per_1k.is_some();
    let price = |configured: Option<f64>| Cost::of_units(configured.unwrap_or(0.0));
    session::Limits {
        ttl_ms: own.ttl_ms.ms(),
        max_turns: own.max_turns.get_u32(),
        max_sessions: own.max_sessions.get(),
        affinity_ttl_ms: own.affinity_ttl_ms.ms(),
        budgets: Budgets {
            tokens: own.token_budget.map(|tokens| tokens.get() as u64),
            time_ms: own.time_budget_ms.map(|time| time.ms()),
            cost: own.cost_budget.map(Cost::of_units),
        },
        prices: priced.then(|| Prices {
            in_per_1k: price(own.price_in_per_1k),
            out_per_1k: price(own.price_out_per_1k),
        }),
    }
}

/// How often one identity may submit; `None` for as often as it likes.
#[must_use]
pub fn rate(own: &RateLimit) -> Option<Rate> {
    Rate::per_minute(own.per_minute.get_u32(), own.burst.get_u32())
}

/// Bounds of the journal's writer.
#[must_use]
pub fn journal(config: &Config) -> JournalOptions {
    let own = &config.orchestratord.journal;
    JournalOptions {
        reserve_bytes: mib(own.reserve_mib.get()),
        ..JournalOptions::default()
    }
}

/// Most bytes of all transcripts together.
#[must_use]
pub fn transcript_bytes(config: &Config) -> u64 {
    mib(config.orchestratord.journal.transcripts_mib.get())
}

/// What is kept beside tasks.
#[must_use]
pub fn artifacts(config: &Config) -> artifacts::Options {
    let own = &config.orchestratord.artifacts;
    artifacts::Options {
        limits: artifact_store::Limits {
            max_artifact_bytes: own.max_bytes.get() as u64,
            max_stored_bytes: mib(own.stored_mib.get()),
            max_trace_bytes: mib(own.traces_mib.get()),
            max_age_ms: own.max_age_ms.ms(),
        },
        reserve_bytes: mib(config.orchestratord.journal.reserve_mib.get()),
        traces: own.traces,
        trace_input: own.trace_input,
        trace_output: own.trace_output,
    }
}

/// What survives, and how interrupted tasks go on.
#[must_use]
pub fn durability(config: &Config) -> Policy {
    let own = &config.orchestratord;
    Policy {
        max_lag: own.journal.max_lag_ms.duration(),
        strict: own.durability == Durability::Strict,
        interrupted: own.interrupted,
    }
}

fn mib(count: usize) -> u64 {
    (count as u64) << 20
}

/// Options of the adapter host.
#[must_use]
pub fn adapters(config: &Config) -> adapter_host::Options {
    let engine = &config.orchestratord.engine;
    adapter_host::Options {
        timeouts: Timeouts {
            connect: engine.connect_timeout_ms.duration(),
            first_token: engine.first_token_timeout_ms.duration(),
            token_idle: engine.token_idle_timeout_ms.duration(),
            probe: PROBE,
        },
        breaker: BREAKER,
    }
}

/// Silence after which a stream sends a comment.
#[must_use]
pub fn heartbeat(config: &Config) -> Duration {
    config.orchestratord.sse.heartbeat_ms.duration()
}
