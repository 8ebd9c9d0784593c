//! A streamed completion: frames in chunks, on schedule, with pings in silence, until it stops, the
//! script spoils it or the client leaves.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::super::http::{Connection, Gone, KeepAlive, Request, Wake, chunk, last_chunk, stream_head};
use super::super::script::{EngineError, FaultKind};
use super::super::server::{self, After};
use super::chat::DONE;
use super::completion::{Ended, Run, ends_stream};
use super::errors::{error_body, error_response};
use super::frames;
use super::generation::{Step, Stop, Token};
use super::stamp;

/// When a schedule has fallen behind, frames are written together up to so many bytes.
const CATCH_UP: usize = 16 << 10;

/// Longer than any test: "no ping".
const NEVER: Duration = Duration::from_secs(1 << 32);

struct Stream<'r, 'a, 'c> {
    run: &'r mut Run<'a>,
    connection: &'c mut Connection,
    request: &'c Request,
    keep: KeepAlive,
    /// What the model calls itself.
    model: String,
    /// Frames of the chunk being made.
    frame: BytesMut,
    /// Token frames in it.
    frame_tokens: u32,
    /// Bytes to write.
    out: BytesMut,
    /// Token frames in them.
    out_tokens: u32,
    head_sent: bool,
    last_write: Instant,
    ping_every: Duration,
}

/// What ends a chunk early.
enum Ending {
    Stop(Stop),
    Fault(FaultKind),
}

/// Serves the stream.
pub(super) async fn serve(
    run: &mut Run<'_>,
    connection: &mut Connection,
    request: &Request,
    keep: KeepAlive,
) -> Ended {
    let (ping_every, head_first) = ping_interval(run);
    let mut stream = Stream {
        model: run.engine.launch.model_name(),
        run,
        connection,
        request,
        keep,
        frame: BytesMut::new(),
        frame_tokens: 0,
        out: BytesMut::new(),
        out_tokens: 0,
        head_sent: false,
        last_write: Instant::now(),
        ping_every,
    };
    match stream.serve(head_first).await {
        Ok(ended) => ended,
        Err(gone) => gone.into(),
    }
}

/// How long a silence may last, and whether the head comes before the first token because somebody
/// asked for pings or progress.
fn ping_interval(run: &Run<'_>) -> (Duration, bool) {
    let seconds = run
        .job
        .ping_interval_s
        .unwrap_or(run.engine.launch.ping_interval_s);
    let configured = u64::try_from(seconds).map_or(NEVER, Duration::from_secs);
    let scripted = run.script.ping_interval_ms.map(Duration::from_millis);
    let asked_for = scripted.is_some() || run.job.ping_interval_s.is_some() || run.job.return_progress;
    (scripted.unwrap_or(configured), asked_for)
}

