//! llama-server's command line: the flags that it knows, what they set here, and its way of refusing
//! the others. Flags that change nothing in a scripted engine are accepted and dropped.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Serve.
    Run(Box<Launch>),
    /// Print the version.
    Version,
    /// Print the devices.
    ListDevices(Box<Launch>),
}

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// `-m`; absent in tests that run the engine inside their own process.
    pub model: Option<PathBuf>,
    /// `-a`: what `/v1/models` reports; the model's file name without it.
    pub alias: Option<String>,
    /// `--host`.
    pub host: String,
    /// `--port`; 0 takes a free one.
    pub port: u16,
    /// `-c`: tokens of context over all slots; 0 is the model's own length.
    pub ctx: u32,
    /// `-np`; absent: 4 slots that share one context.
    pub parallel: Option<usize>,
    /// `-kvu`, `--no-kv-unified`.
    pub kv_unified: Option<bool>,
    /// `-dev`.
    pub devices: Vec<String>,
    /// `--api-key`, `--api-key-file`, `LLAMA_API_KEY`.
    pub api_keys: Vec<String>,
    /// `--embeddings`: vectors are served.
    pub embeddings: bool,
    /// `--reranking`: scores are served.
    pub reranking: bool,
    /// `--pooling none`: no vector for a text as a whole.
    pub no_pooling: bool,
    /// `-ub`: the most tokens of an input that is embedded or scored.
    pub ubatch: u32,
    /// `--metrics`.
    pub metrics: bool,
    /// `--slots`, `--no-slots`.
    pub slots: bool,
    /// `--props`.
    pub props: bool,
    /// `--sse-ping-interval`, seconds; negative is never.
    pub ping_interval_s: i64,
    /// `-lv`; 0 is silence.
    pub verbosity: u8,
    /// `--script`, not a flag of llama-server.
    pub script: Option<PathBuf>,
    /// `--runtime current|multi`, not a flag of llama-server.
    pub runtime: Runtime,
}

/// Which runtime serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// One thread: least CPU per token.
    #[default]
    Current,
    /// A thread per core.
    Multi,
}

impl Default for Launch {
    /// llama-server's defaults, except that nothing is logged and that a free port is taken: right
    /// for an engine inside a test's process.
    fn default() -> Self {
        Self {
            model: None,
            alias: None,
            host: "127.0.0.1".to_owned(),
            port: 0,
            ctx: 0,
            parallel: None,
            kv_unified: None,
            devices: Vec::new(),
            api_keys: Vec::new(),
            embeddings: false,
            reranking: false,
            no_pooling: false,
            ubatch: 512,
            metrics: false,
            slots: true,
            props: false,
            ping_interval_s: 30,
            verbosity: 0,
            script: None,
            runtime: Runtime::Current,
        }
    }
}

/// A command line that llama-server would refuse (exit code 1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// No such flag.
    #[error("error: invalid argument: {0}")]
    Unknown(String),
    /// The flag's value cannot be used.
    #[error(
        "error while handling argument \"{flag}\": {reason}\nusage:\n{flag}\nto show complete usage, run with -h"
    )]
    Value {
        /// The flag as written.
        flag: String,
        /// The real server's wording.
        reason: String,
    },
}

/// Flags with a value that change nothing here.
#[rustfmt::skip]
const IGNORED_WITH_VALUE: &[&str] = &[
    "-ngl", "--gpu-layers", "--n-gpu-layers", "--fit", "-fit", "-fitt", "--fit-target", "-fitc",
    "--fit-ctx", "-fa", "--flash-attn", "--log-colors", "--slot-save-path", "-b", "--batch-size", "-sm", "--split-mode", "-mg", "--main-gpu", "-ts", "--tensor-split", "-ctk",
    "--cache-type-k", "-ctv", "--cache-type-v", "--cache-reuse", "-cram", "--cache-ram", "-sps",
    "--slot-prompt-similarity", "-to", "--timeout", "--threads-http", "-t", "--threads", "-tb",
    "--threads-batch", "-s", "--seed", "--temp", "--top-k", "--top-p", "--min-p", "-n", "--predict",
    "--reasoning-format", "--chat-template", "--log-file", "--sleep-idle-seconds", "--lora", "--load-mode",
    "--keep",
];

