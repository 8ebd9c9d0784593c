//! What an engine wrote: as it is, or a line of JSON a line.

use api_types::link::EngineLog;
use serde_json::json;

use super::text::clean_line;

/// The lines, each ended and free of control characters.
pub(crate) fn text(log: &EngineLog) -> String {
    let lines = log.lines.iter().map(|line| format!("{}\n", clean_line(line)));
    lines.collect()
}

/// Whose lines they are.
pub(crate) fn summary(log: &EngineLog) -> String {
    let (replica, start) = (&log.replica_id, log.generation);
    match &log.exit {
        Some(exit) => format!("{replica}, start {start}, ended: {}", clean_line(exit)),
        None => format!("{replica}, start {start}, runs"),
    }
}

/// Cuts what comes into whole lines.
#[derive(Debug)]
pub(crate) struct Lines {
    json: bool,
    begun: Vec<u8>,
}

impl Lines {
    pub(crate) const fn new(json: bool) -> Self {
        Self {
            json,
            begun: Vec::new(),
        }
    }

    /// The lines that are whole by now. The node bounds how long one may be.
    pub(crate) fn take(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.begun.extend_from_slice(chunk);
        let Some(last) = self.begun.iter().rposition(|&byte| byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.begun.split_off(last + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        self.shown(&whole)
    }

    /// A last line that was not ended.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.begun);
        self.shown(&rest)
    }

    fn shown(&self, lines: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(lines);
        let shown = text.lines().map(|line| match self.json {
            true => format!("{}\n", json!({ "line": line })),
            false => format!("{}\n", clean_line(line)),
        });
        shown.collect::<String>().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: bool, chunks: &[&[u8]]) -> String {
        let mut lines = Lines::new(json);
        let mut bytes: Vec<u8> = chunks.iter().flat_map(|chunk| lines.take(chunk)).collect();
        bytes.extend(lines.rest());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let whole = "one\ntwo ü\nthree\n";
        assert_eq!(shown(false, &["one\ntwo ü\nthree".as_bytes()]), whole);
        let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
        assert_eq!(shown(false, &bytes), whole);
    }

    #[test]
    fn an_engine_does_not_move_the_cursor() {
        assert!(!shown(false, &[b"a\x1b[2Jb\n"]).contains('\x1b'));
        assert_eq!(shown(true, &[b"a\x1b[2Jb\n"]), "{\"line\":\"a\\u001b[2Jb\"}\n");
    }
}
