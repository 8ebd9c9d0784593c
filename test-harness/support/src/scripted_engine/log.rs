//! Log lines on stderr in llama.cpp's form: `0.00.005.490 I srv    load_model: text`.

use std::fmt::Display;
use std::io::Write as _;

use tokio::time::Instant;

/// Severities, with llama.cpp's letters and verbosity levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Error = 1,
    Warning = 2,
    Info = 3,
    /// Shown from `-lv 4` on; the real server marks these lines `I` too.
    Detail = 4,
}

/// Writes lines up to a verbosity.
pub(super) struct Log {
    started: Instant,
    /// 0 is silence.
    verbosity: u8,
}

impl Log {
    pub(super) fn new(started: Instant, verbosity: u8) -> Self {
        Self { started, verbosity }
    }

    /// A line about the server.
    pub(super) fn server(&self, level: Level, function: &str, text: impl Display) {
        self.write(level, format_args!("srv {function:>13.12}: {text}"));
    }

    /// A line about a slot.
    pub(super) fn slot(&self, function: &str, slot: usize, task: u64, text: impl Display) {
        self.write(
            Level::Info,
            format_args!("slot{function:>13.12}: id {slot:>2} | task {task} | {text}"),
        );
    }

    /// A line of the model loader.
    pub(super) fn loader(&self, level: Level, text: impl Display) {
        self.write(level, text);
    }

    /// A line as it is.
    pub(super) fn raw(&self, text: &str) {
        if self.verbosity > 0 {
            put(format_args!("{text}\n"));
        }
    }

    fn write(&self, level: Level, text: impl Display) {
        if level as u8 <= self.verbosity {
            put(format_args!("{} {} {text}\n", stamp(self.started), letter(level)));
        }
    }
}

/// One write per line. When nobody reads stderr any more there is nobody to tell.
fn put(line: std::fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_all(line.to_string().as_bytes());
}

fn letter(level: Level) -> char {
    match level {
        Level::Error => 'E',
        Level::Warning => 'W',
        Level::Info | Level::Detail => 'I',
    }
}

/// Minutes, seconds, milliseconds, microseconds since the start.
fn stamp(started: Instant) -> String {
    let elapsed = started.elapsed();
    let (seconds, micros) = (elapsed.as_secs(), elapsed.subsec_micros());
    format!(
        "{}.{:02}.{:03}.{:03}",
        seconds / 60,
        seconds % 60,
        micros / 1000,
        micros % 1000
    )
}
