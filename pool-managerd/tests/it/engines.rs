//! Engines: started, watched, restarted, given up, ended.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use api_types::pool::{ReplicaState, UnreadyCause};
use serde_json::json;
use test_harness_support::daemon::Signal;
use test_harness_support::wait::{Look, wait_for};

use crate::rig::{LIMIT, Rig, control, executable, is_gone, kill, pid, ready};

/// ORCH-3420.
#[tokio::test]
async fn a_pool_gets_ready_after_loading_and_says_everything_about_itself() -> Result<()> {
    let rig = Rig::new().await?;
    rig.script(&json!({"load_ms": 700}))?;
    let node = rig.start().await?;
    let loading = node.until_state(ReplicaState::Loading).await?;
    assert_eq!(loading.cause, Some(UnreadyCause::Loading));
    assert_eq!(
        loading.slots_total, None,
        "nothing is claimed before the engine says it"
    );
    let replica = node.until_ready(1).await?;
    assert_eq!((replica.slots_total, replica.ctx_per_slot), (Some(2), Some(512)));
    assert_eq!(replica.engine_version.as_deref(), Some("b0-scripted"));
    assert_eq!((replica.restarts, replica.cause), (0, None));
    let pool = node
        .until("digests", |pool| {
            pool.model_digest.is_some() && pool.engine_digest.is_some()
        })
        .await?;
    assert_eq!(pool.model_bytes, Some(fs::metadata(rig.model())?.len()));
    assert_eq!(pool.ctx_max, 512);
    assert_eq!(
        (pool.cause, pool.hint.as_deref(), pool.draining),
        (None, None, false)
    );
    Ok(())
}

/// ORCH-3278, ORCH-3425.
#[tokio::test]
async fn the_engine_gets_its_devices_and_key_and_none_of_the_daemons_secrets() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.variables
        .push(("AUTH_TOKEN".into(), "canary-of-the-daemon".into()));
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    let process = format!("/proc/{}", pid(&replica)?.as_raw_nonzero());
    let environment = String::from_utf8_lossy(&fs::read(format!("{process}/environ"))?).into_owned();
    assert!(
        environment.contains(&format!("CUDA_VISIBLE_DEVICES={}", rig.devices[0])),
        "{environment}"
    );
    assert!(
        environment.contains("CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        "{environment}"
    );
    for absent in ["AUTH_TOKEN", "canary", "GGML_CUDA_ENABLE_UNIFIED_MEMORY"] {
        assert!(!environment.contains(absent), "{absent} in {environment}");
    }
    let line = String::from_utf8_lossy(&fs::read(format!("{process}/cmdline"))?).replace('\0', " ");
    assert!(line.contains("-dev CUDA0 -ngl all --fit off"), "{line}");
    let told = node
        .until_told("a ready pool", |report| {
            report.pools.iter().any(|pool| pool.is_ready())
        })
        .await?;
    let key = told.pools[0].replicas[0].endpoint_key.clone().context("no key")?;
    assert!(key.len() >= 32 && !line.contains(&key) && !environment.contains(&key));
    Ok(())
}

