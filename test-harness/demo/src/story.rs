//! What the demo shows, in order.

use anstream::println;
use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;
use test_harness_support::binaries;
use test_harness_support::system::{MODEL, System};
use tokio::sync::mpsc;

use crate::cli::{Cli, Event};
use crate::columns::{Columns, pad};
use crate::stage;

const TITLE: Style = Style::new().bold();
const QUIET: Style = AnsiColor::BrightBlack.on_default();
const STORY: Style = AnsiColor::Cyan.on_default();

/// Events of all streams on their way to the screen; small, because the screen keeps up.
const EVENTS: usize = 64;

/// One of the three tasks.
struct Act {
    title: &'static str,
    arguments: &'static [&'static str],
    prompt: &'static str,
}

const ACTS: [Act; 3] = [
    Act {
        title: "interactive",
        arguments: &["--priority", "interactive", "--max-tokens", "40", "--seed", "7"],
        prompt: "Write a haiku about the moon over the river.",
    },
    Act {
        title: "pinned to the second GPU",
        arguments: &["--pin", "gpu1-rtx3060", "--max-tokens", "32", "--seed", "8"],
        prompt: "Explain a queue in one sentence.",
    },
    Act {
        title: "batch",
        arguments: &["--priority", "batch", "--max-tokens", "24", "--seed", "9"],
        prompt: "Summarize the night's log.",
    },
];

/// Shows everything and stops everything.
pub(crate) async fn tell(real: bool, keep: bool) -> anyhow::Result<()> {
    prologue(real);
    let system = stage::set(real).await?;
    let cli = Cli::new(binaries::bin_path("llama-orch")?, system.orchestrator.base_url());
    title("The pools, as `llama-orch pools` shows them");
    println!("{}", cli.text(&["pools"]).await?.trim_end());
    measure(&cli).await?;
    let receipts = submit(&cli).await?;
    let texts = stream(&cli, &receipts).await?;
    check_disclaimer(real, &texts)?;
    show_receipts(&cli, &receipts).await?;
    if keep {
        wait_for_interrupt(&system).await?;
    }
    stop(system).await
}

fn prologue(real: bool) {
    title("llama-orch demo: real daemons, real HTTP, no GPU");
    println!("GPUs:   fake, through a stand-in for the NVML library (24 GiB and 12 GiB)");
    if real {
        println!(
            "Engine: the real llama.cpp server on a tiny model with random weights. Its words are noise."
        );
    } else {
        println!("Engine: scripted engine: no inference. It streams canned words at a fixed pace.");
    }
}

/// One short task per pool, so that the predictions below rest on measurements.
async fn measure(cli: &Cli) -> anyhow::Result<()> {
    title("One short task on each pool, so that its speed is measured and not guessed");
    for pool in ["gpu0-rtx3090", "gpu1-rtx3060"] {
        let arguments = ["run", MODEL, "warm up", "--pin", pool, "--max-tokens", "8"];
        let events = cli.text(&[&["--json"], &arguments[..]].concat()).await?;
        let end = events
            .lines()
            .filter_map(|line| serde_json::from_str::<Event>(line).ok())
            .next_back();
        let end = end
            .filter(|event| event.event == "end")
            .context("the warm-up has no end event")?;
        println!(
            "  {pool}: {} tokens in {} ms",
            end.data["tokens_out"], end.data["decode_time_ms"]
        );
    }
    Ok(())
}

/// Submits the three tasks and shows what each client is told at once.
async fn submit(cli: &Cli) -> anyhow::Result<Vec<Value>> {
    title("Three tasks, two slots: what each client is told at once (202)");
    let mut receipts = Vec::new();
    for act in &ACTS {
        let arguments = [&["task", "submit", MODEL, act.prompt], act.arguments].concat();
        let receipt = cli.json(&arguments).await?;
        println!("  {}: {receipt}", act.title);
        receipts.push(receipt);
    }
    Ok(receipts)
}

/// Streams all tasks side by side; gives their texts.
async fn stream(cli: &Cli, receipts: &[Value]) -> anyhow::Result<Vec<String>> {
    title("Their streams, side by side, with the story");
    let heads: Vec<String> = ACTS.iter().map(|act| pad(act.title)).collect();
    println!("{TITLE}{}{TITLE:#}", heads.join(" │ ").trim_end());
    let (sender, mut events) = mpsc::channel(EVENTS);
    let followers = receipts
        .iter()
        .enumerate()
        .map(|(at, receipt)| follow(cli, at, receipt, sender.clone()));
    let followers = try_join_all(followers);
    drop(sender);
    let screen = async {
        let mut texts = vec![String::new(); receipts.len()];
        let mut columns = Columns::new(receipts.len());
        while let Some((at, event)) = events.recv().await {
            show(&mut columns, at, event.as_ref(), &mut texts[at]);
        }
        texts
    };
    let (followed, texts) = tokio::join!(followers, screen);
    followed?;
    Ok(texts)
}

