"""What the steps share: the system, the GPU as NVML shows it, the models, and the questions that are asked again and again."""

import threading
import time
from typing import NamedTuple, Optional

from . import procs
from .grammar import StreamCheck
from .nvml import NvmlError
from .report import CheckFailed
from .system import POOL, wait_until
from .wire import WireError

SECONDS = 60.0
# What a driver may keep, or other programs take, meanwhile.
SLACK = 128 << 20
PROMPT = "the moon and the river were in the night and you have a lamp which is on the table of stone "


class Model(NamedTuple):
    """A model file. `weights`: what is on the GPU at least, bytes; None where only its header tells."""

    name: str
    path: str
    weights: Optional[int]

    @property
    def reference(self):
        return f"file:{self.path}"


class Bench:
    """One run."""

    def __init__(self, options):
        self.options, self.folder = options, None
        self.system, self.ground, self.engine = None, None, None
        # The product looks at GPUs from time to time; so long after a change it must say what NVML says.
        self.agree_seconds = 10.0
        # Tokens per second of one stream, by how many run at once, as measured.
        self.models, self.base_used, self.speeds = [], 0, {}

    @property
    def nvml(self):
        return self.ground.nvml

    @property
    def gpu(self):
        return self.ground.gpu

    # The pool

    def pool(self):
        return self.system.api().get(f"/v1/pools/{POOL}")

    def replica(self):
        """The engine that serves."""
        pool = self.pool()
        serving = [replica for replica in pool["replicas"] if replica["state"] == "ready"]
        if not serving:
            raise CheckFailed(f"no engine of the pool is ready: {_health(pool)}")
        return serving[0]

    def engine_log(self):
        """The engine's own log, through the orchestrator; empty where there is none."""
        answer = self.system.api().call("GET", f"/v1/pools/{POOL}/logs?tail=400")
        return answer.json()["lines"] if answer.status == 200 else []

    def wait_ready(self, what="the pool to be ready", also=lambda pool, replica: True):
        """Waits until the pool is ready; ends at once when it says that it needs a person."""

        def look():
            pool = self._pool_or_none()
            serving = [replica for replica in pool["replicas"] if replica["state"] == "ready"] if pool else []
            if pool and any(replica["state"] == "failed" for replica in pool["replicas"]):
                raise CheckFailed(f"the engine does not start: {_health(pool)}", pool["health"].get("hint"))
            ready = pool and pool["health"]["ready"] and serving and also(pool, serving[0])
            return (pool if ready else None), pool and _health(pool)

        return wait_until(what, self.options.wait, look)

    def _pool_or_none(self):
        try:
            return self.pool()
        except WireError:
            return None

    def operate(self, kind, body):
        """Begins an operation and waits until it is over; gives the pool, whose health tells how it ended."""
        operation = self.begin(kind, body)
        return self.over(operation)

    def begin(self, kind, body):
        answer = self.system.api().call("POST", f"/v1/pools/{POOL}/{kind}", body)
        if answer.status != 202:
            raise CheckFailed(f"{kind}: {answer.status} {answer.body[:500].decode(errors='replace')}")
        return answer.json()["operation_id"]

    def over(self, operation):
        def look():
            pool = self.pool()
            last = pool["health"].get("last_operation") or {}
            return (pool if last.get("operation_id") == operation and last["state"] != "running" else None), last

        return wait_until("the operation to be over", self.options.wait, look)

    def wait_idle(self, seconds):
        """Waits until the pool has all its slots and the engine works on none; gives how long that took, seconds."""
        started = time.monotonic()
        engine = self.system.engine_api(self.replica())

        def look():
            pool = self.pool()
            busy = sum(slot["is_processing"] for slot in engine.get("/slots"))
            idle = pool["slots_free"] == pool["slots_total"] and not busy
            return idle, {"slots_free": pool["slots_free"], "slots_total": pool["slots_total"], "busy_in_engine": busy}

        wait_until("every slot to be free", seconds, look, pause=0.005)
        return time.monotonic() - started

    # Tasks

    def submit(self, tokens, model=None, **more):
        """Admits a task that generates so many tokens; gives its receipt."""
        body = {"model_ref": (model or self.models[0]).name, "prompt": PROMPT, "max_tokens": tokens, "kv_hint": "cold", **more}
        answer = self.system.api().call("POST", "/v1/tasks", body)
        if answer.status != 202:
            raise CheckFailed(f"a task is refused: {answer.status} {answer.body[:500].decode(errors='replace')}")
        return answer.json()

    def open(self, receipt, last_id=None):
        return self.system.api().stream(receipt["stream_url"], last_id=last_id)

    def run(self, tokens, model=None, **more):
        """A whole task; gives its checked stream, which has ended as asked for."""
        return ended_well(StreamCheck().whole(self.open(self.submit(tokens, model, **more))))

    def begun(self, tokens, at_least=4, **more):
        """A task whose stream has some tokens; gives receipt, stream and checker."""
        receipt = self.submit(tokens, **more)
        stream, check = self.open(receipt), StreamCheck()
        while len(check.texts) < at_least:
            event = stream.next()
            if event is None:
                raise CheckFailed(f"the stream ended after {len(check.texts)} tokens")
            check.take(event)
            if check.terminal:
                raise CheckFailed(f"the task ended too early: {check.terminal}")
        return receipt, stream, check

    @property
    def longest(self):
        """As many tokens as a slot's context has room for: for tasks that are cut off."""
        return self.options.ctx - 512

    def lasting(self, seconds, at_once=1):
        """Tokens that take about so long, by the speed measured before."""
        speed = self.speeds.get(at_once) or min(self.speeds.values(), default=50)
        return max(32, min(self.longest, int(speed * seconds)))

    # The GPU

    def used(self):
        """Bytes in use on the GPU."""
        return self.nvml.memory(self.gpu.uuid).used

    def wait_memory_back(self, seconds=SECONDS):
        """Waits until the GPU has what it had before the system was started; gives the seconds that took."""
        started = time.monotonic()

        def look():
            used, ours = self.used(), self.ours_on_gpu()
            return used <= self.base_used + SLACK and not ours, {"used": used, "base": self.base_used, "ours": ours}

        wait_until("the GPU's memory to be free again", seconds, look)
        return time.monotonic() - started

    def agrees(self, what, said):
        """Waits until what the product says and NVML does are one within the slack; `said` gives both, bytes."""

        def look():
            product, nvml = said()
            return product is not None and abs(product - nvml) <= SLACK, {"product": product, "nvml": nvml}

        wait_until(f"{what} to be what NVML says", self.agree_seconds, look)

    def watch(self):
        """Watches the GPU's memory and processes as long as it is entered."""
        return Watch(self)

    def ours_on_gpu(self):
        """Processes of this run that hold memory on any GPU."""
        ours = set(procs.of_folder(self.folder))
        return sorted({pid for gpu in self.nvml.gpus() for pid in self.nvml.processes(gpu.uuid)} & ours)

    def wait_gone(self, pid, seconds=SECONDS):
        """Waits until a process has ended and NVML does not list it; gives the seconds that took."""
        started = time.monotonic()

        def look():
            listed = pid in self.nvml.processes(self.gpu.uuid)
            return not listed and not procs.runs(pid), {"pid": pid, "runs": procs.runs(pid), "on_gpu": listed}

        wait_until(f"process {pid} to be gone from the machine and the GPU", seconds, look, pause=0.005)
        return time.monotonic() - started


