//! Integration tests of the harness itself: real sockets, real processes, the real loader of NVML.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod it {
    mod daemon;
    mod fake_nvml;
    mod real_engine;
    mod scripted_engine;
    mod scripted_faults;
    mod scripted_process;
}
