//! Why an engine ended: from its exit status, what the kernel says about memory, and its last lines. Pure,
//! except for [`oom_kills`], which reads `/proc/vmstat`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use api_types::pool::UnreadyCause;

use super::shim::REFUSAL;

/// How many of the last lines are searched and quoted from. A failing load of llama.cpp writes fewer than
/// twenty.
pub const EVIDENCE_LINES: usize = 60;

/// How many lines are quoted.
const QUOTED_LINES: usize = 6;

/// What a shell makes of a child that was killed by signal 9; launchers pass it on.
const KILLED_UNDER_A_SHELL: i32 = 128 + 9;

/// The end of an engine, in terms an operator and the restart policy can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The class.
    pub cause: UnreadyCause,
    /// `exit code 1`, `signal 6 (SIGABRT)`.
    pub how: String,
    /// The lines that say why, redacted; absent when the engine wrote nothing.
    pub last_error: Option<String>,
}

/// Puts an end into its class. `lines` are the last lines, oldest first; `oom_kills` tells whether the kernel
/// killed any process for memory since the engine's start, where that is known.
#[must_use]
pub fn classify(status: ExitStatus, lines: &[String], oom_killed: Option<bool>) -> Ending {
    let told = EVIDENCE
        .iter()
        .find(|(_, words)| lines.iter().any(|line| holds_all(line, words)));
    Ending {
        cause: told.map_or_else(|| by_status(status, oom_killed), |(cause, _)| *cause),
        how: describe(status),
        last_error: quote(lines),
    }
}

/// First match wins: an engine that runs out of GPU memory also says that it could not load the model. The
/// words are llama.cpp's (common/arg.cpp, ggml-cuda, gguf.cpp, server-http.cpp), all of a row in one line.
const EVIDENCE: &[(UnreadyCause, &[&str])] = &[
    (UnreadyCause::EngineMissing, &[REFUSAL]),
    (UnreadyCause::PortTaken, &["couldn't bind HTTP server socket"]),
    (UnreadyCause::VramOom, &["cudaMalloc failed", "out of memory"]),
    (UnreadyCause::VramOom, &["CUDA error", "out of memory"]),
    (UnreadyCause::VramOom, &["failed to allocate CUDA"]),
    (UnreadyCause::VramOom, &["unable to allocate CUDA"]),
    (UnreadyCause::DeviceMissing, &["invalid device: CUDA"]),
    (UnreadyCause::GpuError, &["failed to initialize CUDA"]),
    (UnreadyCause::GpuError, &["CUDA error"]),
    (
        UnreadyCause::ModelMissing,
        &["failed to open GGUF file", "No such file"],
    ),
    (UnreadyCause::BadModel, &["failed to open GGUF file"]),
    (UnreadyCause::BadModel, &["invalid magic characters"]),
    (UnreadyCause::BadModel, &["model is corrupted or incomplete"]),
    (UnreadyCause::BadModel, &["error loading model"]),
    (UnreadyCause::BadModel, &["exiting due to model loading error"]),
];

fn holds_all(line: &str, words: &[&str]) -> bool {
    words.iter().all(|word| line.contains(word))
}

/// Without words of the engine's own. Signal 9 with no process killed for memory came from a person or
/// another program.
fn by_status(status: ExitStatus, oom_killed: Option<bool>) -> UnreadyCause {
    let killed = status.signal() == Some(9) && oom_killed != Some(false);
    if killed || status.code() == Some(KILLED_UNDER_A_SHELL) {
        UnreadyCause::HostOom
    } else {
        UnreadyCause::EngineExited
    }
}

/// `exit code 1`, `signal 6 (SIGABRT)`.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("signal {signal} ({name})"),
            None => format!("signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}

const fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// The last lines that report trouble; the last lines at all when none does.
#[must_use]
pub fn quote(lines: &[String]) -> Option<String> {
    let trouble: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| reports_trouble(line))
        .collect();
    let all: Vec<&str> = lines.iter().map(String::as_str).collect();
    let chosen = if trouble.is_empty() { all } else { trouble };
    let last = &chosen[chosen.len().saturating_sub(QUOTED_LINES)..];
    (!last.is_empty()).then(|| last.join("\n"))
}

