//! The llama.cpp dialect: llama-server's routes, bodies, frames and errors, as recorded from the real
//! server. Not there: the other OpenAI- and Anthropic-shaped routes, LoRA, router mode.

mod chat;
mod completion;
mod errors;
mod frames;
mod generation;
mod info;
mod job;
mod metrics;
mod pooled;
mod routes;
mod settings;
mod stamp;
mod streaming;
mod template;
mod vocabulary;

use std::sync::Mutex;

pub(super) use errors::error_response;
pub(super) use routes::serve;
pub use vocabulary::DISCLAIMER;

/// What this dialect remembers between requests.
pub(super) struct State {
    totals: metrics::Totals,
    /// What each slot last worked on, for `/slots`.
    last_tasks: Mutex<Vec<Option<completion::SlotTask>>>,
}

impl State {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            totals: metrics::Totals::default(),
            last_tasks: Mutex::new(vec![None; slots]),
        }
    }
}
