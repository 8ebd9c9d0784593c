"""Steps of what goes wrong: a cancel, a client that leaves, and kill -9 of the engine and of each daemon, in mid-stream."""

import signal
import time

from . import procs
from .bench import SLACK, ended_well, expect
from .grammar import StreamCheck
from .system import wait_until
from .wire import WireError


def cancel(bench, notes):
    """No token after the answer, and the slot is free soon."""
    receipt, stream, check = bench.begun(bench.longest)
    asked = time.monotonic()
    answer = bench.system.api().call("POST", f"/v1/tasks/{receipt['task_id']}/cancel")
    answered = time.monotonic()
    check.take_all(stream.arrived())
    before = len(check.texts)
    check.whole(stream)
    bench.wait_idle(bench.options.free_within)
    free = time.monotonic() - answered
    notes.saw(status=answer.status, outcome=check.outcome, tokens_before=before, tokens_after=len(check.texts) - before)
    notes.measured(answer_ms=1000 * (answered - asked), slot_free_ms=1000 * free)
    expect(answer.status == 204, f"the cancel is answered {answer.status}")
    expect(len(check.texts) == before, f"{len(check.texts) - before} tokens came after the cancel's answer")
    expect(check.outcome == "canceled", f"the stream ended as {check.terminal}")


def client_gone(bench, notes):
    """A client that closes its connection cancels its task; the slot is free soon."""
    receipt, stream, _ = bench.begun(bench.longest)
    stream.close()
    free = bench.wait_idle(bench.options.free_within)
    state = bench.system.api().get(f"/v1/tasks/{receipt['task_id']}")["state"]
    notes.saw(state=state)
    notes.measured(slot_free_ms=1000 * free)
    expect(state == "canceled", f"the task is {state}")


def kill_engine(bench, notes):
    """An error ends the stream, the memory comes back, another engine serves."""
    before, used = bench.replica(), bench.used()
    _, stream, check = bench.begun(bench.longest)
    procs.send(before["pid"], signal.SIGKILL)
    killed = time.monotonic()
    check.whole(stream)
    told = time.monotonic() - killed
    bench.wait_gone(before["pid"])
    gone = time.monotonic() - killed
    with bench.watch() as watch:
        pool = bench.wait_ready("another engine to be ready", lambda pool, replica: replica["pid"] != before["pid"])
    back, after = time.monotonic() - killed, bench.replica()
    notes.saw(terminal=check.terminal, before=_short(before), after=_short(after), pool_generation=pool["health"]["generation"])
    notes.measured(stream_error_ms=1000 * told, gone_from_gpu_ms=1000 * gone, ready_again_s=back, lowest_used_mib=watch.lowest >> 20)
    kind, data = check.terminal
    expect(kind == "error" and data["code"] == "WORKER_RESET", f"the stream ended with {check.terminal}")
    expect(watch.lowest <= bench.base_used + SLACK, f"{watch.lowest} bytes stayed in use between the engines, {bench.base_used} before")
    expect(bench.used() <= used + SLACK, f"{bench.used()} bytes are in use now and {used} were before")
    bench.run(bench.options.tokens)


def kill_node(bench, notes):
    """kill -9 of pool-managerd: the engine and its stream go on, and the next run takes the same engine over."""
    before = bench.replica()
    _, stream, check = bench.begun(bench.lasting(3))
    bench.system.node.kill()
    came = len(check.texts)
    ended_well(check.whole(stream))
    expect(procs.runs(before["pid"]), "the engine has ended with its daemon")
    started = time.monotonic()
    bench.system.start_node()
    after = _taken_over(bench, before)
    notes.saw(before=_short(before), after=_short(after), tokens_after_the_kill=len(check.texts) - came)
    notes.measured(ready_again_s=time.monotonic() - started)
    bench.run(bench.options.tokens)


def _taken_over(bench, before):
    """Waits until the same start of the engine is served by the new run."""

    def look():
        node = bench.system.node_api().get("/v1/pools/gpu-check")
        ready = [replica for replica in node["replicas"] if replica["state"] == "ready"]
        return ready, node["replicas"]

    replica = wait_until("pool-managerd to have the engine again", bench.options.wait, look)[0]
    same = (replica["pid"], replica["generation"]) == (before["pid"], before["generation"])
    expect(same, f"{_short(replica)} serves and {_short(before)} was to be taken over")
    bench.wait_ready()
    return replica


def kill_orchestrator(bench, notes):
    """kill -9 of orchestratord: a task that ran and one that waited are found after its restart, and end."""
    engine = bench.replica()
    slots = bench.options.slots
    receipt, stream, check = bench.begun(bench.lasting(3, slots), seed=5)
    # Tasks for the other slots, and one that has to wait for one.
    others = [bench.submit(bench.lasting(3, slots), seed=seed) for seed in range(1, slots)]
    others.append(bench.submit(8))
    before = _states(bench, others)
    bench.system.orchestrator.kill()
    killed = time.monotonic()
    had = len(check.take_all(_until_cut(stream)).texts)
    expect(check.terminal is None, "the task had ended before orchestratord was killed: it was too short")
    bench.system.start_orchestrator()
    answering = time.monotonic() - killed
    states = _states(bench, [receipt, *others])
    ended_well(check.whole(bench.open(receipt, last_id=check.last_id)))
    resumed = time.monotonic() - killed
    for task in others:
        ended_well(StreamCheck().whole(bench.open(task)))
    bench.wait_ready()
    notes.saw(others_before=before, states_after_restart=states, last_id=check.last_id, resyncs=check.resyncs)
    notes.saw(tokens_before=had, tokens=len(check.texts))
    notes.measured(answering_again_ms=1000 * answering, resumed_stream_ended_s=resumed)
    expect(len(check.texts) > had or check.resyncs, "the stream did not go on")
    expect(bench.replica()["pid"] == engine["pid"], "the engine was started again")


def _states(bench, receipts):
    """Asking for a task that is not found fails."""
    return [bench.system.api().get(f"/v1/tasks/{receipt['task_id']}")["state"] for receipt in receipts]


def _until_cut(stream):
    """What still comes of a stream whose server is gone."""
    events = []
    try:
        for event in stream:
            events.append(event)
    except WireError:
        pass
    return events


def _short(replica):
    return {key: replica.get(key) for key in ("replica_id", "pid", "generation", "restarts")}