async fn follow(
    cli: &Cli,
    at: usize,
    receipt: &Value,
    events: mpsc::Sender<(usize, Option<Event>)>,
) -> anyhow::Result<()> {
    let task = receipt["task_id"].as_str().context("the receipt names no task")?;
    let mut stream = cli.stream(task)?;
    loop {
        let event = stream.next().await?;
        let ended = event.is_none();
        events.send((at, event)).await.context("the screen is gone")?;
        if ended {
            return Ok(());
        }
    }
}

fn show(columns: &mut Columns, at: usize, event: Option<&Event>, text: &mut String) {
    let rows = match event {
        None => columns.end(at),
        Some(Event { event, data }) => match event.as_str() {
            "token" => {
                let token = data["t"].as_str().unwrap_or_default();
                text.push_str(token);
                columns.push(at, token)
            }
            "narration" => {
                println!(
                    "{STORY}  ▸ {}: {}{STORY:#}",
                    ACTS[at].title,
                    data["human"].as_str().unwrap_or_default()
                );
                Vec::new()
            }
            "metrics" if data["phase"] == "queued" => {
                println!("{QUIET}  · {}: {}{QUIET:#}", ACTS[at].title, waiting(data));
                Vec::new()
            }
            _ => Vec::new(),
        },
    };
    for row in rows {
        println!("{row}");
    }
}

fn waiting(data: &Value) -> String {
    let start = data["predicted_start_ms"].as_u64();
    let start = start.map_or_else(
        || "its start is not known yet".to_owned(),
        |ms| format!("start in about {ms} ms"),
    );
    format!("waits, {} ahead, {start}", data["queue_position"])
}

/// The demo must never pass canned words off as inference.
fn check_disclaimer(real: bool, texts: &[String]) -> anyhow::Result<()> {
    for text in texts {
        ensure!(!text.is_empty(), "a stream held no text");
        ensure!(
            real || text.contains("scripted engine: no inference"),
            "the scripted engine does not say what it is"
        );
    }
    Ok(())
}

async fn show_receipts(cli: &Cli, receipts: &[Value]) -> anyhow::Result<()> {
    title("What is on record of each (GET /v1/tasks/{id})");
    for (act, receipt) in ACTS.iter().zip(receipts) {
        let task = receipt["task_id"].as_str().context("the receipt names no task")?;
        let status = cli.json(&["task", "show", task]).await?;
        ensure!(
            status["state"] == "completed",
            "the {} task ended as {}",
            act.title,
            status["state"]
        );
        println!("  {}: {status}", act.title);
    }
    Ok(())
}

async fn wait_for_interrupt(system: &System) -> anyhow::Result<()> {
    let url = system.orchestrator.base_url();
    title("Everything is running. Try in another terminal");
    println!("  export ORCHD_URL={url}");
    println!("  target/debug/llama-orch run {MODEL} \"hello\"        (Ctrl-C cancels it)");
    println!("  target/debug/llama-orch pools");
    println!("  curl {url}/v1/capabilities");
    println!(
        "  curl -H 'content-type: application/json' -d '{{\"model_ref\":\"{MODEL}\",\"prompt\":\"hi\"}}' {url}/v1/tasks"
    );
    println!("  curl {url}/metrics");
    println!("Ctrl-C here stops it.");
    tokio::signal::ctrl_c().await.context("Ctrl-C cannot be awaited")
}

/// SIGTERM to both daemons; both must end well.
async fn stop(system: System) -> anyhow::Result<()> {
    title("Stopping");
    let logs = system.logs();
    let stopped = system
        .stop()
        .await
        .with_context(|| format!("the daemons said:\n{logs}"))?;
    println!(
        "  orchestratord: {}; pool-managerd: {}",
        stopped.orchestrator, stopped.node
    );
    ensure!(
        stopped.orchestrator.success() && stopped.node.success(),
        "a daemon did not stop cleanly"
    );
    Ok(())
}

fn title(text: &str) {
    println!("\n{TITLE}{text}{TITLE:#}");
}
