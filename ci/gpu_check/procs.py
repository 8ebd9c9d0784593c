"""Processes by `/proc`: which run, which belong to a folder, and ending those. A process that has ended and only waits for
its parent does not run."""

import os
import signal
import time

PAUSE = 0.01


def runs(pid):
    """Whether the process runs."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def of_folder(folder):
    """Processes, but this one, that work in the folder or whose command line or environment names something in it."""
    inside = os.fsencode(folder.rstrip("/") + "/")
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in numbers if pid != os.getpid() and _belongs(pid, inside) and runs(pid)]


def _belongs(pid, inside):
    try:
        if (os.readlink(b"/proc/%d/cwd" % pid) + b"/").startswith(inside):
            return True
    except OSError:
        pass
    return any(inside in _read(f"/proc/{pid}/{file}") for file in ("cmdline", "environ"))


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def describe(pid):
    """Its command line, for a report."""
    return _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()[:300]


def send(pid, number):
    """Sends a signal; it is no matter when the process is gone by then."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def end_all(folder, polite_seconds=5.0, seconds=15.0):
    """Ends every process of the folder and gives those that are left. A shim ends its engine when it is told to, and the
    kernel ends the engine when the shim is killed."""
    started = time.monotonic()
    while True:
        left = of_folder(folder)
        spent = time.monotonic() - started
        if not left or spent > seconds:
            return left
        for pid in left:
            send(pid, signal.SIGINT if spent < polite_seconds else signal.SIGKILL)
        time.sleep(5 * PAUSE)
