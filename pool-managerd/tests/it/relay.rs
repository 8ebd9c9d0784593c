//! The relay to a node's engines: what passes, how it passes, and what does not.

use std::fs;

use anyhow::{Context, Result, ensure};
use api_types::link::{ENGINE_START_HEADER, EngineStart, NodeReport};
use api_types::pool::ReplicaState;
use serde_json::{Value, json};
use test_harness_support::http1::{Answer, Call, Connection, Error, call};
use test_harness_support::scripted_engine::{End, EngineControl, Report, RequestRecord};
use test_harness_support::wait::{Look, wait_for};

use crate::rig::{LIMIT, Node, Rig, control, kill};

const TOKEN: &str = "a-token-for-this-test";

/// Frames that no reader asks for must come to rest within this many bytes: two sockets' buffers on each leg, and what
/// two programs keep of a stream.
const MOST_ON_THE_WAY: u64 = 24 << 20;

/// What the daemon may keep of it: the HTTP libraries' buffers and whatever the allocator rounds up.
const MOST_KEPT: u64 = 4 << 20;

/// The daemon's memory.
fn resident_bytes(node: &Node) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", node.daemon.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("no VmRSS")?
        .parse()?;
    Ok(kib << 10)
}

async fn rig() -> Result<Rig> {
    let mut rig = Rig::new().await?;
    rig.variables.push(("AUTH_TOKEN".into(), TOKEN.into()));
    rig.node = "relay = \"always\"".into();
    Ok(rig)
}

/// The start of the engine that the node reports now.
async fn start(node: &Node) -> Result<EngineStart> {
    let report: NodeReport = serde_json::from_value(node.json("/v1/node").await?)?;
    Ok(EngineStart {
        instance: report.instance,
        generation: report.pools[0].replicas[0].generation,
    })
}

fn meaning(call: Call, start: EngineStart) -> Call {
    call.header(ENGINE_START_HEADER, &start.to_string()).bearer(TOKEN)
}

fn completion(path: &str, tokens: u32) -> Call {
    let body = json!({"prompt": "the moon", "n_predict": tokens, "seed": 7, "stream": true});
    Call::post_json(path, &body)
}

const COMPLETION: &str = "/v1/relay/p/r0/completion";

/// A stream that has begun, at its first byte.
async fn open(node: &Node, call: &Call) -> Result<Connection> {
    let mut connection = Connection::open(node.daemon.address()).await?;
    connection
        .send(&call.bytes(&node.daemon.address().to_string()))
        .await?;
    ensure!(connection.head().await?.status == 200);
    Ok(connection)
}

async fn engine(node: &Node) -> Result<EngineControl> {
    control(&node.pool().await?.replicas[0])
}

/// The last completion that the engine was asked for.
fn last(report: &Report) -> Option<&RequestRecord> {
    let asked = |request: &&RequestRecord| request.target == "/completion";
    report.requests.iter().rev().find(asked)
}

async fn until_seen(engine: &EngineControl, what: &str, holds: impl Fn(&Report) -> bool) -> Result<Report> {
    let look = || async {
        match engine.report().await {
            Ok(report) if holds(&report) => Look::Ready(report),
            other => Look::NotYet(other),
        }
    };
    Ok(wait_for(what, LIMIT, look).await?)
}

/// REQ-RELAY-REACH: a report tells where the relay is and keeps the keys.
#[tokio::test]
async fn a_node_behind_its_relay_keeps_its_keys() -> Result<()> {
    let rig = rig().await?;
    let node = rig.start().await?;
    let told = node
        .until_told("a ready pool", |report| report.pools[0].is_ready())
        .await?;
    let replica = &told.pools[0].replicas[0];
    let expected = format!("{}/v1/relay/p/r0", node.daemon.base_url());
    assert!(told.relay);
    assert_eq!(replica.endpoint.as_deref(), Some(expected.as_str()));
    assert!(rig.orchestrator.received().iter().all(|one| {
        let mut replicas = one.report.pools.iter().flat_map(|pool| &pool.replicas);
        replicas.all(|replica| replica.endpoint_key.is_none())
    }));
    node.until_logged("through its relay").await?;
    Ok(())
}

