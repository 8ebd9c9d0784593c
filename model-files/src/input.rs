//! Reading forward through a header, with every length checked first. Little-endian.

use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};

use crate::error::ReadError;

/// How much is read at once: headers are megabytes of short values.
const BUFFER: usize = 64 << 10;

pub(crate) struct Input<R> {
    from: BufReader<R>,
    position: u64,
}

impl<R: Read + Seek> Input<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from: BufReader::with_capacity(BUFFER, from),
            position: 0,
        }
    }

    /// Bytes read or passed over.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, ReadError> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, ReadError> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    /// A count that is at most `most`.
    pub(crate) fn count(&mut self, what: &'static str, most: u64) -> Result<u64, ReadError> {
        let found = self.u64(what)?;
        if found > most {
            return Err(ReadError::Limit { what, found, most });
        }
        Ok(found)
    }

    /// A text of at most `most` bytes behind its length.
    pub(crate) fn text(&mut self, what: &'static str, most: u64) -> Result<String, ReadError> {
        let length = self.count(what, most)?;
        self.text_of(what, length)
    }

    /// A text of this length, which was checked. Memory grows with what is there, not with what is claimed.
    pub(crate) fn text_of(&mut self, what: &'static str, length: u64) -> Result<String, ReadError> {
        let mut bytes = Vec::new();
        self.from.by_ref().take(length).read_to_end(&mut bytes)?;
        self.position += bytes.len() as u64;
        if (bytes.len() as u64) < length {
            return Err(ReadError::Cut { what });
        }
        String::from_utf8(bytes).map_err(|_| ReadError::malformed(what, "must be UTF-8"))
    }

    /// Passes over bytes that must be there. What is past the end of the file is noticed by the next read.
    pub(crate) fn skip(&mut self, bytes: u64, what: &'static str) -> Result<(), ReadError> {
        let step = i64::try_from(bytes).map_err(|_| ReadError::Cut { what })?;
        self.from.seek_relative(step)?;
        self.position = self.position.checked_add(bytes).ok_or(ReadError::Cut { what })?;
        Ok(())
    }

    /// Where the file ends.
    pub(crate) fn size(&mut self) -> Result<u64, ReadError> {
        let here = self.from.stream_position()?;
        let size = self.from.seek(SeekFrom::End(0))?;
        self.from.seek(SeekFrom::Start(here))?;
        Ok(size)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &'static str) -> Result<(), ReadError> {
        match self.from.read_exact(bytes) {
            Ok(()) => {
                self.position += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(ReadError::Cut { what }),
            Err(error) => Err(error.into()),
        }
    }
}
