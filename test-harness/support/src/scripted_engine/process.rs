//! The engine as a program: start, log, serve, end the way llama-server does. Touches the model file
//! (its first bytes), the script file, the fake NVML's folder, the listening socket, stderr, signals.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::engine::{Death, Engine};
use super::launch::{Action, Launch, Runtime};
use super::log::Level;
use super::residency::declare;
use super::script::{Flood, Script};
use super::server;

/// Names the script file when the command line does not: a supervisor passes llama-server's flags
/// and no others.
pub const SCRIPT_VARIABLE: &str = "SCRIPTED_ENGINE_SCRIPT";

/// Runs the program; the exit codes are llama-server's.
pub fn run(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    match Launch::parse(arguments) {
        Err(refusal) => fail(&refusal),
        Ok(Action::Version) => {
            tell("version: 0.0.0-scripted (build 0, commit scripted)");
            tell("scripted engine: no inference");
            ExitCode::SUCCESS
        }
        Ok(Action::ListDevices(launch)) => script_of(&launch).map_or_else(|e| fail(&e), |s| list_devices(&s)),
        Ok(Action::Run(launch)) => start(*launch),
    }
}

fn start(mut launch: Launch) -> ExitCode {
    launch.api_keys.extend(variable("LLAMA_API_KEY"));
    match script_of(&launch) {
        Ok(script) => serve(launch, script).unwrap_or_else(|error| fail(&error)),
        Err(error) => fail(&error),
    }
}

