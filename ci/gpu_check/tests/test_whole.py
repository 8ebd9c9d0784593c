"""`ci/gpu-check` as a program, over the built daemons, the scripted engine and the fake NVML library."""

import os
import signal
import subprocess
import tempfile
import unittest

from gpu_check import procs
from gpu_check.tests.fakes import PROGRAMS, Machine, Toolkit, driver, program, script, uuid


@unittest.skipUnless(PROGRAMS in os.environ, f"{PROGRAMS} names no folder with the built programs")
class Whole(unittest.TestCase):
    def machine(self, **more):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Machine(folder.name, **more)

    def nothing_is_left(self, machine):
        left = {pid: procs.describe(pid) for pid in procs.of_folder(machine.runs)}
        self.assertEqual((left, os.listdir(machine.runs)), ({}, []))

    def step(self, report, name):
        return next(step for step in report["steps"] if step["name"] == name)

    def test_a_healthy_system_passes_every_step(self):
        machine = self.machine()
        toolkit = Toolkit(machine.folder, os.path.join(machine.programs, "scripted-engine"))
        status, report, said = machine.check("--gpu", "1", engine=("--llama-cpp", toolkit.tree), path=toolkit.path)
        self.assertEqual((status, report["verdict"], report["failed_steps"]), (0, "ok", []), said)
        self.assertEqual({step["status"] for step in report["steps"]}, {"ok"})
        self.assertIn("-DCMAKE_CUDA_ARCHITECTURES=86", toolkit.command_lines()[0])
        self.assertEqual(report["machine"]["versions"]["nvcc"], "13.0")
        self.assertEqual(report["machine"]["driver_version"], driver()["driver_version"])
        self.assertEqual(self.step(report, "residency")["evidence"]["cuda_visible_devices"], uuid(1))
        engine = self.step(report, "kill-pool-managerd")["evidence"]
        self.assertEqual(engine["before"]["pid"], engine["after"]["pid"])
        reason = self.step(report, "reload-broken")["evidence"]["operation"]["reason"]
        self.assertIn("model loading error", reason, "the engine's own last words")
        for figure in ("stream.ttft_ms", "concurrency.at_4_throughput_ratio", "kill-engine.ready_again_s", "reload.reload_s"):
            self.assertGreater(report["figures"][figure], 0, figure)
        self.nothing_is_left(machine)

    def test_an_engine_on_the_cpu_fails_and_is_told(self):
        machine = self.machine(engine=script(residency="absent"))
        status, report, _ = machine.check("--wait", "10")
        self.assertEqual((status, report["verdict"]), (1, "failed"))
        self.assertIn("ENGINE_NOT_ON_GPU", self.step(report, "ready")["error"])
        self.assertEqual(self.step(report, "stream")["status"], "skipped")
        self.assertTrue(report["daemons_said_last"]["pool-managerd.log"])
        self.nothing_is_left(machine)

    def test_an_interrupt_ends_everything_and_keeps_what_was_found(self):
        machine = self.machine()
        with subprocess.Popen(machine.command(), stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr:
                if line.startswith("determinism"):
                    process.send_signal(signal.SIGINT)
                    break
            process.communicate(timeout=60)
        report = machine.report()
        self.assertEqual((process.returncode, report["verdict"]), (130, "interrupted"))
        self.assertEqual((self.step(report, "stream")["status"], report["steps"][-1]["status"]), ("ok", "interrupted"))
        self.nothing_is_left(machine)

    def refused(self, words, fix, *more, engine=None, path=None, **given):
        machine = self.machine(**given)
        status, report, said = machine.check(*more, engine=engine, path=path)
        self.assertEqual((status, report["verdict"]), (3, "refused"), said)
        (step,) = report["steps"]
        self.assertIn(words, step["error"])
        self.assertIn(fix, step["fix"])
        self.assertIn(step["fix"], said)
        self.nothing_is_left(machine)

    def test_a_machine_without_a_driver_is_refused_with_what_to_do(self):
        self.refused("no NVIDIA driver answers", "install the NVIDIA driver", "--nvml-library", "/nowhere/libnvidia-ml.so.1")
        self.refused("no NVIDIA driver answers", "install the NVIDIA driver", "--env", "FAKE_NVML_FILE=/nowhere/gpus.json")

    def test_a_gpu_that_is_full_or_absent_is_refused(self):
        self.refused("MiB free", "end other programs", gpus_mib=(1024,))
        self.refused("no GPU that is 7", "nvidia-smi -L", "--gpu", "7")
        self.refused("no GPU", "nvidia-smi -L", gpus_mib=())

    def test_a_toolkit_that_is_too_old_for_the_gpu_or_absent_is_refused(self):
        machine = self.machine()
        old = Toolkit(machine.folder, "/bin/true", capabilities="compute_52")
        tree = ("--llama-cpp", old.tree)
        self.refused("does not compile for compute capability 8.6", "newer CUDA toolkit", engine=tree, path=old.path)
        os.remove(os.path.join(old.programs, "cmake"))
        self.refused("no cmake", "install cmake", engine=tree, path=old.programs)
        self.refused("no source tree", "CMakeLists.txt", engine=("--llama-cpp", machine.folder), path=old.path)

    def test_everything_that_is_missing_is_told_at_once(self):
        machine = self.machine()
        model = program(machine.folder, "model.gguf", "")
        self.refused("is no GGUF file", "name a GGUF file", "--model", model)
        self.refused("cannot be run", "cargo build --release", "--binaries", machine.folder, "--model", model)
