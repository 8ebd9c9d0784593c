"""Steps of a healthy system: it becomes ready, tells the truth about its GPU, is on it, streams, and repeats itself."""

import re
import time

from .bench import ended_well, expect
from .grammar import StreamCheck
from .report import CheckFailed

SEEDS = (7, 11)
PLACEMENT = ("offloaded", "buffer size", "CUDA devices", "compute capability")
LAST_LINES = 30
OTHER_NUMBERS = (
    "NVML lists processes by numbers that are none here: run this outside of the container, or with the host's (--pid=host)"
)


def ready(bench, notes):
    """Starts both daemons and waits for the pool."""
    bench.base_used = bench.used()
    system = bench.system
    system.configure(bench.gpu, bench.engine, bench.models)
    started = time.monotonic()
    system.start_orchestrator()
    system.start_node()
    with bench.watch() as watch:
        pool = _ready_or_why_not(bench, notes, watch)
    replica = bench.replica()
    notes.measured(until_ready_s=time.monotonic() - started, engine_load_ms=replica.get("load_ms"))
    notes.saw(pid=replica["pid"], engine_version=replica.get("engine_version"), slots=pool["slots_total"], ctx=pool["ctx_max"])
    expect(pool["slots_total"] == bench.options.slots, f"the pool has {pool['slots_total']} slots")


def _ready_or_why_not(bench, notes, watch):
    try:
        return bench.wait_ready()
    except CheckFailed as failed:
        notes.saw(engine_said_last=bench.engine_log()[-LAST_LINES:], most_memory_used=watch.highest, unknown_pids=sorted(watch.strangers))
        if watch.strangers:
            raise CheckFailed(str(failed), OTHER_NUMBERS) from None
        raise


def node_facts(bench, notes):
    """`GET /v1/node` against NVML."""
    node = bench.system.node_api().get("/v1/node")
    shown = {gpu["uuid"]: gpu for gpu in node["gpus"]}
    notes.saw(node={"driver": node.get("driver"), "gpus": node["gpus"]})
    for gpu in bench.nvml.gpus():
        expect(gpu.uuid in shown, f"the node does not show {gpu.uuid}")
        said, total = shown[gpu.uuid], bench.nvml.memory(gpu.uuid).total
        expect(said["memory_total_bytes"] == total, f"{gpu.uuid} has {total} bytes and the node says {said['memory_total_bytes']}")
        facts = (said["name"], said["compute_capability"], said["index"])
        expect(facts == (gpu.name, gpu.capability, gpu.index), f"the node says {facts} of {gpu}")
    expect(bench.nvml.driver_version() == node["driver"]["driver_version"], f"the node says driver {node['driver']}")
    bench.agrees("vram_used_bytes", lambda: (used_by_metric(bench), bench.used()))
    notes.saw(used_bytes=bench.used(), vram_used_bytes=used_by_metric(bench))


def used_by_metric(bench):
    """`vram_used_bytes` of the GPU, as pool-managerd's metrics say it."""
    text = bench.system.node_api().call("GET", "/metrics").body.decode(errors="replace")
    found = re.search(rf'^vram_used_bytes\{{[^}}]*device="{re.escape(bench.gpu.uuid)}"[^}}]*\}} (\S+)', text, re.MULTILINE)
    return float(found.group(1)) if found else None


