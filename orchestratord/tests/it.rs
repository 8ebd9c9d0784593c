//! The built `orchestratord` over real sockets, with scripted engines registered as a node would.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "it/boxes.rs"]
mod boxes;
#[path = "it/fixture.rs"]
mod fixture;

#[path = "it/admission.rs"]
mod admission;
#[path = "it/artifact_crash.rs"]
mod artifact_crash;
#[path = "it/artifacts.rs"]
mod artifacts;
#[path = "it/bad_input.rs"]
mod bad_input;
#[path = "it/canaries.rs"]
mod canaries;
#[path = "it/cancel.rs"]
mod cancel;
#[path = "it/cancel_races.rs"]
mod cancel_races;
#[path = "it/crash_cycles.rs"]
mod crash_cycles;
#[path = "it/deadline.rs"]
mod deadline;
#[path = "it/demand.rs"]
mod demand;
#[path = "it/eta.rs"]
mod eta;
#[path = "it/explain.rs"]
mod explain;
#[path = "it/faults.rs"]
mod faults;
#[path = "it/faulty_disk.rs"]
mod faulty_disk;
#[path = "it/guards.rs"]
mod guards;
#[path = "it/joining.rs"]
mod joining;
#[path = "it/metrics.rs"]
mod metrics;
#[path = "it/nodes.rs"]
mod nodes;
#[path = "it/operations.rs"]
mod operations;
#[path = "it/overload.rs"]
mod overload;
#[path = "it/pauses.rs"]
mod pauses;
#[path = "it/queue.rs"]
mod queue;
#[path = "it/rate.rs"]
mod rate;
#[path = "it/relay.rs"]
mod relay;
#[path = "it/restart.rs"]
mod restart;
#[path = "it/routes.rs"]
mod routes;
#[path = "it/session.rs"]
mod session;
#[path = "it/shutdown.rs"]
mod shutdown;
#[path = "it/slow_readers.rs"]
mod slow_readers;
#[path = "it/startup.rs"]
mod startup;
#[path = "it/stranded.rs"]
mod stranded;
#[path = "it/stream.rs"]
mod stream;
#[path = "it/take_up.rs"]
mod take_up;
#[path = "it/traces.rs"]
mod traces;
#[path = "it/whole_system.rs"]
mod whole_system;
#[path = "it/workloads.rs"]
mod workloads;
#[path = "it/workloads_real.rs"]
mod workloads_real;
