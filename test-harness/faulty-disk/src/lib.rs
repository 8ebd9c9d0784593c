//! A shared library that stands before the C library's disk calls, driven by a file.
//!
//! Loaded into a program with `LD_PRELOAD`. The environment variable `FAULTY_DISK_FILE` names a file with one fault per
//! line, `CALL FAULT`; it is read at every call, so a test can break and mend the disk while the program runs. Without
//! the variable, the file or a line for the call, the call goes to the kernel.
//!
//! | call | C function | on |
//! |---|---|---|
//! | `sync` | `fdatasync`, `fsync` | any file |
//! | `write_at` | `pwrite64`, `pwrite` | any file |
//! | `append` | `write` | regular files |
//!
//! Faults: `EIO`, `ENOSPC`, and `stall`, which waits until the line is gone.
//!
//! May touch: that one file, and what it is asked to write.

use std::time::Duration;

use libc::{c_int, c_void, off_t, size_t, ssize_t};

/// Names the file of faults.
const VARIABLE: &str = "FAULTY_DISK_FILE";
/// How often a stalled call looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

/// What a call meets; waits out a stall. An error number, or nothing.
fn fault(call: &str) -> Option<c_int> {
    loop {
        match asked(call)?.as_str() {
            "EIO" => return Some(libc::EIO),
            "ENOSPC" => return Some(libc::ENOSPC),
            "stall" => std::thread::sleep(LOOK),
            // A misspelt fault must not pass for a disk that works.
            _ => return Some(libc::EINVAL),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the library has no other way to be told"
)]
fn asked(call: &str) -> Option<String> {
    let faults = std::fs::read_to_string(std::env::var_os(VARIABLE)?).ok()?;
    let line = faults
        .lines()
        .find_map(|line| line.strip_prefix(call)?.strip_prefix(' '));
    line.map(|fault| fault.trim().to_owned())
}

fn fail(error: c_int) -> ssize_t {
    // SAFETY: the C library gives a valid pointer to this thread's error number.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// Goes to the kernel, past the C library's function that this one replaces.
macro_rules! kernel {
    ($number:path, $($argument:expr),*) => {
        // SAFETY: the caller's arguments, as they are, for the call that the caller asked for.
        unsafe { libc::syscall($number, $($argument),*) as ssize_t }
    };
}

fn is_regular(fd: c_int) -> bool {
    // SAFETY: all zeroes are a valid `stat`, and the kernel writes no more than one.
    let (mode, answer) = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let answer = libc::fstat(fd, &raw mut stat);
        (stat.st_mode, answer)
    };
    answer == 0 && mode & libc::S_IFMT == libc::S_IFREG
}

/// Stands before `fdatasync(2)`.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    match fault("sync") {
        Some(error) => fail(error) as c_int,
        None => kernel!(libc::SYS_fdatasync, fd) as c_int,
    }
}

/// Stands before `fsync(2)`.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    match fault("sync") {
        Some(error) => fail(error) as c_int,
        None => kernel!(libc::SYS_fsync, fd) as c_int,
    }
}

/// Stands before `pwrite(2)`.
///
/// # Safety
/// As for the function of the C library: `from` points to `count` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, from: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    match fault("write_at") {
        Some(error) => fail(error),
        None => kernel!(libc::SYS_pwrite64, fd, from, count, offset),
    }
}

/// Stands before `pwrite(2)`, by its other name.
///
/// # Safety
/// As for the function of the C library: `from` points to `count` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, from: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the caller vouches for both.
    unsafe { pwrite64(fd, from, count, offset) }
}

/// Stands before `write(2)`.
///
/// # Safety
/// As for the function of the C library: `from` points to `count` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, from: *const c_void, count: size_t) -> ssize_t {
    match fault("append").filter(|_| is_regular(fd)) {
        Some(error) => fail(error),
        None => kernel!(libc::SYS_write, fd, from, count),
    }
}
