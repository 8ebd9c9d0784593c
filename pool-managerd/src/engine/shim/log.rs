//! The log of one start: two files of bounded size that the shim fills and anybody with the right to the folder
//! reads. What is in them is clean: no control characters, no credentials.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use container_runtime::Redaction;
use http_util::redact::redact;
use owned_folder::PRIVATE_FILE;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::Instant;

use crate::engine::lines::Intake;

/// One read of a pipe; a pipe of the kernel holds 64 KiB.
const CHUNK_BYTES: usize = 8 << 10;

/// How much of an engine's output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes of one of the two files; the kept output is at least one and at most two of them.
    pub file_bytes: u64,
}

/// Where the log of one start is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFiles {
    current: PathBuf,
    older: PathBuf,
}

impl LogFiles {
    /// In the folder of its replica.
    #[must_use]
    pub fn new(dir: &Path, generation: u64) -> Self {
        Self {
            current: dir.join(format!("{generation}.log")),
            older: dir.join(format!("{generation}.log.older")),
        }
    }

    /// The last `count` lines, oldest first. Blocking; reads what the log holds at most.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        // What cannot be read says nothing: the start may just have begun, or been forgotten.
        let of = |path: &Path| fs::read(path).unwrap_or_default();
        let (older, current) = (of(&self.older), of(&self.current));
        let text = [older, current].concat();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let skip = lines.len().saturating_sub(count);
        lines[skip..].iter().map(|line| (*line).to_owned()).collect()
    }

    /// A reader of what is written from now on, after the last `tail` lines. Blocking.
    #[must_use]
    pub fn follow(&self, tail: usize) -> Follow {
        // The place is taken first: a line that is written between the two is read twice rather than never.
        let place = Place::end_of(&self.current);
        Follow {
            files: self.clone(),
            place,
            pending: self.tail(tail).iter().flat_map(|line| [line, "\n"]).collect(),
        }
    }

    /// Takes the log away.
    pub fn remove(&self) {
        for path in [&self.current, &self.older] {
            // What cannot be removed is overwritten by the next start of that number, or stays and hurts nobody.
            let _removed_or_not_there = fs::remove_file(path);
        }
    }
}

/// Reads a log while it is written.
#[derive(Debug)]
pub struct Follow {
    files: LogFiles,
    place: Option<Place>,
    pending: String,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    inode: u64,
    offset: u64,
}

impl Place {
    fn end_of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            inode: meta.ino(),
            offset: meta.len(),
        })
    }
}

impl Follow {
    /// What is new, whole lines; empty when nothing is. Blocking.
    ///
    /// # Errors
    /// The operating system's.
    pub fn more(&mut self) -> io::Result<String> {
        let mut text = std::mem::take(&mut self.pending);
        let Some(mut current) = found(&self.files.current)? else {
            return Ok(text);
        };
        let inode = current.metadata()?.ino();
        let before = self.place.unwrap_or(Place { inode, offset: 0 });
        let mut offset = before.offset;
        if before.inode != inode {
            // Turned over since: the rest of the file that was current then comes first.
            if let Some(mut older) = found(&self.files.older)?
                && older.metadata()?.ino() == before.inode
            {
                read_lines(&mut older, offset, &mut text)?;
            }
            offset = 0;
        }
        let offset = offset + read_lines(&mut current, offset, &mut text)?;
        self.place = Some(Place { inode, offset });
        Ok(text)
    }
}

fn found(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads whole lines from `offset` on; tells how many bytes they are.
fn read_lines(file: &mut File, offset: u64, text: &mut String) -> io::Result<u64> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.read_to_end(&mut bytes)?;
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    text.push_str(&String::from_utf8_lossy(&bytes[..whole]));
    Ok(whole as u64)
}

/// Fills a log. A log that cannot be written is given up: an engine must never wait for it.
#[derive(Debug)]
pub(super) struct LogWriter {
    files: LogFiles,
    limits: LogLimits,
    redaction: Redaction,
    open: Option<(File, u64)>,
}

impl LogWriter {
    /// Empty. None of the secrets will be in it; those too short to be one are left alone, since replacing them
    /// would tear ordinary words.
    pub(super) fn new(files: LogFiles, limits: LogLimits, secrets: Vec<String>) -> Self {
        let mut writer = Self::closed(files, limits, secrets);
        writer.begin();
        writer
    }

    /// Goes on where another has stopped.
    pub(super) fn resumed(files: LogFiles, limits: LogLimits, secrets: Vec<String>) -> Self {
        let file = OpenOptions::new().append(true).open(&files.current);
        let file = file.and_then(|file| Ok((file.metadata()?.len(), file)));
        match file {
            Ok((written, file)) => Self {
                open: Some((file, written)),
                ..Self::closed(files, limits, secrets)
            },
            Err(_) => Self::new(files, limits, secrets),
        }
    }

    fn closed(files: LogFiles, limits: LogLimits, secrets: Vec<String>) -> Self {
        let secrets = secrets.into_iter().map(SecretString::from);
        Self {
            files,
            limits,
            redaction: Redaction::new(secrets, Some(redact)),
            open: None,
        }
    }

