//! The only module that writes. Data goes to stdout, byte by byte as given; everything said to a person goes to
//! stderr, coloured only where that is a terminal that wants it.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::Style;
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::args::Global;
use crate::failure::Failure;
use crate::render::failure;
use crate::render::table::Look;

/// What is said beside the data.
const ASIDE: Style = Style::new().dimmed();

/// Back to the start of the line, and the line wiped.
const WIPE_LINE: &str = "\r\x1b[2K";

pub(crate) struct Console {
    json: bool,
    quiet: bool,
    colors: ColorChoice,
    out_is_terminal: bool,
    err_is_terminal: bool,
    /// A status line stands on the terminal and must be wiped before anything else is written.
    status_shown: Cell<bool>,
    /// Data on the terminal has not ended its line.
    mid_line: Cell<bool>,
    /// An aside has not ended its line.
    mid_aside: Cell<bool>,
}

impl Console {
    pub(crate) fn new(global: &Global) -> Self {
        let colors = if global.no_color {
            ColorChoice::Never
        } else {
            ColorChoice::Auto
        };
        Self {
            json: global.json,
            quiet: global.quiet,
            colors,
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal: io::stderr().is_terminal(),
            status_shown: Cell::new(false),
            mid_line: Cell::new(false),
            mid_aside: Cell::new(false),
        }
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// How tables look on stdout.
    pub(crate) fn look(&self) -> Look {
        let colors = match self.colors {
            ColorChoice::Auto => AutoStream::choice(&io::stdout()),
            fixed => fixed,
        };
        match (self.out_is_terminal, colors) {
            (false, _) => Look::Piped,
            (true, ColorChoice::Never) => Look::Plain,
            (true, _) => Look::Coloured,
        }
    }

    /// Data: written as it is and flushed. Waits in a thread of its own, so that a reader that pauses does not keep
    /// Ctrl-C from being noticed.
    pub(crate) async fn out(&self, bytes: Vec<u8>) -> Result<(), Failure> {
        if self.status_shown.get() || self.mid_aside.get() {
            self.err("");
        }
        self.mid_line
            .set(self.out_is_terminal && bytes.last().is_some_and(|&last| last != b'\n'));
        let written = spawn_blocking(move || {
            let mut out = io::stdout().lock();
            out.write_all(&bytes)?;
            out.flush()
        });
        let written = written.await.map_err(io::Error::other).and_then(|done| done);
        written.map_err(Failure::output)
    }

    /// One JSON document.
    pub(crate) async fn document<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let mut bytes =
            serde_json::to_vec_pretty(value).map_err(|e| Failure::io("writing JSON", e.into()))?;
        bytes.push(b'\n');
        self.out(bytes).await
    }

    /// An answer as data: its JSON document, or the text that is made of it.
    pub(crate) async fn show<T: Serialize>(
        &self,
        answer: &T,
        text: impl FnOnce(Look) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            return self.document(answer).await;
        }
        self.out(text(self.look()).into_bytes()).await
    }

    /// A line for people; nothing with `--quiet`.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            self.err(&format!("{ASIDE}{line}{ASIDE:#}\n"));
        }
    }

    /// Text for people that goes on until something else is said; nothing with `--quiet`.
    pub(crate) fn aside(&self, text: &str) {
        if self.quiet {
            return;
        }
        let goes_on = self.mid_aside.replace(false);
        if goes_on {
            let mut err = AutoStream::new(io::stderr().lock(), self.colors);
            let _nobody_to_tell = write!(err, "{ASIDE}{text}{ASIDE:#}").and_then(|()| err.flush());
        } else {
            self.err(&format!("{ASIDE}{text}{ASIDE:#}"));
        }
        self.mid_aside.set(!text.ends_with('\n'));
    }

    /// A line for people that the next output replaces; only on a terminal that can wipe a line.
    pub(crate) fn status(&self, line: &str) {
        if !self.quiet && self.has_status() {
            self.err(line);
            self.status_shown.set(true);
        }
    }

    /// Whether such lines can be shown.
    pub(crate) fn has_status(&self) -> bool {
        let colors = match self.colors {
            ColorChoice::Auto => AutoStream::choice(&io::stderr()),
            fixed => fixed,
        };
        self.err_is_terminal && colors != ColorChoice::Never
    }

    /// Ends what the output leaves unended on a terminal. A pipe gets the bytes of the data and no more.
    pub(crate) fn end_line(&self) {
        self.err("");
    }

    /// Several lines for people that no option silences, the last one ended.
    pub(crate) fn error(&self, text: &str) {
        self.err(text);
    }

    /// A failure, for people and, with `--json`, as the last document of stdout.
    pub(crate) fn failure(&self, failure: &Failure) {
        if matches!(failure, Failure::OutputClosed) {
            return;
        }
        self.err(&failure::human(failure));
        if self.json {
            let document = format!("{}\n", failure::document(failure));
            // The failure itself is told already; its document is all that can get lost here.
            let _lost_to_a_closed_pipe = io::stdout().lock().write_all(document.as_bytes());
        }
    }

    /// Where stderr itself fails there is nobody left to tell.
    fn err(&self, text: &str) {
        let wipe = if self.status_shown.replace(false) {
            WIPE_LINE
        } else {
            ""
        };
        let end = if self.mid_line.replace(false) && self.err_is_terminal {
            "\n"
        } else {
            ""
        };
        let aside = if self.mid_aside.replace(false) { "\n" } else { "" };
        let mut err = AutoStream::new(io::stderr().lock(), self.colors);
        let _nobody_to_tell = write!(err, "{wipe}{end}{aside}{text}").and_then(|()| err.flush());
    }
}