/// REQ-RELAY-STREAM: the engine's frames come through as they are, its head without what is not a reader's.
#[tokio::test]
async fn a_stream_passes_byte_by_byte() -> Result<()> {
    let rig = rig().await?;
    rig.script(&json!({"tokens": 300, "text": "multibyte", "fragment_bytes": 7}))?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    let key = engine_key(&rig)?;
    let direct = completion("/completion", 200).bearer(&key);
    let direct = call(engine_address(&node).await?, &direct).await?;
    let relayed = meaning(completion(COMPLETION, 200), start(&node).await?);
    let relayed = call(node.daemon.address(), &relayed).await?;
    assert_eq!((direct.status, relayed.status), (200, 200));
    let (direct_frames, relayed_frames) = (frames(&direct), frames(&relayed));
    assert!(direct_frames.len() > 50, "{}", direct.text());
    // The last frame tells times.
    let tokens = direct_frames.len() - 2;
    assert_eq!(direct_frames[..tokens], relayed_frames[..tokens]);
    assert_eq!(direct_frames.len(), relayed_frames.len());
    assert_eq!(relayed.header("content-type"), Some("text/event-stream"));
    for private in ["server", "access-control-allow-origin", "keep-alive"] {
        assert_eq!(relayed.header(private), None, "{private}");
    }
    assert_eq!(relayed.header("x-accel-buffering"), Some("no"));
    Ok(())
}

fn frames(answer: &Answer) -> Vec<String> {
    answer.text().split("\n\n").map(str::to_owned).collect()
}

/// The engine's own key, from the file that only its node reads.
fn engine_key(rig: &Rig) -> Result<String> {
    let mut folders = vec![rig.dir.path().join("state")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            if path.is_dir() {
                folders.push(path);
            } else if name.is_some_and(|name| name.starts_with("api-key")) {
                return Ok(fs::read_to_string(path)?.trim().to_owned());
            }
        }
    }
    anyhow::bail!("there is no key file")
}

async fn engine_address(node: &Node) -> Result<std::net::SocketAddr> {
    let pool = node.pool().await?;
    let endpoint = pool.replicas[0].endpoint.as_deref().context("no endpoint")?;
    Ok(endpoint.trim_start_matches("http://").parse()?)
}

/// REQ-RELAY-LIST, ORCH-3278: of a request only its JSON reaches the engine, under the engine's own key.
#[tokio::test]
async fn nothing_of_the_caller_reaches_the_engine() -> Result<()> {
    let rig = rig().await?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    let asked = meaning(completion(COMPLETION, 3), start(&node).await?)
        .header("Cookie", "canary=1")
        .header("TE", "trailers")
        .header("Connection", "canary-hop")
        .header("Canary-Hop", "1");
    assert_eq!(call(node.daemon.address(), &asked).await?.status, 200);
    let report = engine(&node).await?.report().await?;
    let seen = last(&report).context("the engine was not asked")?;
    let mut names: Vec<_> = seen.headers.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "authorization",
            "connection",
            "content-length",
            "content-type",
            "host",
            "user-agent"
        ]
    );
    assert!(
        !format!("{:?}", seen.headers).contains(TOKEN),
        "the token reached the engine"
    );
    assert!(
        seen.headers["host"].starts_with("127.0.0.1:"),
        "{:?}",
        seen.headers
    );
    assert_eq!(
        seen.body.as_ref().map(|body| &body["prompt"]),
        Some(&json!("the moon"))
    );
    Ok(())
}

/// REQ-RELAY-STREAM: the caller's close is the engine's close, before the first byte and in mid-stream.
#[tokio::test]
async fn a_cancel_closes_the_engines_connection() -> Result<()> {
    let hour = 3_600_000_u64;
    for (script, begins) in [
        (json!({"first_token_delay_ms": hour}), false),
        (json!({"infinite": true, "token_delay_us": 1000 * hour}), true),
        (json!({"infinite": true, "token_delay_us": 2000}), true),
    ] {
        let rig = rig().await?;
        rig.script(&script)?;
        let node = rig.start().await?;
        node.until_ready(1).await?;
        let asked = meaning(completion(COMPLETION, 1000), start(&node).await?);
        let mut connection = Connection::open(node.daemon.address()).await?;
        connection
            .send(&asked.bytes(&node.daemon.address().to_string()))
            .await?;
        if begins {
            connection.head().await?;
        }
        let engine = engine(&node).await?;
        until_seen(&engine, "the engine to work", |report| report.active == 1).await?;
        drop(connection);
        let report = until_seen(&engine, "the slot to be free", |report| report.active == 0).await?;
        assert_eq!(
            last(&report).map(|request| &request.end),
            Some(&End::ClientGone),
            "{script}"
        );
        let outcome = if begins { "passed" } else { "gone" };
        let counted =
            format!("relay_requests_total{{outcome=\"{outcome}\",pool_id=\"p\",replica_id=\"r0\"}} 1");
        until_metric(&node, &counted).await?;
        if begins {
            until_metric(&node, "relay_open_answers{pool_id=\"p\",replica_id=\"r0\"} 0").await?;
        }
    }
    Ok(())
}

async fn until_metric(node: &Node, line: &str) -> Result<()> {
    let look = || async {
        match node.get("/metrics").await {
            Ok(answer) if answer.text().contains(line) => Look::Ready(()),
            Ok(answer) => Look::NotYet(answer.text()),
            Err(error) => Look::NotYet(error.to_string()),
        }
    };
    Ok(wait_for(line, LIMIT, look).await?)
}

