//! What a container wrote, as lines fit to be shown: the last ones, or as they come. Owns the client that reads them.

use std::collections::VecDeque;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{ChildStderr, ChildStdout};

use crate::cli::{Cli, Group};
use crate::error::{Action, Error};
use crate::redaction::{Cut, Redaction};
use crate::text::{Line, Lines, printable};

/// Most lines of a tail.
pub const MAX_TAIL_LINES: u32 = 2_000;

const CHUNK_BYTES: usize = 8 << 10;

/// Where a program wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line without its end, without control characters and credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written.
    pub stream: Stream,
    /// The line; an ellipsis and a number stand for what is beyond 4 KiB.
    pub text: String,
}

/// Lines as they come, until the container ends. Whoever does not read holds up nobody: the runtime keeps what comes,
/// within its bound. Dropping it ends the client.
#[derive(Debug)]
pub struct LogStream {
    client: Group,
    stdout: Source<ChildStdout>,
    stderr: Source<ChildStderr>,
    cli: Cli,
    /// The last line of standard error: the client's own, if it fails.
    last_words: String,
}

impl LogStream {
    pub(crate) fn start(cli: &Cli, args: &[String]) -> Result<Self, Error> {
        let mut command = cli.command(args);
        command.stdin(Stdio::null());
        let mut client = Group::spawn(command).map_err(|error| cli.not_started(error))?;
        let (_, stdout, stderr) = client.take_pipes().map_err(|error| cli.not_started(error))?;
        Ok(Self {
            client,
            stdout: Source::new(stdout),
            stderr: Source::new(stderr),
            cli: cli.clone(),
            last_words: String::new(),
        })
    }

    /// The next line of either stream; `None` when both have ended. Cancel safe.
    pub async fn next(&mut self) -> Option<LogLine> {
        loop {
            if let Some(line) = self.stdout.next_held() {
                return Some(show(Stream::Stdout, &line, &self.cli.redaction));
            }
            if let Some(line) = self.stderr.next_held() {
                let line = show(Stream::Stderr, &line, &self.cli.redaction);
                self.last_words.clone_from(&line.text);
                return Some(line);
            }
            match (self.stdout.is_open(), self.stderr.is_open()) {
                (false, false) => return None,
                (true, true) => tokio::select! {
                    () = self.stdout.fill() => {}
                    () = self.stderr.fill() => {}
                },
                (true, false) => self.stdout.fill().await,
                (false, true) => self.stderr.fill().await,
            }
        }
    }
}

impl LogStream {
    /// All that is left, of which the last lines are kept; then how the client ended.
    pub(crate) async fn rest(&mut self) -> Result<Vec<LogLine>, Error> {
        let mut lines = VecDeque::new();
        while let Some(line) = self.next().await {
            if lines.len() == MAX_TAIL_LINES as usize {
                lines.pop_front();
            }
            lines.push_back(line);
        }
        self.end().await?;
        Ok(lines.into())
    }

    /// How the client ended, after its last line.
    ///
    /// # Errors
    /// It failed; its words were the last lines of standard error.
    pub async fn end(&mut self) -> Result<(), Error> {
        let status = self
            .client
            .wait()
            .await
            .map_err(|error| self.cli.not_started(error))?;
        if status.success() {
            return Ok(());
        }
        Err(self.cli.refused(Action::Logs, status, self.last_words.clone()))
    }
}

/// A pipe with what was read of it and is not a line yet.
#[derive(Debug)]
struct Source<P> {
    pipe: Option<P>,
    chunk: Box<[u8]>,
    unread: std::ops::Range<usize>,
    lines: Lines,
}

impl<P: AsyncRead + Unpin> Source<P> {
    fn new(pipe: P) -> Self {
        Self {
            pipe: Some(pipe),
            chunk: vec![0; CHUNK_BYTES].into(),
            unread: 0..0,
            lines: Lines::default(),
        }
    }

    const fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// A line of what is there; at the end also one without an end of its own.
    fn next_held(&mut self) -> Option<Line> {
        while !self.unread.is_empty() {
            let (taken, line) = self.lines.take(&self.chunk[self.unread.clone()]);
            self.unread.start += taken;
            if line.is_some() {
                return line;
            }
        }
        if self.pipe.is_none() {
            self.lines.finish()
        } else {
            None
        }
    }

    /// Reads more. A read error is an end. Called only when everything read has been handed out.
    async fn fill(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(&mut self.chunk).await {
            Ok(count @ 1..) => self.unread = 0..count,
            Ok(0) | Err(_) => self.pipe = None,
        }
    }
}

fn show(stream: Stream, line: &Line, redaction: &Redaction) -> LogLine {
    let cut = Cut {
        front: false,
        back: line.dropped > 0,
    };
    let mut text = redaction.apply_to_part(&printable(&line.bytes), cut);
    if line.dropped > 0 {
        text.push_str(&format!("… [{} bytes more]", line.dropped));
    }
    LogLine { stream, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::MAX_LINE_BYTES;

    /// REQ-CONTAINER-LOGS, REQ-CONTAINER-SECRETS.
    #[tokio::test]
    async fn lines_are_cut_cleaned_and_redacted() {
        let redaction = Redaction::new(["hunter2-hunter2".into()], None);
        let long = format!("{}hunter2-hunter2", "x".repeat(MAX_LINE_BYTES - 5));
        let text = format!("\x1b[1mkey hunter2-hunter2\x1b[0m\r\n\n{long}\nlast");
        let mut source = Source::new(text.as_bytes());
        let mut lines = Vec::new();
        while source.is_open() {
            source.fill().await;
            while let Some(line) = source.next_held() {
                lines.push(show(Stream::Stderr, &line, &redaction).text);
            }
        }
        assert_eq!(lines[0], "key [redacted]");
        assert!(
            lines[1].ends_with("x[redacted]… [10 bytes more]"),
            "{}",
            &lines[1][4000..]
        );
        assert_eq!(lines[2..], ["last"]);
    }
}
