"""Checks that must fail: each is shown a system that is wrong in one way."""

import json
import unittest
from types import SimpleNamespace
from unittest import mock

from gpu_check import check_faults, check_serving
from gpu_check.bench import Bench, Model, ended_well
from gpu_check.grammar import StreamCheck
from gpu_check.nvml import Gpu
from gpu_check.report import CheckFailed, Notes
from gpu_check.wire import Event

MIB = 1 << 20
OURS, OTHER = Gpu(0, "GPU-ours", "Fake", "8.6", False), Gpu(1, "GPU-other", "Fake", "8.6", False)
PID = 4711


class Driver:
    """NVML that says what it is told."""

    def __init__(self, **processes):
        self._processes = processes

    def gpus(self):
        return [OURS, OTHER]

    def processes(self, uuid):
        return self._processes.get(uuid.replace("GPU-", ""), {})


def bench(driver, used=1500 * MIB, said=1200 * MIB, log=()):
    """A system whose engine has 1000 MiB of weights."""
    made = Bench(SimpleNamespace(ctx=2048, slots=1, tokens=8, free_within=1.0))
    made.ground = SimpleNamespace(nvml=driver, gpu=OURS)
    made.models = [Model("m", "/m.gguf", 1000 * MIB)]
    made.replica = lambda: {"pid": PID, "gpu_memory_bytes": said}
    made.agree_seconds = 0.0
    made.used, made.engine_log = (lambda: used), (lambda: list(log))
    return made


class Residency(unittest.TestCase):
    def judge(self, made, mask="GPU-ours"):
        with mock.patch.object(check_serving, "visible_devices", return_value=mask):
            check_serving.residency(made, Notes())

    def refused(self, words, *given, **more):
        with self.assertRaisesRegex(CheckFailed, words):
            self.judge(*given, **more)

    def test_an_engine_on_its_gpu_with_its_weights_passes(self):
        self.judge(bench(Driver(ours={PID: 1200 * MIB, 1: 50}), log=["load_tensors: offloaded 12/12 layers to GPU"]))

    def test_a_driver_that_tells_no_sizes_leaves_the_memory_as_a_whole(self):
        self.judge(bench(Driver(ours={PID: None})))
        self.refused("more in use than before", bench(Driver(ours={PID: None}), used=400 * MIB))

    def test_an_engine_elsewhere_or_nowhere_is_refused(self):
        self.refused("lists the engine on", bench(Driver()))
        self.refused("lists the engine on", bench(Driver(other={PID: 1200 * MIB})))
        self.refused("lists the engine on", bench(Driver(ours={PID: 1200 * MIB}, other={PID: MIB})))

    def test_a_context_without_the_weights_is_refused(self):
        self.refused("its weights are", bench(Driver(ours={PID: 300 * MIB})))
        self.refused("offloaded 3 of 12", bench(Driver(ours={PID: 1200 * MIB}), log=["offloaded 3/12 layers to GPU"]))

    def test_a_product_that_says_something_else_is_refused(self):
        self.refused("gpu_memory_bytes to be what NVML says", bench(Driver(ours={PID: 1200 * MIB}), said=300 * MIB))
        self.refused("CUDA_VISIBLE_DEVICES", bench(Driver(ours={PID: 1200 * MIB})), mask="GPU-ours,GPU-other")


def token(index):
    return Event("token", f"0.{index + 1}", json.dumps({"t": "w ", "i": index}), 0.0)


class Cut:
    """A stream that gives some events at once and others after the cancel's answer."""

    def __init__(self, at_once, later):
        self._at_once, self._later = at_once, later

    def arrived(self):
        return self._at_once

    def __iter__(self):
        return iter(self._later)


class Cancel(unittest.TestCase):
    def cancel(self, at_once, later, status=204):
        made = bench(Driver())
        check = StreamCheck().take_all([Event("started", "0.0", "{}", 0.0), token(0)])
        made.begun = lambda tokens: ({"task_id": "t"}, Cut(at_once, later), check)
        made.wait_idle = lambda seconds: 0.0
        answer = SimpleNamespace(status=status)
        made.system = SimpleNamespace(api=lambda: SimpleNamespace(call=lambda *_: answer))
        check_faults.cancel(made, Notes())

    def test_tokens_before_the_answer_are_right_and_those_after_it_are_not(self):
        end = Event("end", "0.9", '{"finish_reason": "canceled"}', 0.0)
        self.cancel([token(1)], [end])
        with self.assertRaisesRegex(CheckFailed, "1 tokens came after"):
            self.cancel([], [token(1), end])

    def test_another_end_or_answer_is_refused(self):
        canceled = Event("end", "0.9", '{"finish_reason": "canceled"}', 0.0)
        with self.assertRaisesRegex(CheckFailed, "ended as"):
            self.cancel([], [Event("end", "0.9", '{"finish_reason": "length"}', 0.0)])
        with self.assertRaisesRegex(CheckFailed, "answered 500"):
            self.cancel([], [canceled], status=500)


class Ends(unittest.TestCase):
    def test_an_end_must_count_what_came(self):
        events = [Event("started", "0.0", "{}", 0.0), token(0), token(1)]
        end = Event("end", "0.3", '{"finish_reason": "length", "tokens_out": 2}', 0.0)
        ended_well(StreamCheck().whole([*events, end]))
        for wrong in ('{"finish_reason": "length", "tokens_out": 1}', '{"finish_reason": "canceled", "tokens_out": 2}'):
            with self.assertRaises(CheckFailed):
                ended_well(StreamCheck().whole([*events, end._replace(data=wrong)]))
