//! The daemon as a process: real engines (scripted), a fake NVML library, an orchestrator's link routes in
//! the test.

#[path = "it/catalog.rs"]
mod catalog;
#[path = "it/containers.rs"]
mod containers;
#[path = "it/engines.rs"]
mod engines;
#[path = "it/fetches.rs"]
mod fetches;
#[path = "it/gpus.rs"]
mod gpus;
#[path = "it/http.rs"]
mod http;
#[path = "it/link.rs"]
mod link;
#[path = "it/orchestrator.rs"]
mod orchestrator;
#[path = "it/prober.rs"]
mod prober;
#[path = "it/relay.rs"]
mod relay;
#[path = "it/residency.rs"]
mod residency;
#[path = "it/restart.rs"]
mod restart;
#[path = "it/rig.rs"]
mod rig;
#[path = "it/rollout.rs"]
mod rollout;
#[path = "it/shim.rs"]
mod shim;
#[path = "it/startup.rs"]
mod startup;
