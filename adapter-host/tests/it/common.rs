//! A host, its options, a job, and reading a stream to its end.

use std::future::poll_fn;
use std::time::Duration;

use adapter_api::{AdapterError, Finish, Job, JobInput, Timeouts, TokenBatch, TokenStream};
use adapter_host::{AdapterHost, Bound, BreakerOptions, EndpointSpec, Options, Target};
use api_types::{EngineKind, KvHint, Sampling, TaskId};
use prometheus::Registry;
use test_harness_support::scripted_engine::{Report, ScriptedEngine};
use test_harness_support::wait::{Look, wait_for};

/// Bound of every wait for a condition.
const LONG: Duration = Duration::from_secs(30);

pub(crate) const OPTIONS: Options = Options {
    timeouts: Timeouts {
        connect: Duration::from_secs(10),
        first_token: Duration::from_secs(60),
        token_idle: Duration::from_secs(60),
        probe: Duration::from_secs(30),
    },
    breaker: BreakerOptions {
        faults_to_open: 3,
        // Far longer than a test: rests end when the test moves the clock.
        cooldown: Duration::from_secs(600),
        cooldown_max: Duration::from_secs(4800),
    },
};

pub(crate) fn host() -> AdapterHost {
    AdapterHost::new(OPTIONS, &Registry::new()).unwrap()
}

pub(crate) fn target() -> Target {
    Target::new("pool-a".parse().unwrap(), "r0".parse().unwrap())
}

pub(crate) fn spec(url: &str) -> EndpointSpec {
    EndpointSpec {
        engine: EngineKind::Llamacpp,
        url: url.to_owned(),
        key: None,
        relay: None,
    }
}

pub(crate) fn bind(host: &AdapterHost, generation: u64, engine: &ScriptedEngine) -> Bound {
    let Target { pool, replica } = target();
    host.bind(pool, replica, generation, spec(&engine.base_url()))
        .unwrap()
}

pub(crate) fn job(max_tokens: u32) -> Job {
    Job {
        task_id: TaskId::new(uuid::Uuid::from_u128(7)),
        input: JobInput::Prompt("the moon".into()),
        max_tokens,
        seed: 42,
        sampling: Sampling::default(),
        kv_hint: KvHint::Reuse,
        strict: false,
    }
}

pub(crate) async fn drain(mut stream: Box<dyn TokenStream>) -> Result<(String, Finish), AdapterError> {
    let mut batch = TokenBatch::new();
    loop {
        poll_fn(|cx| stream.poll_next(cx, &mut batch)).await?;
        if let Some(finish) = batch.finish() {
            return Ok((batch.tokens().collect(), finish.clone()));
        }
    }
}

/// One generation of the host's replica.
pub(crate) async fn generate(host: &AdapterHost) -> Result<(String, Finish), AdapterError> {
    drain(host.submit(&target(), &job(64)).await?).await
}

/// Completions that the engine has seen, answered or not.
pub(crate) fn completions(report: &Report) -> usize {
    report
        .requests
        .iter()
        .filter(|r| r.target == "/completion")
        .count()
}

/// Waits until the engine's report is as wanted.
pub(crate) async fn seen(engine: &ScriptedEngine, what: &str, wanted: impl Fn(&Report) -> bool) {
    let look = || async {
        let report = engine.report();
        if wanted(&report) {
            Look::Ready(())
        } else {
            Look::NotYet(report)
        }
    };
    wait_for(what, LONG, look).await.unwrap();
}

/// Moves the clock. It stands still only for the moment, so that sockets are not hurried.
pub(crate) async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
