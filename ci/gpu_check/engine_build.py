"""Builds llama.cpp's server with CUDA, out of its tree and without a network."""

import os
import subprocess

from .report import CheckFailed
from .system import last_lines

TARGET = "llama-server"
LAST_LINES = 40

# What only other programs need, or would be fetched. Options that a version does not know are ignored by cmake.
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_CUDA": "ON",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_CURL": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_BUILD_WEBUI": "OFF",
    "LLAMA_USE_PREBUILT_WEBUI": "OFF",
}


def build(tree, folder, tools, gpu, notes):
    """Builds for the compute capability of the GPU; gives the server's path."""
    os.makedirs(folder, exist_ok=True)
    log = os.path.join(folder, "build.log")
    settings = {**OPTIONS, "CMAKE_CUDA_COMPILER": tools.nvcc, "CMAKE_CUDA_ARCHITECTURES": gpu.capability.replace(".", "")}
    jobs = str(os.cpu_count() or 1)
    notes.saw(options=settings, jobs=jobs)
    _run([tools.cmake, "-S", tree, "-B", folder, *[f"-D{name}={value}" for name, value in settings.items()]], log, notes)
    _run([tools.cmake, "--build", folder, "--config", "Release", "--target", TARGET, "--parallel", jobs], log, notes)
    server = os.path.join(folder, "bin", TARGET)
    if not os.access(server, os.X_OK):
        raise CheckFailed(f"the build has left no {server}")
    return server


def _run(command, log, notes):
    with open(log, "ab") as out:
        out.write(f"$ {' '.join(command)}\n".encode())
        out.flush()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        notes.saw(last_lines=last_lines(log, LAST_LINES))
        raise CheckFailed(f"{' '.join(command[:2])} … ended with {done.returncode}", "see last_lines; with --keep the whole log stays")
