"""Steps of what a pool serves: a reload, a reload to a file that is no model, a drain; and the end of everything."""

import threading
import time

from . import procs
from .bench import SLACK, ended_well, expect
from .grammar import StreamCheck
from .system import wait_until


def reload(bench, notes):
    """The second model comes in place of the first one; a stream that runs meanwhile ends well."""
    first, second = bench.models[:2]
    before = bench.replica()
    _, stream, check = bench.begun(bench.lasting(3))
    started = time.monotonic()
    operation = bench.begin("reload", {"new_model_ref": second.reference, "model_id": second.name})
    errors = []
    reader = threading.Thread(target=_read_on, args=(check, stream, errors))
    reader.start()
    pool = bench.over(operation)
    reloaded = time.monotonic() - started
    reader.join()
    last = pool["health"]["last_operation"]
    notes.saw(operation=last, first=first.name, second=second.name, old_pid=before["pid"])
    notes.measured(reload_s=reloaded)
    expect(last["state"] == "succeeded", f"the reload has failed: {last}")
    if errors:
        raise errors[0]
    serves = bench.wait_ready("the second model to be ready")["model_id"]
    expect(serves == second.name, f"the pool serves {serves}")
    bench.wait_gone(before["pid"])
    _holds(bench, second, notes)
    bench.run(bench.options.tokens, second)


def _read_on(check, stream, errors):
    try:
        ended_well(check.whole(stream))
    except Exception as error:
        errors.append(error)


def _holds(bench, model, notes):
    pid = bench.replica()["pid"]
    held = bench.nvml.processes(bench.gpu.uuid)
    notes.saw(new_pid=pid, new_engine_holds_bytes=held.get(pid), weight_bytes=model.weights)
    expect(pid in held, "NVML does not list the new engine")
    enough = held[pid] is None or model.weights is None or held[pid] >= model.weights
    expect(enough, f"the new engine holds {held[pid]} bytes and its weights are {model.weights}")


def reload_broken(bench, notes):
    """A reload to a file that is no model goes back: the pool serves what it served."""
    second = bench.models[1]
    broken = bench.system.path("models", "broken.gguf")
    with open(broken, "wb") as file:
        file.write(b"this is no model" * 4096)
    started = time.monotonic()
    pool = bench.operate("reload", {"new_model_ref": f"file:{broken}", "model_id": "broken"})
    last = pool["health"]["last_operation"]
    serves = bench.wait_ready("the pool to serve again")["model_id"]
    notes.saw(operation=last, serves=serves)
    notes.measured(served_again_s=time.monotonic() - started)
    expect(last["state"] == "failed" and last.get("reason"), f"the reload ended as {last}")
    expect(serves == second.name, f"the pool serves {serves}")
    bench.run(bench.options.tokens, second)


def drain(bench, notes):
    """A drain lets what runs finish and admits nothing; the memory comes back; a load serves again."""
    second = bench.models[1]
    pid = bench.replica()["pid"]
    receipt, stream, check = bench.begun(bench.lasting(2), model=second)
    started = time.monotonic()
    operation = bench.begin("drain", {"deadline_ms": 60_000})
    body = {"model_ref": second.name, "prompt": "x", "max_tokens": 1}
    refused = bench.system.api().call("POST", "/v1/tasks", body)
    ended_well(check.whole(stream))
    last = bench.over(operation)["health"]["last_operation"]
    drained = time.monotonic() - started
    bench.wait_gone(pid)
    back = bench.wait_memory_back()
    notes.saw(operation=last, refused_status=refused.status, task=receipt["task_id"])
    notes.measured(drained_s=drained, memory_back_s=back)
    expect(refused.status == 503, f"a task during the drain is answered {refused.status}")
    expect(last["state"] == "succeeded", f"the drain ended as {last}")
    started = time.monotonic()
    last = bench.operate("load", {})["health"]["last_operation"]
    expect(last["state"] == "succeeded", f"the load ended as {last}")
    bench.wait_ready()
    notes.measured(loaded_again_s=time.monotonic() - started)
    ended_well(StreamCheck().whole(bench.open(bench.submit(bench.options.tokens, second))))


def stop(bench, notes):
    """SIGTERM: engines go on without their daemon unless it is told to end them; then nothing is left, on the machine or the GPU."""
    system, before = bench.system, bench.replica()
    statuses = {"pool-managerd, engines kept": system.node.stop()}
    expect(procs.runs(before["pid"]), "the engine has ended with its daemon, which was to keep it")
    system.configure(bench.gpu, bench.engine, bench.models, keep_engines=False)
    system.start_node()

    def look():
        node = system.node_api().get("/v1/pools/gpu-check")
        return [replica for replica in node["replicas"] if replica["state"] == "ready"], node["replicas"]

    after = wait_until("pool-managerd to have the engine again", bench.options.wait, look)[0]
    expect(after["pid"] == before["pid"], f"engine {after['pid']} serves and {before['pid']} was to be taken over")
    started = time.monotonic()
    statuses["pool-managerd"] = system.node.stop()
    statuses["orchestratord"] = system.orchestrator.stop()
    stopped = time.monotonic() - started
    gone, back = bench.wait_gone(before["pid"]), bench.wait_memory_back()
    left = {pid: procs.describe(pid) for pid in procs.of_folder(bench.folder)}
    notes.saw(exit_statuses=statuses, left=left, base_used_bytes=bench.base_used, used_bytes=bench.used())
    notes.measured(stopped_s=stopped, engine_gone_ms=1000 * gone, memory_back_ms=1000 * back)
    expect(set(statuses.values()) == {0}, f"the daemons ended with {statuses}")
    expect(not left, f"processes are left: {left}")
    expect(bench.used() <= bench.base_used + SLACK, "the GPU's memory did not come back")
