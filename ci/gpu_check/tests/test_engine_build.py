"""The build's command lines, with programs in place of cmake."""

import os
import tempfile
import unittest

from gpu_check.engine_build import build
from gpu_check.nvml import Gpu
from gpu_check.preflight import Tools
from gpu_check.report import CheckFailed, Notes
from gpu_check.tests.fakes import program

GPU = Gpu(0, "GPU-fake", "Fake", "8.9", False)
BUILDS = """echo "$@" >> "$(dirname "$0")/asked"
case "$1" in --build) mkdir -p "$2/bin"; cp "$0" "$2/bin/llama-server";; *) mkdir -p "$4";; esac"""


class Build(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.notes = folder.name, Notes()
        self.into = os.path.join(self.folder, "build")

    def build(self, body):
        tools = Tools(program(self.folder, "cmake", body), "/usr/local/cuda/bin/nvcc")
        return build("/source", self.into, tools, GPU, self.notes)

    def test_only_the_server_is_built_for_this_gpu_and_nothing_is_fetched(self):
        server = self.build(BUILDS)
        self.assertTrue(os.access(server, os.X_OK))
        with open(os.path.join(self.folder, "asked"), encoding="utf-8") as file:
            configure, make = file.read().splitlines()
        self.assertTrue(configure.startswith(f"-S /source -B {self.into} "), configure)
        wanted = ("GGML_CUDA=ON", "CMAKE_CUDA_ARCHITECTURES=89", "CMAKE_CUDA_COMPILER=/usr/local/cuda/bin/nvcc")
        for setting in (*wanted, "LLAMA_BUILD_UI=OFF", "LLAMA_USE_PREBUILT_UI=OFF", "LLAMA_CURL=OFF", "LLAMA_OPENSSL=OFF"):
            self.assertIn(f"-D{setting}", configure.split())
        self.assertIn("--target llama-server", make)

    def test_a_build_that_fails_is_told_with_its_last_lines(self):
        with self.assertRaisesRegex(CheckFailed, "ended with 3"):
            self.build("echo no CUDA compiler; exit 3")
        self.assertIn("no CUDA compiler", self.notes.evidence["last_lines"])

    def test_a_build_that_leaves_no_server_is_told(self):
        with self.assertRaisesRegex(CheckFailed, "no .*llama-server"):
            self.build("exit 0")
