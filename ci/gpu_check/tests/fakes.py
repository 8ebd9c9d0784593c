"""What stands for a GPU, an engine and a compiler here: the fake NVML library's file, the scripted engine's script, and a
program in place of cmake."""

import json
import os
import stat
import subprocess
import sys

ENTRY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "gpu-check")
MIB = 1 << 20
PROGRAMS = "LLAMA_ORCH_BIN_DIR"


def uuid(index):
    return f"GPU-fake0000-0000-4000-8000-{index:012}"


def driver(*gpus_mib):
    """The fake NVML's file: one GPU for each size."""
    gpus = [
        {
            "uuid": uuid(index),
            "name": f"Fake {mebibytes} MiB",
            "pci_bus_id": f"00000000:{index + 1:02X}:00.0",
            "minor_number": index,
            "compute_capability": [8, 6],
            "memory": {"total": mebibytes * MIB, "reserved": 256 * MIB},
            "temperature_c": 38,
            "power_mw": 21_000,
        }
        for index, mebibytes in enumerate(gpus_mib)
    ]
    versions = {"driver_version": "580.00-fake", "nvml_version": "13.580.00-fake", "cuda_driver_version": 13_000}
    return {**versions, "gpus": gpus}


def script(**more):
    """An engine slow enough to be met in mid-stream."""
    return {"tokens": 4000, "token_delay_us": 4000, "first_token_delay_ms": 20, **more}


class Machine:
    """A machine that has fake GPUs and the scripted engine; below a folder of its own."""

    def __init__(self, folder, gpus_mib=(24_576, 12_288), engine=None):
        self.folder, self.programs = folder, os.environ[PROGRAMS]
        self.report_file = os.path.join(folder, "report.json")
        self.runs = os.path.join(folder, "runs")
        os.mkdir(self.runs)
        self._write("gpus.json", driver(*gpus_mib))
        self._write("script.json", engine or script())

    def _write(self, name, value):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            json.dump(value, file)

    def command(self, *more, engine=None):
        """gpu-check with sizes for a quick run; with the scripted engine unless told otherwise."""
        engine = engine or ("--llama-server", os.path.join(self.programs, "scripted-engine"))
        library = os.path.join(self.programs, "libfake_nvml.so")
        return [
            sys.executable, ENTRY, "--binaries", self.programs, "--report", self.report_file,
            *engine, "--nvml-library", library,
            "--env", f"FAKE_NVML_FILE={self.folder}/gpus.json", "--env", f"SCRIPTED_ENGINE_SCRIPT={self.folder}/script.json",
            "--gpu-lock-dir", os.path.join(self.folder, "locks"), "--work-dir", self.runs,
            "--model-mib", "8", "--slots", "4", "--tokens", "48", "--repeats", "1", "--wait", "60", "--free-within", "30", *more,
        ]  # fmt: skip

    def check(self, *more, engine=None, path=None):
        """Runs gpu-check; gives its exit status, its report and what it said."""
        environment = {**os.environ, "PATH": path or os.environ["PATH"]}
        command = self.command(*more, engine=engine)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        return done.returncode, self.report(), done.stderr

    def report(self):
        with open(self.report_file, encoding="utf-8") as file:
            return json.load(file)


class Toolkit:
    """A source tree, and programs in place of cmake and nvcc: what they build is the scripted engine."""

    def __init__(self, folder, scripted_engine, capabilities="compute_86"):
        self.tree, self.programs = os.path.join(folder, "llama.cpp"), os.path.join(folder, "toolkit")
        os.makedirs(os.path.join(self.tree, "tools", "server"))
        os.mkdir(self.programs)
        with open(os.path.join(self.tree, "tools", "server", "CMakeLists.txt"), "w", encoding="utf-8"):
            pass
        self.asked = os.path.join(self.programs, "asked")
        program(self.programs, "nvcc", f'echo "Cuda compilation tools, release 13.0, V13.0.1"; echo {capabilities}')
        program(self.programs, "c++", "exit 0")
        program(self.programs, "cmake", CMAKE.format(asked=self.asked, engine=scripted_engine))
        self.path = f"{self.programs}:{os.environ['PATH']}"

    def command_lines(self):
        with open(self.asked, encoding="utf-8") as file:
            return file.read().splitlines()


CMAKE = """case "$1" in
--version) echo "cmake version 3.31.6"; exit 0;;
--build) mkdir -p "$2/bin"; cp "{engine}" "$2/bin/llama-server";;
*) mkdir -p "$4";;
esac
echo "$@" >> "{asked}"
"""


def program(folder, name, body):
    """An executable shell script."""
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\n{body}\n")
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
    return path
