//! Reading the segments after a start.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::frame::{self, Next};
use super::{Place, Segment};
use crate::catalog::Catalog;

pub(super) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.pack"))
}

pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".pack")?.parse().ok());
        numbers.extend::<Option<u64>>(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads one segment into the catalog and cuts off its torn end.
pub(super) fn recover(path: &Path, number: u64, catalog: &mut Catalog<Place>) -> io::Result<Segment> {
    let bytes = fs::read(path)?;
    let mut segment = Segment {
        number,
        ..Segment::default()
    };
    let mut at = 0;
    loop {
        match frame::next(&bytes[at..]) {
            Next::Frame(frame) => {
                segment.traces.push(frame.meta.seq);
                let place = Place {
                    segment: number,
                    at: (at + frame.content.start) as u64,
                    len: frame.content.len(),
                };
                at += frame.content.end;
                catalog.insert(frame.meta, place);
            }
            Next::Empty => break,
            Next::Torn => {
                let lost = bytes.len() - at;
                tracing::warn!(
                    segment = number,
                    lost,
                    "a segment of traces has a torn end, which is cut off"
                );
                OpenOptions::new().write(true).open(path)?.set_len(at as u64)?;
                break;
            }
        }
    }
    segment.size = at as u64;
    Ok(segment)
}
