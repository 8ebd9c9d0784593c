//! One event of `text/event-stream` as the servers measured here write it: `field: value` lines, one `data`. Pure.

use anyhow::{Context as _, Result, bail, ensure};

/// The fields of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    pub(crate) data: &'a str,
}

impl<'a> Event<'a> {
    /// Reads a frame; `None` when it holds only comments.
    ///
    /// # Errors
    /// It is not UTF-8, or a line is none of ours.
    pub(crate) fn parse(frame: &'a [u8]) -> Result<Option<Self>> {
        let text = std::str::from_utf8(frame).context("a frame that is not UTF-8")?;
        let (mut event, mut has_data) = (Self::default(), false);
        for line in text.split('\n').filter(|line| !line.starts_with(':')) {
            match line.split_once(": ") {
                Some(("data", data)) if !has_data => (event.data, has_data) = (data, true),
                Some(("event", name)) if event.name.is_none() => event.name = Some(name),
                Some(("id", id)) if event.id.is_none() => event.id = Some(id),
                _ => bail!("unexpected line {line:?} in an event"),
            }
        }
        ensure!(
            has_data || event == Self::default(),
            "an event without data: {text:?}"
        );
        Ok(has_data.then_some(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_comments() {
        let event = Event::parse(b": hi\nid: 0.3\nevent: token\ndata: {\"t\": \"a: b\"}").unwrap();
        let expected = Event {
            id: Some("0.3"),
            name: Some("token"),
            data: "{\"t\": \"a: b\"}",
        };
        assert_eq!(event, Some(expected));
        assert_eq!(Event::parse(b":").unwrap(), None);
    }

    #[test]
    fn odd_frames_are_refused() {
        for bad in [
            &b"data: a\ndata: b"[..],
            b"event: token",
            b"hello",
            b"data: \xFF",
            b"retry: 5\ndata: a",
        ] {
            assert!(Event::parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