fn serve(launch: Launch, script: Script) -> anyhow::Result<ExitCode> {
    if let Some(unknown) = launch.devices.iter().find(|name| !script.devices.contains(name)) {
        anyhow::bail!(
            "error while handling argument \"-dev\": invalid device: {unknown}\nusage:\n\
             -dev,  --device <dev1,dev2,..>\nto show complete usage, run with -h"
        );
    }
    let mut builder = match launch.runtime {
        Runtime::Current => tokio::runtime::Builder::new_current_thread(),
        Runtime::Multi => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build().context("cannot start the runtime")?;
    let code = runtime.block_on(live(Engine::new(launch, script)));
    runtime.shutdown_background();
    code
}

/// From the first log line to the last.
async fn live(engine: Arc<Engine>) -> anyhow::Result<ExitCode> {
    announce(&engine);
    let (host, port) = (engine.launch.host.clone(), engine.launch.port);
    let Ok(listener) = TcpListener::bind((host.as_str(), port)).await else {
        let text = format!("couldn't bind HTTP server socket, hostname: {host}, port: {port}");
        engine.log.server(Level::Error, "start", text);
        return Ok(gave_up(&engine, "HTTP server error"));
    };
    let address = listener
        .local_addr()
        .context("a bound socket without an address")?;
    let url = format!("http://{address}");
    tokio::select! {
        () = server::serve(Arc::clone(&engine), listener) => Ok(ExitCode::SUCCESS),
        failed = load(&engine, &url) => Ok(failed),
        death = engine.died() => Ok(end(death)),
        stopped = stop_signal(&engine) => stopped.map(|()| {
            engine.log.server(Level::Info, "operator()", "operator(): cleaning up before exit...");
            ExitCode::SUCCESS
        }),
    }
}

/// Loads the model, then waits for ever; ends only with a failure's exit code.
async fn load(engine: &Engine, url: &str) -> ExitCode {
    if let Some(path) = &engine.launch.model
        && let Err(problem) = check_model(path)
    {
        engine.log.loader(Level::Error, problem);
        engine.log.server(
            Level::Error,
            "load_model",
            format!("failed to load model, '{}'", path.display()),
        );
        return gave_up(engine, "model loading error");
    }
    let model = engine.launch.model.as_deref();
    if let Err(error) = declare(&engine.script().residency, model, false) {
        engine.log.loader(
            Level::Error,
            format_args!("the fake NVML cannot be told: {error}"),
        );
    }
    engine.loaded().await;
    let script = engine.script();
    if let Some(failure) = &script.start_failure {
        engine.log.loader(Level::Error, &failure.message);
        return ExitCode::from(failure.exit_code);
    }
    if let Err(error) = declare(&script.residency, model, true) {
        engine.log.loader(
            Level::Error,
            format_args!("the fake NVML cannot be told: {error}"),
        );
    }
    ready(engine, &script, url);
    std::future::pending().await
}

/// The model must look like one; nothing but its first bytes is read.
fn check_model(path: &Path) -> Result<(), String> {
    let mut magic = [0; 4];
    let mut file = fs::File::open(path).map_err(|error| {
        format!(
            "gguf_init_from_file: failed to open GGUF file '{}' ({error})",
            path.display()
        )
    })?;
    match file.read_exact(&mut magic) {
        Ok(()) if magic == *b"GGUF" => Ok(()),
        _ => Err(format!(
            "gguf_init_from_reader: invalid magic characters: '{}', expected 'GGUF'",
            magic.escape_ascii()
        )),
    }
}

fn announce(engine: &Engine) {
    let script = engine.script();
    for line in &script.stderr_lines {
        engine.log.raw(line);
    }
    let log = &engine.log;
    log.server(Level::Info, "llama_server", "scripted engine: no inference");
    log.server(Level::Info, "llama_server", "initializing ...");
    for (index, device) in engine.launch.devices.iter().enumerate() {
        log.loader(
            Level::Info,
            format_args!("ggml_cuda_init: Device {index}: {device} (scripted)"),
        );
    }
    let model = engine
        .launch
        .model
        .as_deref()
        .unwrap_or_else(|| Path::new("(none)"));
    log.server(
        Level::Info,
        "load_model",
        format!("loading model '{}'", model.display()),
    );
}

/// The lines that supervisors look for, then the script's noise.
fn ready(engine: &Engine, script: &Script, url: &str) {
    let (log, launch) = (&engine.log, &engine.launch);
    let (offloaded, layers) = script.offloaded_layers;
    log.loader(
        Level::Detail,
        format_args!("load_tensors: offloaded {offloaded}/{layers} layers to GPU (scripted)"),
    );
    let text = format!(
        "initializing, n_slots = {}, n_ctx_slot = {}, kv_unified = '{}'",
        launch.slot_count(),
        launch.slot_ctx(script.n_ctx_train),
        launch.shares_context()
    );
    log.server(Level::Info, "load_model", text);
    log.server(Level::Info, "llama_server", "model loaded");
    log.server(Level::Info, "llama_server", format_args!("listening on {url}"));
    if let Some(flood) = script.stderr_flood {
        drop(std::thread::spawn(move || write_flood(flood)));
    }
}

/// Blocks while nobody reads, hence a thread of its own.
fn write_flood(flood: Flood) {
    let mut line = vec![b'#'; flood.line_bytes];
    line.push(b'\n');
    let mut stderr = std::io::stderr().lock();
    let _ = (0..flood.lines).try_for_each(|_| stderr.write_all(&line));
}

async fn stop_signal(engine: &Engine) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        if !engine.script().ignore_sigterm {
            return Ok(());
        }
        engine.log.server(
            Level::Warning,
            "operator()",
            "told to stop, and told by the script not to",
        );
    }
}

fn end(death: Death) -> ExitCode {
    match death {
        Death::Abort => std::process::abort(),
        Death::Exit(code) => ExitCode::from(code),
    }
}

fn gave_up(engine: &Engine, reason: &str) -> ExitCode {
    engine.log.server(
        Level::Info,
        "operator()",
        "operator(): cleaning up before exit...",
    );
    engine.log.server(
        Level::Error,
        "llama_server",
        format_args!("exiting due to {reason}"),
    );
    ExitCode::FAILURE
}

fn script_of(launch: &Launch) -> anyhow::Result<Script> {
    let path = launch
        .script
        .clone()
        .or_else(|| variable(SCRIPT_VARIABLE).map(Into::into));
    let Some(path) = path else {
        return Ok(Script::default());
    };
    let text = fs::read(&path).with_context(|| format!("cannot read the script {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("the script {} is wrong", path.display()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "llama-server's own environment, which supervisors set"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn list_devices(script: &Script) -> ExitCode {
    tell("Available devices:");
    for device in &script.devices {
        tell(&format!(
            "  {device}: scripted (no inference) (0 MiB, 0 MiB free)"
        ));
    }
    ExitCode::SUCCESS
}

/// When stdout is closed there is nobody to tell.
fn tell(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{error:#}");
    ExitCode::FAILURE
}
