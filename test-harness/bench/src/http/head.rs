//! The head of a response: status, framing, whether the connection stays. Pure.

use anyhow::{Context as _, Result, bail};

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(usize),
    /// Chunks.
    Chunked,
}

/// What a response's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// The server closes the connection after this response.
    pub(crate) closes: bool,
}

impl Head {
    /// Reads the lines before the empty one.
    ///
    /// # Errors
    /// It is not HTTP/1.1, or does not say where the body ends.
    pub(crate) fn parse(head: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(head).context("a response head that is not UTF-8")?;
        let mut lines = text.split("\r\n");
        let status = status(lines.next().unwrap_or_default())?;
        let (mut framing, mut closes, mut llama_cpp) = (None, false, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => framing = Some(Framing::Length(value.parse().context("Content-Length")?)),
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                    framing = Some(Framing::Chunked);
                }
                "server" => llama_cpp = value == "llama.cpp",
                "connection" => closes = value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        let framing = framing.with_context(|| format!("a response without a length: {text}"))?;
        Ok(Self {
            status,
            framing,
            // That server closes the connection of a stream, whatever it promises.
            closes: closes || (llama_cpp && framing == Framing::Chunked),
        })
    }
}

fn status(line: &str) -> Result<u16> {
    match line.split(' ').collect::<Vec<_>>().as_slice() {
        ["HTTP/1.1", status, ..] => status.parse().with_context(|| format!("status line {line:?}")),
        _ => bail!("no HTTP/1.1 status line: {line:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_chunks_and_close_are_understood() {
        let head = Head::parse(b"HTTP/1.1 202 Accepted\r\ncontent-length: 12\r\nConnection: close").unwrap();
        assert_eq!(
            head,
            Head {
                status: 202,
                framing: Framing::Length(12),
                closes: true
            }
        );
        let head =
            Head::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive").unwrap();
        assert_eq!(
            head,
            Head {
                status: 200,
                framing: Framing::Chunked,
                closes: false
            }
        );
    }

    #[test]
    fn other_protocols_and_endless_bodies_are_refused() {
        for bad in [
            "HTTP/1.0 200 OK\r\nContent-Length: 1",
            "HTTP/1.1 200 OK",
            "HTTP/1.1 200 OK\r\nContent-Length: x",
        ] {
            assert!(Head::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