class Watch:
    """The least and the most memory in use, bytes, and processes that NVML lists and that this machine does not know."""

    def __init__(self, bench):
        self._bench, self._over = bench, threading.Event()
        self.lowest = self.highest = bench.used()
        self.strangers, self._unknown, self._error = set(), set(), None
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._over.set()
        self._thread.join()
        if self._error and not kind:
            raise self._error

    def _watch(self):
        try:
            self._look_on()
        except NvmlError as error:
            self._error = error

    def _look_on(self):
        while not self._over.wait(0.01):
            used = self._bench.used()
            self.lowest, self.highest = min(self.lowest, used), max(self.highest, used)
            unknown = {pid for pid in self._bench.nvml.processes(self._bench.gpu.uuid) if not procs.runs(pid)}
            # One that is listed twice has not merely ended a moment ago.
            self.strangers |= unknown & self._unknown
            self._unknown = unknown


def ended_well(check):
    """A stream that ended by its limit, with a count that fits what came."""
    kind, data = check.terminal
    if kind != "end" or check.outcome not in ("length", "stop"):
        raise CheckFailed(f"the task ended with {kind} {data}")
    if data["tokens_out"] < len(check.texts) or not check.texts:
        raise CheckFailed(f"{len(check.texts)} token events and tokens_out {data['tokens_out']}")
    return check


def expect(true, message, fix=None):
    if not true:
        raise CheckFailed(message, fix)


def _health(pool):
    replicas = [{key: replica.get(key) for key in ("state", "cause", "last_error", "restarts")} for replica in pool["replicas"]]
    health = pool["health"]
    return {key: health.get(key) for key in ("ready", "cause", "hint", "last_error")} | {"replicas": replicas}
