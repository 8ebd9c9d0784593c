//! Stop signals, sent to this very process.

use http_front::shutdown::{self, StopSignal};
use rustix::process::{Signal, getpid, kill_process};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::server::HANG;

#[tokio::test]
async fn the_first_signal_is_graceful_and_the_second_immediate() {
    let signals = shutdown::signals().unwrap();
    let graceful = signals.graceful();
    let immediate = TaskTracker::new().spawn(signals.immediate());
    assert!(!graceful.is_cancelled());
    kill_process(getpid(), Signal::TERM).unwrap();
    timeout(HANG, graceful.cancelled()).await.unwrap();
    assert!(!immediate.is_finished());
    kill_process(getpid(), Signal::INT).unwrap();
    let stop = timeout(HANG, immediate).await.unwrap().unwrap();
    assert_eq!((stop, stop.exit_status()), (StopSignal::Interrupt, 130));
}
