//! Integration tests of the harness itself: real sockets, real processes, the real loader of NVML.

mod it {
    mod daemon;
    mod fake_nvml;
    mod real_engine;
    mod scripted_engine;
    mod scripted_faults;
    mod scripted_process;
}
