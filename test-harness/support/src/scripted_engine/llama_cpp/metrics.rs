//! `/metrics`: sums over completions, in llama.cpp's names. The two averages cover the time since the
//! last scrape, as in the real server. What a scripted engine cannot have (busy slots per decode
//! call) is left out.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::super::engine::Engine;

/// Sums over all completions.
#[derive(Default)]
pub(super) struct Totals {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ever: Sums,
    at_last_scrape: Sums,
    /// Longest prompt and output together, tokens.
    longest: u64,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    prompt_tokens: u64,
    prompt_time: Duration,
    predicted_tokens: u64,
    predicted_time: Duration,
}

impl Totals {
    /// Adds a completion that ended, however it ended.
    pub(super) fn add(&self, prompt: (u32, Duration), predicted: (u32, Duration)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let length = u64::from(prompt.0) + u64::from(predicted.0);
        state.longest = state.longest.max(length);
        let sums = &mut state.ever;
        sums.prompt_tokens += u64::from(prompt.0);
        sums.prompt_time += prompt.1;
        sums.predicted_tokens += u64::from(predicted.0);
        sums.predicted_time += predicted.1;
    }
}

/// The text of `/metrics`.
pub(super) fn render(engine: &Engine) -> String {
    let mut state = engine
        .llama_cpp
        .totals
        .state
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let (ever, before, longest) = (state.ever, state.at_last_scrape, state.longest);
    state.at_last_scrape = ever;
    drop(state);
    let mut out = String::new();
    sums(&mut out, ever, longest);
    let prompt_rate = rate(
        ever.prompt_tokens - before.prompt_tokens,
        ever.prompt_time - before.prompt_time,
    );
    let predicted_rate = rate(
        ever.predicted_tokens - before.predicted_tokens,
        ever.predicted_time - before.predicted_time,
    );
    gauge(
        &mut out,
        "prompt_tokens_seconds",
        "Average prompt throughput in tokens/s",
        prompt_rate,
    );
    gauge(
        &mut out,
        "predicted_tokens_seconds",
        "Average generation throughput in tokens/s",
        predicted_rate,
    );
    gauge(
        &mut out,
        "requests_processing",
        "Number of requests processing",
        engine.slots.busy(),
    );
    gauge(
        &mut out,
        "requests_deferred",
        "Number of requests deferred",
        engine.slots.deferred(),
    );
    out
}

fn sums(out: &mut String, ever: Sums, longest: u64) {
    let prompt_help = "Number of prompt tokens processed, excluding cached tokens";
    counter(out, "prompt_tokens_total", prompt_help, ever.prompt_tokens);
    counter(
        out,
        "prompt_tokens_cached_total",
        "Number of prompt tokens reused from the cache",
        0,
    );
    let seconds = ever.prompt_time.as_secs_f64();
    counter(
        out,
        "prompt_seconds_total",
        "Total time spent processing prompts",
        seconds,
    );
    counter(
        out,
        "tokens_predicted_total",
        "Number of generation tokens processed",
        ever.predicted_tokens,
    );
    let seconds = ever.predicted_time.as_secs_f64();
    counter(
        out,
        "tokens_predicted_seconds_total",
        "Total time spent generating tokens",
        seconds,
    );
    counter(
        out,
        "n_tokens_max",
        "Largest observed sequence length (prompt + generation)",
        longest,
    );
}

fn counter(out: &mut String, name: &str, help: &str, value: impl std::fmt::Display) {
    sample(out, name, help, "counter", value);
}

fn gauge(out: &mut String, name: &str, help: &str, value: impl std::fmt::Display) {
    sample(out, name, help, "gauge", value);
}

/// A `String` grows instead of failing.
fn sample(out: &mut String, name: &str, help: &str, kind: &str, value: impl std::fmt::Display) {
    let _ = write!(
        out,
        "# HELP llamacpp:{name} {help}\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n"
    );
}

fn rate(tokens: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for display")]
    let tokens = tokens as f64;
    tokens / time.as_secs_f64()
}
