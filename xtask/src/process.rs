//! Runs other programs: output streamed to this terminal, standard input closed, a failure named by its command line.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::children;

/// How long to wait for the next output line before looking whether the program has ended.
const OUTPUT_POLL: Duration = Duration::from_millis(100);
/// Output lines between the reader and the consumer; more than that and the program waits in its write.
const OUTPUT_LINES: usize = 256;

/// One program to run, with its arguments, directory and additional environment.
#[derive(Debug, Clone)]
pub(crate) struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: PathBuf,
}

impl Cmd {
    /// `program`, looked up on the search path, to be run in `dir`.
    pub(crate) fn new(program: impl Into<OsString>, dir: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: dir.into(),
        }
    }

    /// Appends arguments.
    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets one variable of the program's environment.
    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Shows the command line and runs it on this terminal.
    ///
    /// # Errors
    /// The program cannot be started or does not end with status 0.
    pub(crate) fn run(&self) -> Result<()> {
        println!("$ {self}");
        let mut child = self.spawn(Stdio::inherit())?;
        self.ended_well(children::wait(&mut child)?)
    }

    /// Like [`Cmd::run`], and gives `on_line` each line of standard output as well.
    ///
    /// Returns when the program ends, even if a process that it left behind still holds its output open.
    ///
    /// # Errors
    /// The program cannot be started or does not end with status 0.
    pub(crate) fn run_lines(&self, mut on_line: impl FnMut(&str)) -> Result<()> {
        println!("$ {self}");
        let mut child = self.spawn(Stdio::piped())?;
        let output = child.stdout.take().context("standard output is piped")?;
        let (sender, lines) = sync_channel(OUTPUT_LINES);
        std::thread::spawn(move || forward_lines(output, &sender));
        let status = follow(&mut child, &lines, |line| {
            println!("{line}");
            on_line(line);
        })?;
        self.ended_well(status)
    }

    /// Runs the program and returns what it wrote to standard output.
    ///
    /// # Errors
    /// The program cannot be started, does not end with status 0, or writes something that is not UTF-8.
    pub(crate) fn capture(&self) -> Result<String> {
        let mut child = self.spawn(Stdio::piped())?;
        let mut output = String::new();
        child
            .stdout
            .take()
            .context("standard output is piped")?
            .read_to_string(&mut output)
            .with_context(|| format!("reading the output of `{self}`"))?;
        self.ended_well(children::wait(&mut child)?)?;
        Ok(output)
    }

    /// Runs the program silently; a program that cannot be started counts as [`Probe::Fails`].
    pub(crate) fn probe(&self) -> Probe {
        let child = self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match child.and_then(|mut child| children::wait(&mut child)) {
            Ok(status) if status.success() => Probe::Succeeds,
            _ => Probe::Fails,
        }
    }

    fn spawn(&self, stdout: Stdio) -> Result<Child> {
        self.command()
            .stdout(stdout)
            .spawn()
            .with_context(|| format!("starting `{self}`"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| set_by_cargo_run(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.envs(self.env.iter().cloned());
        command
    }

    fn ended_well(&self, status: ExitStatus) -> Result<()> {
        ensure!(status.success(), "`{self}` ended with {status}");
        Ok(())
    }
}

/// What a silent trial run of a program showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// It ended with status 0.
    Succeeds,
    /// It is missing or ended otherwise.
    Fails,
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{}={} ", name.to_string_lossy(), value.to_string_lossy())?;
        }
        write!(f, "{}", self.program.to_string_lossy())?;
        self.args
            .iter()
            .try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

/// `cargo run` describes xtask's own package in these variables. Build scripts that watch them (ring's does) would
/// otherwise run again, and everything above them compile again, at each change between `cargo` and `cargo xtask`.
fn set_by_cargo_run(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

fn forward_lines(output: impl Read, lines: &SyncSender<String>) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        if lines
            .send(text.trim_end_matches(['\n', '\r']).to_owned())
            .is_err()
        {
            return;
        }
        line.clear();
    }
}

/// Hands over every line until the output is closed, or until the program has ended and stays silent.
fn follow(child: &mut Child, lines: &Receiver<String>, mut on_line: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut ended = None;
    loop {
        match lines.recv_timeout(OUTPUT_POLL) {
            Ok(line) => on_line(&line),
            Err(RecvTimeoutError::Timeout) => match ended {
                Some(status) => return Ok(status),
                None => ended = children::try_wait(child)?,
            },
            Err(RecvTimeoutError::Disconnected) => {
                return ended.map_or_else(|| Ok(children::wait(child)?), Ok);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Cmd {
        Cmd::new("sh", "/").args(["-c", script])
    }

    #[test]
    fn each_line_is_seen_once_and_in_order() {
        let mut seen = Vec::new();
        sh("echo one; echo two; printf three")
            .run_lines(|line| seen.push(line.to_owned()))
            .unwrap();
        assert_eq!(seen, ["one", "two", "three"]);
    }

    #[test]
    fn a_process_that_keeps_the_output_open_does_not_block_the_end() {
        let mut seen = Vec::new();
        let pid_then_end = sh("sleep 60 & echo $!");
        pid_then_end.run_lines(|line| seen.push(line.to_owned())).unwrap();
        assert_eq!(seen.len(), 1, "{seen:?}");
        Cmd::new("kill", "/").args(&seen).run().unwrap();
    }

    #[test]
    fn a_failure_names_the_command_line_and_the_status() {
        let error = sh("exit 3").run().unwrap_err().to_string();
        assert!(
            error.contains("`sh -c exit 3`") && error.contains("status: 3"),
            "{error}"
        );
        assert!(sh("exit 3").capture().is_err());
        assert_eq!(sh("exit 3").probe(), Probe::Fails);
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let missing = Cmd::new("no-such-program-of-ours", "/");
        assert!(
            missing
                .run()
                .unwrap_err()
                .to_string()
                .contains("no-such-program-of-ours")
        );
        assert_eq!(missing.probe(), Probe::Fails);
    }

    #[test]
    fn the_environment_is_extended_and_standard_input_is_closed() {
        let output = sh("cat; echo $COLOUR").env("COLOUR", "blue").capture().unwrap();
        assert_eq!(output, "blue\n");
    }

    #[test]
    fn the_package_that_cargo_run_describes_is_not_passed_on() {
        let names = sh("env").capture().unwrap();
        assert!(!names.lines().any(set_by_cargo_run), "{names}");
    }
}