impl Stream<'_, '_, '_> {
    async fn serve(&mut self, head_first: bool) -> Result<Ended, Gone> {
        if head_first {
            self.put_head();
            self.put_progress(0);
            self.flush().await?;
        }
        loop {
            let ending = self.make_chunk();
            if self.frame_tokens > 0 {
                self.wait(self.run.due()).await?;
                self.put_chunk();
            }
            match ending {
                Some(Ending::Stop(stop)) => return self.finish(&stop).await,
                Some(Ending::Fault(kind)) if ends_stream(&kind) => return self.fail(kind).await,
                Some(Ending::Fault(kind)) => self.put_odd_frame(&kind),
                None => {}
            }
            if !(self.run.is_behind() && self.out.len() < CATCH_UP) {
                self.flush().await?;
            }
        }
    }

    /// Fills a chunk with the script's number of token frames, or fewer when something ends it.
    fn make_chunk(&mut self) -> Option<Ending> {
        let wanted = self.run.script.tokens_per_write.get();
        while self.frame_tokens < wanted {
            match self.run.step() {
                Step::Token(token) => self.make_frame(&token),
                Step::Fault(kind) => return Some(Ending::Fault(kind)),
                Step::Stop(stop) => return Some(Ending::Stop(stop)),
            }
        }
        None
    }

    fn make_frame(&mut self, token: &Token) {
        let timings = self
            .run
            .job
            .settings
            .timings_per_token
            .then(|| self.run.timings());
        let stamped = self.run.script.stamp_tokens.then(|| stamp::unset(token));
        let token = stamped.as_ref().unwrap_or(token);
        match &self.run.job.chat {
            Some(chat) => {
                let envelope = self.run.envelope(chat, &self.model);
                if self.run.generation.frames() == 1 {
                    envelope.put_role(&mut self.frame);
                }
                envelope.put_text(&mut self.frame, token.text.text(), self.run.reasons());
            }
            None => frames::token(&mut self.frame, token, self.run.job.prompt_tokens, timings),
        }
        self.frame_tokens += 1;
    }

    /// Moves the chunk to the bytes to write.
    fn put_chunk(&mut self) {
        if !self.head_sent {
            self.put_head();
        }
        if self.run.generation.frames() == self.frame_tokens {
            self.put_progress(self.run.job.prompt_tokens);
            self.put_null_frame();
        }
        if self.run.script.stamp_tokens {
            stamp::set(&mut self.frame, stamp::now_ns());
        }
        // A chunk without bytes would be the last one.
        if !self.frame.is_empty() {
            chunk(&mut self.out, &self.frame);
        }
        self.out_tokens += self.frame_tokens;
        self.frame.clear();
        self.frame_tokens = 0;
    }

    fn put_head(&mut self) {
        let origin = self.request.header("origin").unwrap_or("");
        stream_head(&mut self.out, origin, self.keep);
        self.head_sent = true;
    }

    fn put_progress(&mut self, processed: u32) {
        if self.run.job.return_progress {
            let ms = u64::try_from(self.run.elapsed().as_millis()).unwrap_or(u64::MAX);
            let mut frame = BytesMut::new();
            frames::progress(&mut frame, self.run.job.prompt_tokens, processed, ms);
            chunk(&mut self.out, &frame);
        }
    }

    fn put_null_frame(&mut self) {
        if self.run.script.null_frame {
            chunk(&mut self.out, frames::NULL);
        }
    }

    fn put_odd_frame(&mut self, kind: &FaultKind) {
        let mut odd = BytesMut::new();
        match kind {
            FaultKind::BadUtf8 => self.put_bad_utf8(&mut odd),
            FaultKind::Oversized(length) => self.put_oversized(&mut odd, *length),
            _ => frames::malformed_json(&mut odd),
        }
        if !self.head_sent {
            self.put_head();
        }
        chunk(&mut self.out, &odd);
    }

    fn put_bad_utf8(&self, out: &mut BytesMut) {
        match &self.run.job.chat {
            Some(chat) => {
                self.run.envelope(chat, &self.model).put_text(out, "?", false);
                frames::spoil(out);
            }
            None => frames::bad_utf8(out),
        }
    }

    fn put_oversized(&self, out: &mut BytesMut, length: usize) {
        match &self.run.job.chat {
            Some(chat) => {
                let envelope = self.run.envelope(chat, &self.model);
                envelope.put_text(out, &"x".repeat(length), false);
            }
            None => frames::oversized(out, length),
        }
    }

    /// Waits until `due`, pinging in silence.
    async fn wait(&mut self, due: Instant) -> Result<(), Gone> {
        if due <= Instant::now() {
            return if self.connection.is_gone() {
                Err(Gone)
            } else {
                Ok(())
            };
        }
        self.flush().await?;
        loop {
            let ping = self.last_write + self.ping_every;
            let ping_first = self.head_sent && ping < due;
            let until = if ping_first { ping } else { due };
            if self.connection.wait_until(until).await == Wake::ClientGone {
                return Err(Gone);
            }
            if !ping_first {
                return Ok(());
            }
            chunk(&mut self.out, frames::PING);
            self.flush().await?;
        }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if self.out.is_empty() {
            return Ok(());
        }
        if self.out_tokens > 0 {
            self.run.note_tokens(std::mem::take(&mut self.out_tokens));
        }
        self.connection.write(&self.out).await?;
        self.out.clear();
        self.last_write = Instant::now();
        Ok(())
    }

    async fn finish(&mut self, stop: &Stop) -> Result<Ended, Gone> {
        match &self.run.job.chat {
            Some(chat) => {
                let mut last = BytesMut::new();
                let envelope = self.run.envelope(chat, &self.model);
                envelope.put_end(&mut last, stop, &self.run.chat_totals());
                chunk(&mut self.out, &last);
                chunk(&mut self.out, DONE);
            }
            None => self.put_final(stop),
        }
        last_chunk(&mut self.out);
        self.flush().await?;
        Ok(Ended::Answered(200))
    }

    fn put_final(&mut self, stop: &Stop) {
        let payload = self.run.final_json(stop, "", &[]);
        let mut last = BytesMut::new();
        match payload {
            Ok(payload) => frames::data(&mut last, &payload),
            Err(error) => {
                let error = EngineError::new(500, "server_error", error.to_string());
                frames::data(&mut last, &error_body(&error));
            }
        }
        chunk(&mut self.out, &last);
    }

    async fn fail(&mut self, kind: FaultKind) -> Result<Ended, Gone> {
        self.wait(self.run.due()).await?;
        match &kind {
            FaultKind::InStreamError(error) if !self.head_sent => return self.refuse(error).await,
            FaultKind::InStreamError(error) => {
                let mut frame = BytesMut::new();
                frames::data(&mut frame, &error_body(error));
                chunk(&mut self.out, &frame);
                last_chunk(&mut self.out);
            }
            FaultKind::CleanEof => {
                if !self.head_sent {
                    self.put_head();
                }
                last_chunk(&mut self.out);
            }
            FaultKind::CutFrame => self.put_half_a_frame(),
            FaultKind::Stall => {
                self.flush().await?;
                self.wait(Instant::now() + NEVER).await?;
            }
            _ => {}
        }
        self.flush().await?;
        Ok(Ended::Fault(kind))
    }

    /// A fault before the first frame is a plain HTTP error.
    async fn refuse(&mut self, error: &EngineError) -> Result<Ended, Gone> {
        let response = error_response(error);
        match server::send(self.connection, self.request, self.keep, response).await {
            After::Next => Ok(Ended::Answered(error.code)),
            After::Close | After::Reset => Err(Gone),
        }
    }

    fn put_half_a_frame(&mut self) {
        if !self.head_sent {
            self.put_head();
        }
        let mut frame = BytesMut::new();
        frames::malformed_json(&mut frame);
        chunk(&mut self.out, &frame);
        self.out.truncate(self.out.len() - frame.len() / 2);
    }
}