/// ORCH-3423.
#[tokio::test]
async fn a_killed_engine_is_noticed_at_once_and_started_again() -> Result<()> {
    let rig = Rig::new().await?;
    rig.script(&json!({"stderr_lines": ["0.00.000.001 E scripted: its last words"]}))?;
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    kill(&replica)?;
    let log = node
        .json("/v1/pools/p/logs?replica_id=r0&generation=1&wait_exit_ms=10000&tail=50")
        .await?;
    assert_eq!(log["exit"], "signal 9 (SIGKILL)", "{log}");
    assert!(log.to_string().contains("its last words"), "{log}");
    let again = node.until_ready(2).await?;
    assert_eq!(again.restarts, 1);
    assert_ne!(again.pid, replica.pid);
    assert_eq!(again.last_error, None);
    let metrics = String::from_utf8(node.get("/metrics").await?.body)?;
    assert!(
        metrics.contains("engine_restarts_total{pool_id=\"p\",replica_id=\"r0\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("engine_exits_total{cause=\"ENGINE_EXITED\",pool_id=\"p\",replica_id=\"r0\"} 1"),
        "{metrics}"
    );
    Ok(())
}

/// ORCH-3423.
/// REQ-FAULT-RESTART-STORM.
#[tokio::test]
async fn an_engine_that_never_comes_up_is_given_up_with_its_last_words() -> Result<()> {
    let rig = Rig::new().await?;
    rig.script(&json!({"start_failure": {"exit_code": 3, "message": "E fatal: the scripted reason"}}))?;
    let node = rig.start().await?;
    let failed = node.until_state(ReplicaState::Failed).await?;
    assert_eq!(failed.generation, 4, "one start and three restarts");
    assert_eq!(failed.cause, Some(UnreadyCause::RestartBudgetExhausted));
    assert!(
        failed
            .last_error
            .as_deref()
            .is_some_and(|said| said.contains("the scripted reason")),
        "{failed:?}"
    );
    let pool = node.pool().await?;
    let hint = pool.hint.unwrap_or_default();
    assert!(
        hint.contains("exit code 3") && hint.contains("3 restarts"),
        "{hint}"
    );

    // Replacing the model file is what a person does about it.
    rig.script(&json!({}))?;
    fs::write(rig.model(), b"GGUF and something better")?;
    node.until_ready(5).await?;
    Ok(())
}

/// REQ-FAULT-ENGINE-OOM.
#[tokio::test]
async fn causes_are_told_apart() -> Result<()> {
    let cases = [
        ("CUDA error: out of memory", 1, UnreadyCause::VramOom),
        ("", 137, UnreadyCause::HostOom),
        (
            "CUDA error: an illegal memory access was encountered",
            134,
            UnreadyCause::GpuError,
        ),
    ];
    for (message, exit_code, cause) in cases {
        let mut rig = Rig::new().await?;
        rig.pause_ms = 600_000;
        rig.script(&json!({"start_failure": {"exit_code": exit_code, "message": message}}))?;
        let node = rig.start().await?;
        let found = node
            .until_told("its cause", |report| {
                report.pools[0].replicas[0].cause == Some(cause)
            })
            .await?;
        assert!(found.pools[0].hint.is_some());
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_no_model_is_refused_three_times_and_no_more() -> Result<()> {
    let rig = Rig::new().await?;
    fs::write(rig.model(), b"junk, not a model")?;
    let node = rig.start().await?;
    let failed = node.until_state(ReplicaState::Failed).await?;
    assert_eq!(
        (failed.generation, failed.cause),
        (3, Some(UnreadyCause::BadModel))
    );
    Ok(())
}

/// REQ-FAULT-ENGINE-PORT.
#[tokio::test]
async fn a_taken_port_is_survived() -> Result<()> {
    let mut rig = Rig::new().await?;
    let squatter = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = squatter.local_addr()?.port();
    rig.pause_ms = 1000;
    // The first start is sent to the squatter's port.
    rig.wrap_engine(&format!(
        r#"cd "$(dirname "$0")"
if mkdir first 2>/dev/null; then
  seen=; for arg in "$@"; do
    [ "$seen" = --port ] && arg={port}; seen="$arg"; set -- "$@" "$arg"; shift
  done
fi
exec "$ENGINE" "$@""#
    ))?;
    let node = rig.start().await?;
    node.until_ready(2).await?;
    let told = rig.orchestrator.received();
    let causes: Vec<_> = told
        .iter()
        .filter_map(|received| received.report.pools[0].replicas[0].cause)
        .collect();
    assert!(causes.contains(&UnreadyCause::PortTaken), "{causes:?}");
    Ok(())
}

#[tokio::test]
async fn an_engine_that_stops_answering_health_is_replaced() -> Result<()> {
    let rig = Rig::new().await?;
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    control(&replica)?
        .change_script(&json!({"health": "error"}))
        .await?;
    let again = node.until_ready(2).await?;
    assert_ne!(again.pid, replica.pid);
    Ok(())
}

#[tokio::test]
async fn a_load_that_takes_too_long_is_ended() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.pool = "load_timeout_ms = 300".into();
    rig.pause_ms = 600_000;
    rig.script(&json!({"load_ms": 600_000}))?;
    let node = rig.start().await?;
    node.until_told("the cause", |report| {
        report.pools[0].replicas[0].cause == Some(UnreadyCause::LoadTimeout)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn files_that_appear_later_start_the_pool() -> Result<()> {
    let mut rig = Rig::new().await?;
    fs::remove_file(rig.model())?;
    let engine = rig.dir.path().join("late-engine");
    let real = std::mem::replace(&mut rig.engine, engine.clone());
    let node = rig.start().await?;
    let waits = node.until_state(ReplicaState::Preflight).await?;
    assert_eq!((waits.generation, waits.pid), (0, None));
    let missing = node
        .until("the model to be missed", |pool| {
            pool.cause == Some(UnreadyCause::ModelMissing)
        })
        .await?;
    assert!(missing.hint.is_some_and(|hint| hint.contains("tiny.gguf")));
    fs::write(rig.model(), b"GGUF at last")?;
    node.until("the engine to be missed", |pool| {
        pool.cause == Some(UnreadyCause::EngineMissing)
    })
    .await?;
    executable(&engine, &format!("#!/bin/sh\nexec '{}' \"$@\"\n", real.display()))?;
    node.until_ready(1).await?;
    Ok(())
}

/// ORCH-3424.
/// REQ-FAULT-LOG.
#[tokio::test]
async fn a_flood_of_output_costs_neither_memory_nor_the_engine() -> Result<()> {
    let rig = Rig::new().await?;
    rig.script(&json!({"stderr_flood": {"lines": 300_000, "line_bytes": 200}}))?;
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    let flooded = wait_for("the flood to be cut", LIMIT, || async {
        let log = node.json("/v1/pools/p/logs?replica_id=r0&tail=10000").await;
        match log {
            Ok(log) if log.to_string().contains("bytes of output dropped") => Look::Ready(log),
            other => Look::NotYet(format!("{:.200}", format!("{other:?}"))),
        }
    })
    .await?;
    assert!(
        flooded["lines"]
            .as_array()
            .is_some_and(|lines| lines.len() <= 200)
    );
    let status = fs::read_to_string(format!("/proc/{}/status", node.daemon.pid()))?;
    let resident: u64 = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .context("no VmRSS")?;
    assert!(resident < 150 << 10, "{resident} kB");
    assert_eq!(node.until_ready(1).await?.pid, replica.pid);
    Ok(())
}

/// ORCH-3424: a reader that follows gets what is there, what comes, and the end.
#[tokio::test]
async fn a_log_can_be_followed_to_the_end_of_its_engine() -> Result<()> {
    let rig = Rig::new().await?;
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    let following = node.get("/v1/pools/p/logs?replica_id=r0&follow=true&tail=100");
    let ending = async {
        kill(&replica)?;
        node.until_ready(2).await
    };
    let (followed, ended) = tokio::join!(following, ending);
    ended?;
    let followed = followed?;
    let text = String::from_utf8(followed.body)?;
    assert_eq!(followed.status, 200);
    let whole = node
        .json("/v1/pools/p/logs?replica_id=r0&generation=1&tail=100")
        .await?;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(whole["lines"], json!(lines));
    assert!(text.contains("scripted engine: no inference"), "{text}");
    Ok(())
}

/// ORCH-3424.
/// REQ-FAULT-LOG.
#[tokio::test]
async fn credentials_in_an_engines_output_are_not_shown() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.env = "HUB_SECRET = \"canary-of-the-pool\"".into();
    rig.script(&json!({"stderr_lines": [
        "0.00.000.001 I srv: Authorization: Bearer canary-bearer-0123456789",
        "0.00.000.002 I srv: HUB_SECRET is canary-of-the-pool",
    ]}))?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    let log = node.json("/v1/pools/p/logs?replica_id=r0").await?.to_string();
    assert!(
        log.contains("Authorization") && log.contains("HUB_SECRET is"),
        "{log}"
    );
    assert!(!log.contains("canary"), "{log}");
    assert!(!node.daemon.logs().contains("canary"));
    Ok(())
}

#[tokio::test]
async fn a_stop_leaves_no_process_of_the_group() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.wrap_engine("sleep 600 &\necho $! > \"$(dirname \"$0\")/child\"\n\"$ENGINE\" \"$@\" &\nwait")?;
    let node = rig.start().await?;
    let replica = node.until_ready(1).await?;
    let leader = pid(&replica)?;
    let child: i32 = fs::read_to_string(rig.dir.path().join("child"))?.trim().parse()?;
    let child = rustix::process::Pid::from_raw(child).context("pid 0")?;
    assert!(!is_gone(child));
    node.daemon.signal(Signal::TERM)?;
    let status = node.daemon.wait(LIMIT).await?;
    assert_eq!(status.code(), Some(0), "{}", node.daemon.logs());
    assert!(is_gone(leader) && is_gone(child));
    let last = rig.orchestrator.last().context("no report")?;
    assert_eq!(last.pools[0].replicas[0].state, ReplicaState::Stopped);
    Ok(())
}

#[tokio::test]
async fn an_engine_that_ignores_the_stop_is_killed_after_its_grace() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.grace_ms = 200;
    rig.script(&json!({"ignore_sigterm": true}))?;
    let node = rig.start().await?;
    let engine = pid(&node.until_ready(1).await?)?;
    node.daemon.signal(Signal::TERM)?;
    assert_eq!(node.daemon.wait(LIMIT).await?.code(), Some(0));
    assert!(is_gone(engine));
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_everything_at_once() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.grace_ms = 300_000;
    rig.script(&json!({"ignore_sigterm": true}))?;
    let node = rig.start().await?;
    let engine = pid(&node.until_ready(1).await?)?;
    node.daemon.signal(Signal::TERM)?;
    node.until("the stop to begin", |pool| {
        pool.replicas[0].state == ReplicaState::Draining
    })
    .await?;
    assert_eq!(node.get("/readyz").await?.status, 503);
    node.daemon.signal(Signal::TERM)?;
    let status = node.daemon.wait(Duration::from_secs(10)).await?;
    assert_eq!(status.code(), Some(143));
    assert!(is_gone(engine));
    Ok(())
}

#[tokio::test]
async fn a_model_replaced_under_a_running_engine_is_not_claimed() -> Result<()> {
    let rig = Rig::new().await?;
    let node = rig.start().await?;
    node.until("a digest", |pool| ready(pool, 1) && pool.model_digest.is_some())
        .await?;
    fs::write(rig.model(), b"GGUF of another content")?;
    let pool = node
        .until("the digest to be dropped", |pool| pool.model_digest.is_none())
        .await?;
    assert!(pool.is_ready());
    Ok(())
}
