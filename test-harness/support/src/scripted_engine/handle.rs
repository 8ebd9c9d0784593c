//! An engine inside the caller's process, and remote control of one in another process.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::engine::Engine;
use super::launch::Launch;
use super::report::Report;
use super::script::Script;
use super::server;
use crate::http1::{self, Call};
use crate::wait::{Look, TimedOut, wait_for};

/// A scripted engine on a real socket, inside this process. Dropping it closes every connection.
///
/// A script's `abort` and `exit` do not end this process: they end the engine, as if its process had
/// died.
pub struct ScriptedEngine {
    address: SocketAddr,
    engine: Arc<Engine>,
    serving: JoinHandle<()>,
}

impl ScriptedEngine {
    /// Starts on a free loopback port with llama-server's defaults.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::launch(Launch::default(), script).await
    }

    /// Starts with these slots, context, keys …
    ///
    /// # Errors
    /// The address is taken.
    pub async fn launch(launch: Launch, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind((launch.host.as_str(), launch.port)).await?;
        let address = listener.local_addr()?;
        let engine = Engine::new(launch, script);
        let serving = TaskTracker::new().spawn(serve_until_death(Arc::clone(&engine), listener));
        Ok(Self {
            address,
            engine,
            serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The script as it is now.
    pub fn script(&self) -> Script {
        (*self.engine.script()).clone()
    }

    /// Replaces the script for requests to come.
    pub fn set_script(&self, script: Script) {
        self.engine.set_script(script);
    }

    /// What the engine saw so far.
    pub fn report(&self) -> Report {
        self.engine.recorder.report()
    }
}

impl Drop for ScriptedEngine {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve_until_death(engine: Arc<Engine>, listener: TcpListener) {
    tokio::select! {
        () = server::serve(Arc::clone(&engine), listener) => {}
        _ = engine.died() => {}
    }
}

/// So many looks at an engine that writes nothing meanwhile show that it waits.
const LOOKS_AT_REST: u32 = 50;

/// Script and report of an engine in another process, over its control routes.
#[derive(Clone, Copy, Debug)]
pub struct EngineControl {
    address: SocketAddr,
}

/// The engine's control routes did not do what they should.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It could not be asked.
    #[error("cannot ask the scripted engine")]
    Http(#[from] http1::Error),
    /// It refused.
    #[error("the scripted engine answered {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// Its answer is not a report.
    #[error("the scripted engine's report cannot be read")]
    Report(#[from] serde_json::Error),
}

impl EngineControl {
    /// Control of the engine that listens there.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Merges keys into the script; `null` resets one.
    ///
    /// # Errors
    /// The engine is not there or refuses the patch.
    pub async fn change_script(&self, patch: &Value) -> Result<(), ControlError> {
        self.ask(Call::post_json("/__script", patch)).await.map(drop)
    }

    /// What the engine saw so far.
    ///
    /// # Errors
    /// The engine is not there.
    pub async fn report(&self) -> Result<Report, ControlError> {
        Ok(serde_json::from_slice(&self.ask(Call::get("/__report")).await?)?)
    }

    /// Token frames written so far, once the engine has been seen to write no more: its clients do not read.
    ///
    /// # Errors
    /// It goes on writing until `limit`, or is not there.
    pub async fn at_rest(&self, limit: Duration) -> Result<u64, TimedOut> {
        let seen = Cell::new((0, 0));
        let look = || async {
            let written = self.report().await.map(|report| report.tokens_written_total);
            let Ok(now) = written else {
                return Look::NotYet(written);
            };
            let (before, looks) = seen.get();
            seen.set((now, if now == before { looks + 1 } else { 0 }));
            if seen.get().1 >= LOOKS_AT_REST {
                Look::Ready(now)
            } else {
                Look::NotYet(written)
            }
        };
        wait_for("the engine to write no more", limit, look).await
    }

    async fn ask(&self, call: Call) -> Result<Vec<u8>, ControlError> {
        let answer = http1::call(self.address, &call).await?;
        if answer.status != 200 {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(ControlError::Refused {
                status: answer.status,
                body,
            });
        }
        Ok(answer.body)
    }
}
