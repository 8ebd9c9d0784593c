"""What this machine must have before anything is started: each finding comes with what to do about it. Only looks."""

import os
import platform
import re
import shutil
import subprocess
from typing import NamedTuple, Optional

from .nvml import Nvml, NvmlError
from .report import CheckFailed

PROGRAMS = ("orchestratord", "pool-managerd", "llama-orch")
CUDA_FOLDERS = ("/usr/local/cuda", "/opt/cuda")
# Beside its weights an engine needs a CUDA context, the KV cache and work space.
ENGINE_MIB = 1536
OLDEST_CMAKE = (3, 18)


class Tools(NamedTuple):
    """Programs that build the engine."""

    cmake: str
    nvcc: str


class Ground(NamedTuple):
    """What was found."""

    nvml: Nvml
    gpu: "object"
    tools: Optional[Tools]


class Refused(CheckFailed):
    """This machine lacks something."""


def look(options, notes, machine):
    """Looks at everything and refuses once, with all findings."""
    problems = []
    nvml = _try(problems, lambda: _driver(options, machine))
    gpu = _try(problems, lambda: _choose(nvml, options, machine)) if nvml else None
    _try(problems, lambda: _programs(options, machine))
    tools = _try(problems, lambda: _tools(options, gpu, machine)) if options.llama_cpp else None
    if options.llama_server:
        _try(problems, lambda: _server(options, machine))
    for model in options.model:
        _try(problems, lambda model=model: _readable(model))
    _try(problems, lambda: _disk(options, notes))
    notes.saw(problems=[str(problem) for problem in problems])
    if problems:
        raise Refused("; ".join(map(str, problems)), "; ".join(problem.fix for problem in problems))
    notes.saw(gpu=gpu._asdict())
    return Ground(nvml, gpu, tools)


def machine_facts():
    """Facts that need no driver."""
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "python": platform.python_version(),
    }


def _try(problems, action):
    try:
        return action()
    except Refused as problem:
        problems.append(problem)
        return None


def _driver(options, machine):
    try:
        nvml = Nvml(options.nvml_library)
        machine["driver_version"], machine["cuda_version"] = nvml.driver_version(), nvml.cuda_version()
        return nvml
    except NvmlError as error:
        raise Refused(
            f"no NVIDIA driver answers: {error}",
            "install the NVIDIA driver (`nvidia-smi` must list the GPU); inside a container start it with its GPUs "
            "(`--gpus all`, `--device nvidia.com/gpu=all`) and the utility capability",
        ) from None


def _choose(nvml, options, machine):
    gpus = nvml.gpus()
    machine["gpus"] = [{**gpu._asdict(), "memory_total_mib": nvml.memory(gpu.uuid).total >> 20} for gpu in gpus]
    named = [gpu for gpu in gpus if options.gpu in (None, gpu.uuid, str(gpu.index))]
    if not named:
        asked = f" that is {options.gpu}" if options.gpu else ""
        raise Refused(f"the driver shows no GPU{asked}", "name one that `nvidia-smi -L` lists")
    gpu = max(named, key=lambda gpu: nvml.memory(gpu.uuid).free)
    if gpu.split:
        raise Refused(f"GPU {gpu.uuid} is split into instances (MIG)", "choose a whole GPU with --gpu")
    largest = max([os.path.getsize(model) >> 20 for model in options.model if os.path.exists(model)], default=options.model_mib)
    free, wanted = nvml.memory(gpu.uuid).free >> 20, largest + ENGINE_MIB
    if free < wanted:
        raise Refused(
            f"GPU {gpu.uuid} has {free} MiB free and {wanted} MiB are needed",
            "end other programs on it, choose another GPU with --gpu, or a smaller --model-mib or model",
        )
    return gpu


def _programs(options, machine):
    versions = machine.setdefault("versions", {})
    for name in PROGRAMS:
        program = os.path.join(options.binaries, name)
        versions[name] = first_line([program, "--version"])
        if versions[name] is None:
            raise Refused(f"{program} cannot be run", "build it: cargo build --release --workspace; then --binaries target/release")


def _server(options, machine):
    if not os.access(options.llama_server, os.X_OK):
        raise Refused(f"{options.llama_server} is no program", "name an executable llama-server that is built with CUDA")
    machine.setdefault("versions", {})["llama_server"] = first_line([options.llama_server, "--version"])


def _tools(options, gpu, machine):
    tree = options.llama_cpp
    if not os.path.isfile(os.path.join(tree, "tools", "server", "CMakeLists.txt")):
        raise Refused(f"{tree} is no source tree of llama.cpp", "name the folder that holds its CMakeLists.txt and tools/server")
    cmake, nvcc = shutil.which("cmake"), find_nvcc()
    if not cmake:
        raise Refused("there is no cmake", "install cmake 3.18 or newer")
    if not nvcc:
        raise Refused("there is no nvcc", "install the CUDA toolkit, or set CUDA_HOME to where it is")
    if not (shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")):
        raise Refused("there is no C++ compiler", "install g++")
    versions = machine.setdefault("versions", {})
    versions["cmake"], versions["nvcc"] = first_line([cmake, "--version"]), _release(nvcc)
    if _numbers(versions["cmake"]) < OLDEST_CMAKE:
        raise Refused(f"{versions['cmake']} is too old", "install cmake 3.18 or newer")
    _can_compile(nvcc, gpu)
    return Tools(cmake, nvcc)


def find_nvcc():
    """nvcc in PATH, else in the toolkit's usual places."""
    folders = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    places = [os.path.join(folder, "bin", "nvcc") for folder in (*folders, *CUDA_FOLDERS)]
    return shutil.which("nvcc") or next((place for place in places if os.access(place, os.X_OK)), None)


def _can_compile(nvcc, gpu):
    """A toolkit that is older than the card cannot compile for it."""
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=False)
    if gpu and listed.returncode == 0 and f"compute_{gpu.capability.replace('.', '')}" not in listed.stdout.split():
        raise Refused(
            f"this CUDA toolkit does not compile for compute capability {gpu.capability} ({gpu.name})", "install a newer CUDA toolkit"
        )


def _readable(model):
    try:
        with open(model, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise Refused(f"the model {model} cannot be read: {error.strerror}", "name a GGUF file") from None
    if magic != b"GGUF":
        raise Refused(f"the model {model} is no GGUF file", "name a GGUF file")


def _disk(options, notes):
    place = options.work_dir or os.environ.get("TMPDIR") or "/tmp"
    # A build with CUDA, and what is generated: a model and a half.
    wanted = (4096 if options.llama_cpp else 0) + 256 + (0 if len(options.model) == 2 else options.model_mib * 2)
    try:
        free = shutil.disk_usage(place).free >> 20
    except OSError as error:
        raise Refused(f"{place}: {error.strerror}", "name an existing folder with --work-dir") from None
    notes.saw(work_dir_free_mib=free)
    if free < wanted:
        raise Refused(f"{place} has {free} MiB free and {wanted} MiB are needed", "name another folder with --work-dir")


def first_line(command):
    """The first line a program says of itself; None when it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines and done.returncode == 0 else None


def _release(nvcc):
    done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"release ([\d.]+)", done.stdout)
    return found.group(1) if found else None


def _numbers(text):
    return tuple(int(number) for number in re.findall(r"\d+", text or "")[:2])