def residency(bench, notes):
    """The engine's process holds its weights on its GPU, and nothing on any other."""
    replica = bench.replica()
    held = {gpu.uuid: bench.nvml.processes(gpu.uuid).get(replica["pid"], 0) for gpu in bench.nvml.gpus()}
    weights = bench.models[0].weights or weights_by_header(bench)
    more = bench.used() - bench.base_used
    notes.saw(pid=replica["pid"], held_bytes=held, product_says_bytes=replica.get("gpu_memory_bytes"), weight_bytes=weights)
    notes.measured(memory_more_than_before_mib=more >> 20, weights_mib=weights >> 20)
    listed = [uuid for uuid in held if replica["pid"] in bench.nvml.processes(uuid)]
    expect(listed == [bench.gpu.uuid], f"NVML lists the engine on {listed} and its mask is {bench.gpu.uuid}")
    mine = held[bench.gpu.uuid]
    if mine is not None:
        notes.measured(engine_holds_mib=mine >> 20)
        expect(mine >= weights, f"the engine holds {mine} bytes and its weights are {weights}")
        bench.agrees("gpu_memory_bytes", lambda: (bench.replica().get("gpu_memory_bytes"), mine))
    expect(more >= weights, f"the GPU has {more} bytes more in use than before, and the weights are {weights}")
    mask, log = visible_devices(replica["pid"]), placement_lines(bench)
    notes.saw(cuda_visible_devices=mask, engine_log=log)
    expect(mask == bench.gpu.uuid, f"the engine's CUDA_VISIBLE_DEVICES is {mask}")


def placement_lines(bench):
    """What the engine says of its devices and buffers; all its layers must be on a GPU, where it counts them."""
    log = [line for line in bench.engine_log() if any(word in line for word in PLACEMENT)]
    for done, of in re.findall(r"offloaded (\d+)/(\d+) layers", "\n".join(log)):
        expect(done == of, f"the engine has offloaded {done} of {of} layers")
    return log


def weights_by_header(bench):
    """What the product reads out of a model's header, where the model was not made here."""
    models = bench.system.node_api().get("/v1/pools/gpu-check").get("models", [])
    return next((model.get("weight_bytes") or 0 for model in models), 0)


def visible_devices(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        pairs = dict(pair.split(b"=", 1) for pair in file.read().split(b"\0") if b"=" in pair)
    return pairs.get(b"CUDA_VISIBLE_DEVICES", b"").decode()


def command(bench, notes):
    """`llama-orch` sees the pool."""
    said = bench.system.command("pools")
    shown = [{key: pool.get(key) for key in ("pool_id", "model_id", "slots_total", "slots_free")} for pool in said["pools"]]
    notes.saw(pools=shown)
    expect([pool["pool_id"] for pool in shown] == ["gpu-check"], f"`llama-orch pools` shows {shown}")


def stream(bench, notes):
    """One task alone: the grammar of its stream, its counts, its speed."""
    tokens = bench.options.tokens
    began = time.monotonic()
    receipt = bench.submit(tokens, seed=SEEDS[0])
    check = ended_well(StreamCheck().whole(bench.open(receipt)))
    end = check.terminal[1]
    notes.saw(receipt=receipt, started=check.started, end=end, text=check.text[:200])
    speed = end["tokens_out"] / (check.times[-1] - began)
    bench.speeds[1] = speed
    notes.measured(ttft_ms=1000 * (check.times[0] - began), tokens_per_s=speed, tokens=end["tokens_out"])
    expect(check.started["task_id"] == receipt["task_id"], "`started` names another task")
    expect(end["pool_id"] == "gpu-check" and end["seed"] == SEEDS[0], f"`end` says {end}")
    expect(end["tokens_in"] > 0 and end["model_id"] == bench.models[0].name, f"`end` says {end}")
    expect(check.outcome != "length" or end["tokens_out"] == tokens, f"{end['tokens_out']} tokens instead of {tokens}")
    task = bench.system.api().get(f"/v1/tasks/{receipt['task_id']}")
    expect(task["state"] == "completed", f"the task is {task['state']} afterwards")


def determinism(bench, notes):
    """The same seed twice gives the same text, alone on the engine; another seed gives another one."""
    texts = [bench.run(bench.options.tokens, seed=seed).text for seed in (SEEDS[0], SEEDS[0], SEEDS[1])]
    notes.saw(texts=[text[:200] for text in texts], deterministic_claimed=_claims(bench))
    expect(texts[0] == texts[1], "the same seed gave two texts")
    expect(texts[0] != texts[2], "two seeds gave the same text")


def _claims(bench):
    pools = bench.system.api().get("/v1/capabilities")["pools"]
    return [pool.get("deterministic") for pool in pools]
