//! Kills and operations under load: what survives, what is left, how soon it is whole again (I8, I9, I10, ORCH-3423,
//! ORCH-3429, REQ-OPERATION-DRAIN, REQ-OPERATION-RELOAD).

#[path = "it/kills.rs"]
mod kills;
#[path = "it/load.rs"]
mod load;
#[path = "it/operations.rs"]
mod operations;
#[path = "it/orphans.rs"]
mod orphans;

/// Kills of each kind; `cargo xtask chaos` builds it with more.
pub(crate) const KILLS: usize = match option_env!("CHAOS_KILLS") {
    Some(text) => digits(text.as_bytes()),
    None => 12,
};

const fn digits(text: &[u8]) -> usize {
    let (mut number, mut at) = (0, 0);
    while at < text.len() {
        number = number * 10 + (text[at] - b'0') as usize;
        at += 1;
    }
    number
}
