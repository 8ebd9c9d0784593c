//! The event under construction: what the lines so far have set, and its hand-over at the blank line.

use std::mem;
use std::ops::ControlFlow;
use std::time::Duration;

use super::Event;

/// Capacity that buffers keep between events (16 KiB): more than usual events need, so that these allocate nothing,
/// yet no burden on a stream that once had a large event.
const KEPT_CAPACITY: usize = 16 << 10;

/// Fields of the unfinished event. `id` and `retry` outlive the event, as the standard wants it.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Length of the event's lines so far.
    pub(super) bytes: usize,
    pub(super) data: Vec<u8>,
    /// An empty data line is data too.
    has_data: bool,
    name: Vec<u8>,
    id: Vec<u8>,
    pub(super) retry: Option<Duration>,
}

impl Pending {
    /// Takes a line that lies in the present read. A first data line stays there, in `here`.
    pub(super) fn line<'r>(&mut self, line: &'r [u8], here: &mut Option<&'r [u8]>) {
        self.bytes += line.len();
        match value(line, b"data") {
            Some(data) if here.is_none() && !self.has_data => *here = Some(data),
            Some(data) => {
                self.settle(here);
                self.append(data);
            }
            None => self.field(line),
        }
    }

    /// Takes a line that was kept over reads, and leaves its buffer empty.
    pub(super) fn kept_line(&mut self, line: &mut Vec<u8>) {
        self.bytes += line.len();
        match value(line, b"data") {
            Some(data) if !self.has_data => {
                let prefix = line.len() - data.len();
                mem::swap(&mut self.data, line);
                self.data.drain(..prefix);
                self.has_data = true;
            }
            Some(data) => self.append(data),
            None => self.field(line),
        }
        recycle(line);
    }

    /// Moves data that lies in the present read into the buffer.
    pub(super) fn settle(&mut self, here: &mut Option<&[u8]>) {
        if let Some(data) = here.take() {
            self.append(data);
        }
    }

    /// Ends the event at its blank line. `None` when there was no data, which is no event.
    pub(super) fn dispatch<B>(
        &mut self,
        here: Option<&[u8]>,
        on_event: &mut impl FnMut(Event<'_>) -> ControlFlow<B>,
    ) -> Option<ControlFlow<B>> {
        let data = here.or_else(|| self.has_data.then_some(&self.data));
        let flow = data.map(|data| on_event(self.event(data)));
        self.bytes = 0;
        if mem::take(&mut self.has_data) {
            recycle(&mut self.data);
        }
        if !self.name.is_empty() {
            recycle(&mut self.name);
        }
        flow
    }

    pub(super) fn event<'a>(&'a self, data: &'a [u8]) -> Event<'a> {
        let name = if self.name.is_empty() {
            b"message"
        } else {
            self.name.as_slice()
        };
        Event {
            name,
            data,
            id: &self.id,
        }
    }

    /// Memory held, in bytes.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.data.capacity() + self.name.capacity() + self.id.capacity()
    }

    fn append(&mut self, data: &[u8]) {
        if mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(data);
    }

    fn field(&mut self, line: &[u8]) {
        if let Some(name) = value(line, b"event") {
            overwrite(&mut self.name, name);
        } else if let Some(id) = value(line, b"id") {
            if !id.contains(&0) {
                overwrite(&mut self.id, id);
            }
        } else if let Some(retry) = value(line, b"retry").and_then(milliseconds) {
            self.retry = Some(retry);
        }
    }
}

/// The value of a line that sets the field `name`. One space after the colon belongs to the syntax.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

fn milliseconds(digits: &[u8]) -> Option<Duration> {
    let all_digits = digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(digits).ok().filter(|_| all_digits)?;
    number.parse().ok().map(Duration::from_millis)
}

fn overwrite(buffer: &mut Vec<u8>, with: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(with);
}

pub(super) fn recycle(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT_CAPACITY);
}
