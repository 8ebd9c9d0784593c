//! Kills under load: what survives, what is left, how soon it is whole again (I9, I10, ORCH-3423, ORCH-3429).

#[path = "it/kills.rs"]
mod kills;
#[path = "it/load.rs"]
mod load;
#[path = "it/orphans.rs"]
mod orphans;