/// llama.cpp's error level (`0.00.005.490 E srv …`), or a word that libraries and runtimes use when they give
/// up.
fn reports_trouble(line: &str) -> bool {
    const WORDS: [&str; 9] = [
        "error",
        "failed",
        "fatal",
        "abort",
        "assert",
        "exception",
        "out of memory",
        "couldn't",
        "panic",
    ];
    let level = line.split_ascii_whitespace().nth(1);
    let lower = line.to_ascii_lowercase();
    level == Some("E") || WORDS.iter().any(|word| lower.contains(word))
}

/// How many processes the kernel has killed for memory since boot; `None` where it does not say.
#[must_use]
pub fn oom_kills() -> Option<u64> {
    let table = fs::read_to_string("/proc/vmstat").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn signal(number: i32) -> ExitStatus {
        ExitStatus::from_raw(number)
    }

    fn classified(status: ExitStatus, text: &str) -> UnreadyCause {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        classify(status, &lines, Some(false)).cause
    }

    #[test]
    fn the_engines_words_decide_whatever_the_status() {
        use UnreadyCause as C;
        let table = [
            (
                C::PortTaken,
                "E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 18082\nE srv llama_server: exiting due to HTTP server error",
            ),
            (
                C::VramOom,
                "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9000.00 MiB on device 0: cudaMalloc failed: out of memory\nE srv llama_server: exiting due to model loading error",
            ),
            (C::VramOom, "CUDA error: out of memory"),
            (
                C::VramOom,
                "alloc_tensor_range: failed to allocate CUDA0 buffer of size 123",
            ),
            (
                C::VramOom,
                "E llama_model_load: error loading model: unable to allocate CUDA0 buffer",
            ),
            (
                C::DeviceMissing,
                "error while handling argument \"-dev\": invalid device: CUDA0",
            ),
            (
                C::GpuError,
                "ggml_cuda_init: failed to initialize CUDA: unknown error",
            ),
            (
                C::GpuError,
                "CUDA error: an illegal memory access was encountered",
            ),
            (
                C::ModelMissing,
                "E gguf_init_from_file: failed to open GGUF file '/nope.gguf' (No such file or directory)\nE srv llama_server: exiting due to model loading error",
            ),
            (
                C::BadModel,
                "E gguf_init_from_reader: invalid magic characters: '??;[', expected 'GGUF'",
            ),
            (
                C::BadModel,
                "E llama_model_load: error loading model: tensor 'token_embd.weight' data is not within the file bounds, model is corrupted or incomplete",
            ),
            (C::EngineExited, "error: invalid argument: --no-such-flag"),
        ];
        for (cause, text) in table {
            for status in [exit(1), signal(6), signal(9)] {
                let expected = if cause == C::EngineExited && status.signal() == Some(9) {
                    C::EngineExited
                } else {
                    cause
                };
                assert_eq!(classified(status, text), expected, "{text}");
            }
        }
    }

    #[test]
    fn silence_is_judged_by_the_status_and_the_kernel() {
        let of = |status, oom| classify(status, &[], oom).cause;
        assert_eq!(of(exit(137), Some(false)), UnreadyCause::HostOom);
        assert_eq!(of(signal(9), Some(true)), UnreadyCause::HostOom);
        assert_eq!(of(signal(9), None), UnreadyCause::HostOom);
        assert_eq!(of(signal(9), Some(false)), UnreadyCause::EngineExited);
        assert_eq!(of(signal(11), Some(true)), UnreadyCause::EngineExited);
        assert_eq!(of(exit(0), None), UnreadyCause::EngineExited);
    }

    #[test]
    fn ends_are_described() {
        assert_eq!(describe(exit(1)), "exit code 1");
        assert_eq!(describe(signal(6)), "signal 6 (SIGABRT)");
        assert_eq!(describe(signal(64)), "signal 64");
    }

    #[test]
    fn quotes_prefer_the_lines_that_report_trouble() {
        let lines: Vec<String> = [
            "0.00.000.957 I srv  llama_server: initializing ...",
            "0.00.005.490 E srv    load_model: no luck, '/nope.gguf'",
            "0.00.005.542 I srv    operator(): cleaning up before exit...",
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(quote(&lines).as_deref(), Some(lines[1].as_str()));
        assert_eq!(quote(&lines[..1]).as_deref(), Some(lines[0].as_str()));
        assert_eq!(quote(&[]), None);
    }

    #[test]
    fn the_kernel_counts_its_kills() {
        assert!(oom_kills().is_some());
    }
}
