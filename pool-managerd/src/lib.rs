//! The daemon of a GPU box: owns its GPUs, engines and models, and tells the orchestrator about them.
//!
//! Data flows one way. Watches hold what is known ([`gpu`], [`facts`], the orchestrator's wishes from
//! [`link`]); the [`reconcile`] loop turns it into one goal per replica; each [`replica`] actor drives its
//! engine towards the goal; the [`report`] puts the outcome together for [`link`] and [`http`]. It may touch:
//! the NVML library, processes it started, its state directory, the files of its pools (reading), loopback
//! sockets of its engines, and the orchestrator. An orchestrator on another host reaches the engines through the relay
//! in [`http`]; [`reach`] says whether.

pub mod assemble;
pub mod cgroups;
pub mod changes;
pub mod cli;
pub mod daemon;
pub mod engine;
pub mod facts;
pub mod fetches;
pub mod gpu;
pub mod gpu_locks;
pub mod http;
pub mod images;
pub mod learner;
pub mod link;
pub mod metrics;
pub mod models;
pub mod pool;
pub mod preflight;
pub mod procfs;
pub mod reach;
pub mod reconcile;
pub mod relay_metrics;
pub mod replica;
pub mod report;
pub mod rollout;
pub mod source;
pub mod state_dir;
pub mod story;
pub mod sweep;
pub mod trouble;
