//! A server without a mind of its own: a test accepts each request itself and writes the answer's bytes itself.

use std::time::Duration;

use anyhow::{Context, ensure};
use llama_orch_client::{ClientConfig, OrchestratorClient, ResumePolicy, Timeouts};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The token that clients of these tests send; it must show up nowhere but in the header.
pub(crate) const TOKEN: &str = "correct-horse-battery-staple";

pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) base: String,
}

/// One request on its own connection. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
    socket: BufReader<TcpStream>,
}

impl Server {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        Ok(Self { listener, base })
    }

    /// The next request.
    pub(crate) async fn accept(&self) -> anyhow::Result<Exchange> {
        let (socket, _) = self.listener.accept().await?;
        let mut socket = BufReader::new(socket);
        let mut line = String::new();
        socket.read_line(&mut line).await?;
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            ensure!(socket.read_line(&mut header).await? > 0, "the head broke off");
            let Some((name, value)) = header.trim_end().split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut exchange = Exchange {
            line: line.trim_end().trim_end_matches(" HTTP/1.1").to_owned(),
            headers,
            body: String::new(),
            socket,
        };
        exchange.read_body().await?;
        Ok(exchange)
    }

    /// A client with the token, little patience and many quick tries.
    pub(crate) fn client(&self) -> anyhow::Result<OrchestratorClient> {
        client_of(self.base.clone(), Some(TOKEN))
    }
}

pub(crate) fn client_of(base: String, token: Option<&str>) -> anyhow::Result<OrchestratorClient> {
    let config = ClientConfig {
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(5),
            idle: Duration::from_secs(5),
        },
        resume: ResumePolicy {
            attempts: 3,
            base_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(4),
        },
        ..ClientConfig::new(base, token.map(Into::into))
    };
    Ok(OrchestratorClient::new(config)?)
}

impl Exchange {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        values.next().map(|(_, value)| value.as_str())
    }

    async fn read_body(&mut self) -> anyhow::Result<()> {
        let length = self.header("content-length").map_or(Ok(0), str::parse)?;
        let mut body = vec![0; length];
        self.socket
            .read_exact(&mut body)
            .await
            .context("the body broke off")?;
        self.body = String::from_utf8(body)?;
        Ok(())
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
        self.socket.write_all(bytes.as_ref()).await?;
        Ok(self.socket.flush().await?)
    }

    /// A whole answer; `head` is the status and any headers, line by line.
    pub(crate) async fn answer(mut self, head: &str, body: &str) -> anyhow::Result<()> {
        let head = head.replace('\n', "\r\n");
        let length = body.len();
        self.write(format!(
            "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
        .await?;
        self.hang_up().await
    }

    /// The head of a stream whose end is the end of the connection.
    pub(crate) async fn open_stream(&mut self) -> anyhow::Result<()> {
        self.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            .await
    }

    /// The head of a stream in chunks, whose end is a chunk of its own.
    pub(crate) async fn open_chunked_stream(&mut self) -> anyhow::Result<()> {
        self.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await
    }

    pub(crate) async fn write_chunk(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.write(chunk).await
    }

    /// Ends the connection in order: a reset could destroy what the client has not read yet.
    pub(crate) async fn hang_up(mut self) -> anyhow::Result<()> {
        self.socket.shutdown().await?;
        let mut rest = Vec::new();
        // A client that closed first is as good.
        let _ended = self.socket.read_to_end(&mut rest).await;
        Ok(())
    }

    /// Waits until the client has closed the connection.
    pub(crate) async fn closed_by_client(mut self) -> anyhow::Result<()> {
        let mut rest = Vec::new();
        let _ended = self.socket.read_to_end(&mut rest).await;
        Ok(())
    }
}