/// REQ-RELAY-STREAM: who does not read makes the engine wait, and costs a bounded amount.
#[tokio::test]
async fn a_reader_that_pauses_makes_the_engine_wait() -> Result<()> {
    let rig = rig().await?;
    rig.script(&json!({"infinite": true, "keep_requests": 16}))?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    let asked = meaning(completion(COMPLETION, 1000), start(&node).await?);
    let before = resident_bytes(&node)?;
    let mut connection = open(&node, &asked).await?;
    let first = loop {
        match connection.body_part().await?.context("the stream ended")? {
            part if part.is_empty() => {}
            part => break part,
        }
    };
    let engine = engine(&node).await?;
    let at_rest = engine.at_rest(LIMIT).await?;
    let bytes = at_rest * first.len() as u64;
    assert!(
        bytes < MOST_ON_THE_WAY,
        "{at_rest} frames of {} bytes",
        first.len()
    );
    let kept = resident_bytes(&node)?.saturating_sub(before);
    assert!(
        kept < MOST_KEPT,
        "the relay keeps {kept} bytes for a reader that pauses"
    );
    let mut read = 0;
    let goes_on = async {
        while engine.report().await?.tokens_written_total <= at_rest {
            read += connection.body_part().await?.context("the stream ended")?.len();
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, goes_on)
        .await
        .with_context(|| format!("{read} bytes read, and the engine still waits"))??;
    Ok(())
}

/// REQ-RELAY-START: a dead engine's stream breaks off and its successor is not asked by mistake.
#[tokio::test]
async fn a_dead_engine_is_told_from_its_successor() -> Result<()> {
    let rig = rig().await?;
    rig.script(&json!({"infinite": true, "token_delay_us": 1000}))?;
    let node = rig.start().await?;
    let engine = node.until_ready(1).await?;
    let first = start(&node).await?;
    let mut connection = open(&node, &meaning(completion(COMPLETION, 1000), first)).await?;
    kill(&engine)?;
    let ended = loop {
        match connection.body_part().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(ended, Err(Error::Cut(_) | Error::Io(_))), "{ended:?}");
    node.until_ready(2).await?;
    let late = call(node.daemon.address(), &meaning(completion(COMPLETION, 3), first)).await?;
    let body: Value = late.json()?;
    assert_eq!(
        (late.status, &body["code"], &body["reason"]),
        (409, &json!("CONFLICT"), &json!("engine_start_moved")),
        "{body}"
    );
    let second = start(&node).await?;
    assert_eq!((second.instance, second.generation), (first.instance, 2));
    let mut anew = open(&node, &meaning(completion(COMPLETION, 3), second)).await?;
    assert!(anew.body_part().await?.is_some());
    let report = self::engine(&node).await?.report().await?;
    let completions = report.requests.iter().filter(|one| one.target == "/completion");
    assert_eq!(completions.count(), 1, "the late request reached the new engine");
    let text = node.get("/metrics").await?.text();
    for line in [
        "relay_requests_total{outcome=\"moved\",pool_id=\"p\",replica_id=\"r0\"} 1",
        "relay_requests_total{outcome=\"passed\",pool_id=\"p\",replica_id=\"r0\"} 2",
    ] {
        assert!(text.contains(line), "{line} not in {text}");
    }
    Ok(())
}

/// REQ-RELAY-START.
#[tokio::test]
async fn an_engine_that_is_not_ready_is_not_asked() -> Result<()> {
    let rig = rig().await?;
    rig.script(&json!({"load_ms": 3_600_000}))?;
    let node = rig.start().await?;
    node.until_state(ReplicaState::Loading).await?;
    let asked = meaning(completion(COMPLETION, 3), start(&node).await?);
    let answer = call(node.daemon.address(), &asked).await?;
    let body: Value = answer.json()?;
    assert_eq!(
        (answer.status, &body["code"]),
        (503, &json!("POOL_UNREADY")),
        "{body}"
    );
    assert_eq!(
        (&body["pool_id"], &body["hint"]),
        (&json!("p"), &json!("the model is loading"))
    );
    Ok(())
}

/// An engine's own error is its own: status, body and all.
#[tokio::test]
async fn an_engines_refusal_passes_as_it_is() -> Result<()> {
    let rig = rig().await?;
    let refusal =
        json!({"code": 400, "message": "that grammar does not parse", "type": "invalid_request_error"});
    rig.script(&json!({"refuse_completions": refusal}))?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    let asked = meaning(completion(COMPLETION, 3), start(&node).await?);
    let answer = call(node.daemon.address(), &asked).await?;
    let body: Value = answer.json()?;
    assert_eq!(
        (answer.status, &body["error"]["message"]),
        (400, &refusal["message"]),
        "{body}"
    );
    Ok(())
}

/// REQ-RELAY-LIST: what does not pass, and how it is said.
#[tokio::test]
async fn what_does_not_pass_is_refused_with_its_reason() -> Result<()> {
    let mut rig = rig().await?;
    rig.head = "[http]\nmax_body_bytes = 65536\n".into();
    let node = rig.start().await?;
    node.until_ready(1).await?;
    let start = start(&node).await?;
    let other = EngineStart {
        instance: uuid::Uuid::nil(),
        ..start
    };
    let later = EngineStart {
        generation: 2,
        ..start
    };
    let long = json!({"prompt": "x".repeat(256 << 10)});
    let path = |rest: &str| format!("/v1/relay/p/r0/{rest}");
    let cases = [
        (meaning(Call::get(&path("slots")), start), 403, "GET /slots"),
        (
            meaning(Call::get(&path("completion")), start),
            403,
            "GET /completion",
        ),
        (
            meaning(completion(&path("completion?x=1"), 1), start),
            403,
            "with a query",
        ),
        (
            meaning(completion(&path("../../../healthz"), 1), start),
            403,
            "does not pass",
        ),
        (
            meaning(completion(&path("%2e%2e/completion"), 1), start),
            403,
            "does not pass",
        ),
        (
            meaning(completion(&path("http://127.0.0.1:1/completion"), 1), start),
            403,
            "does not pass",
        ),
        (
            meaning(Call::new("DELETE", &path("completion")), start),
            405,
            "DELETE",
        ),
        (completion(COMPLETION, 1).bearer(TOKEN), 400, "x-engine-start"),
        (
            meaning(completion(COMPLETION, 1), other),
            409,
            "the request means",
        ),
        (
            meaning(completion(COMPLETION, 1), later),
            409,
            "the request means",
        ),
        (
            meaning(completion("/v1/relay/q/r0/completion", 1), start),
            404,
            "no pool q",
        ),
        (
            meaning(completion("/v1/relay/p/r9/completion", 1), start),
            404,
            "no replica r9",
        ),
        (
            meaning(Call::post_json(COMPLETION, &long), start),
            413,
            "131072 bytes",
        ),
        (meaning(Call::post(COMPLETION), start), 400, "Content-Type"),
        (
            meaning(
                Call::post(COMPLETION)
                    .header("Content-Type", "application/json")
                    .body("{\"a"),
                start,
            ),
            400,
            "EOF",
        ),
        (
            meaning(completion(COMPLETION, 1), start).header("Host", "evil.example"),
            403,
            "Host",
        ),
    ];
    for (case, status, words) in cases {
        let answer = call(node.daemon.address(), &case).await?;
        let text = answer.text();
        assert_eq!(answer.status, status, "{case:?}: {text}");
        assert!(text.contains(words), "{words}: {text}");
    }
    let report = engine(&node).await?.report().await?;
    assert_eq!(last(&report), None, "something reached the engine");
    Ok(())
}

/// AUTH-1003: the relay needs the token also of local callers who may leave it out elsewhere.
#[tokio::test]
async fn the_relay_always_needs_the_token() -> Result<()> {
    let mut rig = rig().await?;
    rig.variables.push(("AUTH_OPTIONAL".into(), "true".into()));
    let mut node = rig.start().await?;
    node.until_ready(1).await?;
    let start = start(&node).await?;
    node.token = None;
    assert_eq!(node.get("/v1/node").await?.status, 200, "others need none");
    let bare = completion(COMPLETION, 1).header(ENGINE_START_HEADER, &start.to_string());
    for (asked, code) in [
        (bare.clone(), 40101),
        (bare.bearer("not-the-token-of-this-test"), 40102),
    ] {
        let answer = call(node.daemon.address(), &asked).await?;
        let body: Value = answer.json()?;
        assert_eq!(
            (answer.status, &body["numeric_code"]),
            (401, &json!(code)),
            "{body}"
        );
    }
    Ok(())
}

/// REQ-RELAY-LIST: a node whose orchestrator is on the same host has no relay at all.
#[tokio::test]
async fn the_relay_is_off_where_engines_are_reached_directly() -> Result<()> {
    let mut rig = rig().await?;
    rig.node.clear();
    let node = rig.start().await?;
    node.until_ready(1).await?;
    let asked = meaning(completion(COMPLETION, 1), start(&node).await?);
    let answer = call(node.daemon.address(), &asked).await?;
    let body: Value = answer.json()?;
    assert_eq!(
        (answer.status, &body["code"]),
        (403, &json!("FORBIDDEN")),
        "{body}"
    );
    assert!(
        body["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("pool_managerd.relay")),
        "{body}"
    );
    Ok(())
}
