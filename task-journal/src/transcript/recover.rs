//! Reading the segments after a start: each task's texts as the last life that wrote them left them.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use api_types::{TaskEvent, TaskId, TokenKind};

use super::frame::{self, Content, Frame, Next};
use crate::record::RunRecord;

/// What a task has said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transcript {
    /// Its tokens by index.
    pub tokens: Vec<(TokenKind, String)>,
    /// Tokens as the engine counted them.
    pub generated: u32,
    /// The life that wrote last.
    pub epoch: u32,
    /// What it ran on last.
    pub run: Option<RunRecord>,
    /// Its terminal event, and whether texts were withheld at it.
    pub end: Option<(TaskEvent, bool)>,
    /// Whether texts in the middle are missing: what came after them is left out.
    pub gap: bool,
}

pub(super) struct Recovered {
    /// Number and size of each segment, oldest first.
    pub(super) segments: Vec<(u64, u64)>,
    pub(super) transcripts: HashMap<TaskId, Transcript>,
    /// The oldest segment that each task needs.
    pub(super) needed: HashMap<TaskId, u64>,
}

pub(super) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.seg"))
}

pub(super) fn recover(folder: &Path, wanted: impl Fn(&TaskId) -> bool) -> io::Result<Recovered> {
    let mut recovered = Recovered {
        segments: Vec::new(),
        transcripts: HashMap::new(),
        needed: HashMap::new(),
    };
    for number in numbers(folder)? {
        let size = recovered.segment(&path_of(folder, number), number, &wanted)?;
        recovered.segments.push((number, size));
    }
    Ok(recovered)
}

fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".seg")?.parse().ok());
        numbers.extend::<Option<u64>>(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Recovered {
    /// Reads one segment, cuts off its torn end, tells its size.
    fn segment(&mut self, path: &Path, number: u64, wanted: &impl Fn(&TaskId) -> bool) -> io::Result<u64> {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        let mut at = 0;
        loop {
            match frame::next(&bytes[at..]) {
                Next::Frame(frame, taken) => {
                    at += taken;
                    if wanted(&frame.task) {
                        self.needed.entry(frame.task).or_insert(number);
                        self.transcripts.entry(frame.task).or_default().take(frame);
                    }
                }
                Next::Empty => return Ok(at as u64),
                Next::Torn => break,
            }
        }
        let lost = bytes.len() - at;
        tracing::warn!(
            segment = number,
            lost,
            "a transcript segment has a torn end, which is cut off"
        );
        OpenOptions::new().write(true).open(path)?.set_len(at as u64)?;
        Ok(at as u64)
    }
}

impl Transcript {
    /// Its text as one.
    #[must_use]
    pub fn text(&self) -> String {
        self.tokens.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// A later life begins with what survived of the one before, so its first frame says where.
    fn take(&mut self, frame: Frame) {
        self.epoch = self.epoch.max(frame.epoch);
        match frame.content {
            Content::Tokens {
                first,
                generated,
                tokens,
            } => {
                let first = usize::try_from(first).unwrap_or(usize::MAX);
                if first > self.tokens.len() {
                    self.gap = true;
                    return;
                }
                self.gap = false;
                self.tokens.truncate(first);
                self.tokens.extend(tokens);
                self.generated = generated;
                self.end = None;
            }
            Content::End { event, cut } => self.end = Some((*event, cut)),
            Content::Run(run) => self.run = Some(*run),
        }
    }
}