/// Flags without a value that change nothing here.
#[rustfmt::skip]
const IGNORED: &[&str] = &[
    "--no-ui", "--no-webui", "--ui", "--webui", "--offline", "--log-jsonl", "--log-timestamps",
    "--log-prefix", "-cb", "--cont-batching", "-nocb", "--no-cont-batching", "--cache-prompt",
    "--no-cache-prompt", "--jinja", "--no-jinja", "--no-warmup", "--warmup", "--mlock", "--no-mmap",
    "--context-shift", "--no-context-shift", "--no-perf", "--cache-idle-slots",
];

impl Launch {
    /// Reads arguments (without the program's name).
    ///
    /// # Errors
    /// What llama-server would refuse, with its message.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Action, CommandLineError> {
        let mut arguments: VecDeque<String> = arguments.into_iter().collect();
        let mut launch = Self {
            port: 8080,
            verbosity: 3,
            ..Self::default()
        };
        let mut list_devices = false;
        while let Some(flag) = arguments.pop_front() {
            match flag.as_str() {
                "--version" => return Ok(Action::Version),
                "--list-devices" => list_devices = true,
                known if IGNORED.contains(&known) => {}
                known if IGNORED_WITH_VALUE.contains(&known) => drop(value(&flag, &mut arguments)?),
                _ if launch.switch(&flag) => {}
                _ => launch.set(&flag, &mut arguments)?,
            }
        }
        let launch = Box::new(launch);
        Ok(if list_devices {
            Action::ListDevices(launch)
        } else {
            Action::Run(launch)
        })
    }

    /// Flags without a value; `false` when this is none.
    fn switch(&mut self, flag: &str) -> bool {
        match flag {
            "--embedding" | "--embeddings" => self.embeddings = true,
            // As in the real server, scores come from the machinery of vectors.
            "--rerank" | "--reranking" => (self.embeddings, self.reranking) = (true, true),
            "--metrics" => self.metrics = true,
            "--slots" => self.slots = true,
            "--no-slots" => self.slots = false,
            "--props" => self.props = true,
            "-kvu" | "--kv-unified" => self.kv_unified = Some(true),
            "-no-kvu" | "--no-kv-unified" => self.kv_unified = Some(false),
            _ => return false,
        }
        true
    }

    /// Flags with a value.
    fn set(&mut self, flag: &str, arguments: &mut VecDeque<String>) -> Result<(), CommandLineError> {
        let mut text = || value(flag, arguments);
        match flag {
            "-m" | "--model" => self.model = Some(text()?.into()),
            "-a" | "--alias" => self.alias = Some(text()?),
            "--host" => self.host = text()?,
            "--port" => self.port = number(flag, &text()?)?,
            "-c" | "--ctx-size" => self.ctx = number(flag, &text()?)?,
            "--pooling" => self.no_pooling = text()? == "none",
            "-ub" | "--ubatch-size" => self.ubatch = number(flag, &text()?)?,
            "-np" | "--parallel" => self.parallel = slots_of(number(flag, &text()?)?),
            "-dev" | "--device" => self.devices = text()?.split(',').map(str::to_owned).collect(),
            "--api-key" => self.api_keys.extend(text()?.split(',').map(str::to_owned)),
            "--api-key-file" => self.api_keys.extend(keys_in(flag, &text()?)?),
            "--sse-ping-interval" => self.ping_interval_s = number(flag, &text()?)?,
            "-lv" | "--verbosity" | "--log-verbosity" => self.verbosity = number(flag, &text()?)?,
            "--script" => self.script = Some(text()?.into()),
            "--runtime" => self.runtime = runtime(flag, &text()?)?,
            unknown => return Err(CommandLineError::Unknown(unknown.to_owned())),
        }
        Ok(())
    }

    /// The number of slots.
    pub fn slot_count(&self) -> usize {
        self.parallel.unwrap_or(4)
    }

    /// Tokens of context of one slot, for a model trained with `n_ctx_train`: the share rounded up
    /// to 256, never more than the model's own length.
    pub fn slot_ctx(&self, n_ctx_train: u32) -> u32 {
        let total = if self.ctx == 0 { n_ctx_train } else { self.ctx };
        let slots = u32::try_from(self.slot_count()).unwrap_or(u32::MAX).max(1);
        let share = if self.shares_context() {
            total
        } else {
            total.div_ceil(slots)
        };
        share.next_multiple_of(256).min(n_ctx_train)
    }

    /// Whether all slots share one context: as told, else when the number of slots is automatic.
    pub fn shares_context(&self) -> bool {
        self.kv_unified.unwrap_or_else(|| self.parallel.is_none())
    }

    /// What the model calls itself.
    pub fn model_name(&self) -> String {
        let file = self.model.as_deref().and_then(|path| path.file_name());
        let file = file.map(|name| name.to_string_lossy().into_owned());
        self.alias
            .clone()
            .or(file)
            .unwrap_or_else(|| "scripted".to_owned())
    }
}