    fn begin(&mut self) {
        let private = || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(PRIVATE_FILE)
                .open(&self.files.current)
        };
        let file = fs::remove_file(&self.files.current)
            .or_else(absent_is_fine)
            .and_then(|()| private());
        self.open = file.ok().map(|file| (file, 0));
    }

    fn write(&mut self, lines: &[String]) {
        let text: String = lines
            .iter()
            .flat_map(|line| [self.redaction.apply(line), "\n".to_owned()])
            .collect();
        let Some((file, written)) = &mut self.open else {
            return;
        };
        if file.write_all(text.as_bytes()).is_err() {
            self.open = None;
            return;
        }
        *written += text.len() as u64;
        if *written >= self.limits.file_bytes {
            self.turn_over();
        }
    }

    fn turn_over(&mut self) {
        match fs::rename(&self.files.current, &self.files.older) {
            Ok(()) => self.begin(),
            Err(_) => self.open = None,
        }
    }
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        return Ok(());
    }
    Err(error)
}

/// Reads a pipe to its end, never slower than the engine writes. A read error is an end.
pub(super) async fn drain(mut pipe: impl AsyncRead + Unpin, log: &std::cell::RefCell<LogWriter>) {
    let mut intake = Intake::new(Instant::now());
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let mut lines = Vec::new();
        intake.feed(Instant::now(), &chunk[..count], &mut |line| lines.push(line));
        if !lines.is_empty() {
            log.borrow_mut().write(&lines);
        }
    }
    let mut lines = Vec::new();
    intake.finish(&mut |line| lines.push(line));
    log.borrow_mut().write(&lines);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    struct Bench {
        dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
            }
        }

        fn files(&self) -> LogFiles {
            LogFiles::new(self.dir.path(), 3)
        }

        fn writer(&self, file_bytes: u64) -> LogWriter {
            let secrets = ["5eC7e7-5eC7e7", "hunter2-hunter2", "1"].map(str::to_owned);
            LogWriter::new(self.files(), LogLimits { file_bytes }, secrets.into())
        }
    }

    fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
        range.map(|number| format!("line {number:04}")).collect()
    }

    #[tokio::test]
    async fn no_credential_is_ever_written() {
        let bench = Bench::new();
        let log = RefCell::new(bench.writer(10_000));
        drain(
            &b"key 5eC7e7-5eC7e7 used\nHUB=hunter2-hunter2\nAuthorization: Bearer abcdef123456\nfine 1\n"[..],
            &log,
        )
        .await;
        let lines = bench.files().tail(10).join("\n");
        assert!(lines.contains("key [redacted] used"), "{lines}");
        for secret in ["5eC7e7", "abcdef123456", "hunter2"] {
            assert!(!lines.contains(secret), "{lines}");
        }
        assert!(lines.ends_with("fine 1"));
    }

    #[test]
    fn the_log_is_bounded_and_keeps_the_newest() {
        let bench = Bench::new();
        let mut writer = bench.writer(200);
        for line in numbered(0..1000) {
            writer.write(&[line]);
        }
        let kept = bench.files().tail(usize::MAX);
        let newest = numbered(0..1000);
        assert_eq!(kept, newest[newest.len() - kept.len()..]);
        assert!(kept.len() >= 20 && kept.len() <= 42, "{}", kept.len());
        assert_eq!(bench.files().tail(2), ["line 0998", "line 0999"]);
        let mode = fs::metadata(&bench.files().current).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    /// Whatever the sizes, a follower that keeps up gets every line once, in order.
    #[test]
    fn a_follower_sees_every_line_across_turns() {
        for step in [1, 3, 7] {
            let bench = Bench::new();
            let mut writer = bench.writer(100);
            writer.write(&numbered(0..4));
            let mut follow = bench.files().follow(2);
            let mut seen = follow.more().unwrap();
            for start in (4..100).step_by(step) {
                writer.write(&numbered(start..(start + step as u32).min(100)));
                seen.push_str(&follow.more().unwrap());
            }
            let seen: Vec<&str> = seen.lines().collect();
            assert_eq!(seen, numbered(2..100), "steps of {step}");
        }
    }

    #[test]
    fn a_log_goes_on_under_another_writer() {
        let bench = Bench::new();
        bench.writer(200).write(&numbered(0..2));
        let secrets = vec!["hunter2-hunter2".to_owned()];
        let mut next = LogWriter::resumed(bench.files(), LogLimits { file_bytes: 200 }, secrets);
        next.write(&["hunter2-hunter2 and 2".to_owned()]);
        assert_eq!(
            bench.files().tail(9),
            ["line 0000", "line 0001", "[redacted] and 2"]
        );
        // The bound counts what was there.
        next.write(&numbered(3..20));
        assert!(fs::metadata(&bench.files().current).unwrap().len() < 200);
    }

    #[test]
    fn a_log_that_is_not_there_is_empty_until_it_is() {
        let bench = Bench::new();
        let mut follow = bench.files().follow(5);
        assert_eq!(follow.more().unwrap(), "");
        bench.writer(100).write(&numbered(0..2));
        assert_eq!(follow.more().unwrap(), "line 0000\nline 0001\n");
        bench.files().remove();
        assert!(bench.files().tail(9).is_empty());
    }
}
