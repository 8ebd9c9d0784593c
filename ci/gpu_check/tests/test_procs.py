"""Processes of a folder are found by where they work and what they name, and are ended."""

import os
import signal
import subprocess
import tempfile
import unittest

from gpu_check import procs

SLEEP = ["sleep", "600"]


class OfFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = os.path.realpath(folder.name)

    def start(self, command, **more):
        process = subprocess.Popen(command, **more)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        return process

    def test_they_are_found_and_ended_and_others_are_not(self):
        inside = os.path.join(self.folder, "inside")
        os.mkdir(inside)
        stubborn = "trap '' INT; while :; do sleep 1; done"
        ours = [
            self.start(SLEEP, cwd=inside),
            self.start(SLEEP, env={**os.environ, "STATE": f"{inside}/state"}),
            self.start(["sh", "-c", stubborn, f"{inside}/config"]),
        ]
        other = self.start(SLEEP, env={**os.environ, "STATE": f"{self.folder}-of-another/state"})
        found = procs.of_folder(self.folder)
        self.assertTrue({process.pid for process in ours} <= set(found), found)
        self.assertNotIn(other.pid, found)
        self.assertEqual(procs.end_all(self.folder, polite_seconds=0.2), [])
        self.assertEqual([process.wait() < 0 for process in ours], [True] * 3)
        self.assertTrue(procs.runs(other.pid))

    def test_one_that_has_ended_and_was_not_waited_for_does_not_run(self):
        process = self.start(SLEEP)
        self.assertTrue(procs.runs(process.pid))
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.assertFalse(procs.runs(process.pid))