fn value(flag: &str, arguments: &mut VecDeque<String>) -> Result<String, CommandLineError> {
    arguments
        .pop_front()
        .ok_or_else(|| refused(flag, "expected value for argument"))
}

/// The real server names the C++ function that could not convert.
fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T, CommandLineError> {
    text.parse().map_err(|_| refused(flag, "stoi"))
}

/// `-np -1` is the automatic number.
fn slots_of(number: i64) -> Option<usize> {
    usize::try_from(number).ok().filter(|count| *count > 0)
}

fn keys_in(flag: &str, path: &str) -> Result<Vec<String>, CommandLineError> {
    let text = fs::read_to_string(path)
        .map_err(|_| refused(flag, &format!("error: failed to open file '{path}'")))?;
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

fn runtime(flag: &str, text: &str) -> Result<Runtime, CommandLineError> {
    match text {
        "current" => Ok(Runtime::Current),
        "multi" => Ok(Runtime::Multi),
        _ => Err(refused(flag, "expected current or multi")),
    }
}

fn refused(flag: &str, reason: &str) -> CommandLineError {
    CommandLineError::Value {
        flag: flag.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Action, CommandLineError> {
        Launch::parse(line.split_whitespace().map(str::to_owned))
    }

    fn launch(line: &str) -> Launch {
        let Ok(Action::Run(launch)) = parse(line) else {
            panic!("not a launch: {line}")
        };
        *launch
    }

    #[test]
    fn the_line_that_pool_managers_use_is_understood() {
        let launch = launch(
            "-m /models/x.gguf -a m --host 127.0.0.1 --port 9 -c 4096 -np 2 --no-kv-unified -dev CUDA0 -ngl all \
             --fit off -fa on -lv 4 --metrics --slots --no-ui --log-colors off --slot-save-path /tmp --offline",
        );
        assert_eq!(
            (launch.port, launch.slot_count(), launch.slot_ctx(32_768)),
            (9, 2, 2048)
        );
        assert_eq!(
            (launch.model_name().as_str(), launch.verbosity, launch.metrics),
            ("m", 4, true)
        );
        assert_eq!(launch.devices, ["CUDA0"]);
    }

    #[test]
    fn a_slots_context_is_its_share_rounded_up_and_capped() {
        assert_eq!(launch("-c 1000 -np 3").slot_ctx(32_768), 512);
        assert_eq!(launch("-c 0 -np 1").slot_ctx(2048), 2048);
        assert_eq!(launch("-c 100000 -np 1").slot_ctx(2048), 2048);
        assert_eq!(
            launch("-c 1024").slot_ctx(32_768),
            1024,
            "automatic slots share the context"
        );
    }

    #[test]
    fn refusals_read_like_the_real_ones() {
        assert_eq!(
            parse("--no-such-flag").unwrap_err().to_string(),
            "error: invalid argument: --no-such-flag"
        );
        let message = parse("--port notanumber").unwrap_err().to_string();
        assert!(
            message.starts_with("error while handling argument \"--port\": stoi\nusage:\n"),
            "{message}"
        );
        assert!(
            parse("--port")
                .unwrap_err()
                .to_string()
                .contains("expected value for argument")
        );
    }
}
