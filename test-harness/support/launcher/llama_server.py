"""llama.cpp's HTTP server with llama-server's command line, for test machines without a GPU.

The package xllamacpp carries the real server as a Python extension. This launcher gives it the
flags that a supervisor passes to `llama-server`, so that it can be supervised like the real binary.
What belongs to a GPU (-dev, -ngl, the splits) is accepted, dropped, and announced as dropped on
stderr. Nothing is answered on the server's behalf: without a GPU no offload is claimed.
"""

import json
import os
import signal
import sys

GPU_FLAGS = {
    "-dev", "--device", "-ngl", "--gpu-layers", "--n-gpu-layers", "-sm", "--split-mode",
    "-mg", "--main-gpu", "-ts", "--tensor-split", "-fitt", "--fit-target", "-fitc", "--fit-ctx",
}  # fmt: skip

# What a driver keeps for any program with a context.
CONTEXT_BYTES = 300 << 20

# Flags that change nothing here: the log has no colours, and nothing is ever downloaded.
IGNORED = {"--offline", "--log-timestamps", "--log-prefix", "--jinja", "-cb", "--cont-batching"}
IGNORED_WITH_VALUE = {"--log-colors"}

SWITCHES = {
    "--metrics": ("endpoint_metrics", True),
    "--props": ("endpoint_props", True),
    "--slots": ("endpoint_slots", True),
    "--no-slots": ("endpoint_slots", False),
    "--ui": ("ui", True),
    "--webui": ("ui", True),
    "--no-ui": ("ui", False),
    "--no-webui": ("ui", False),
    "-kvu": ("kv_unified", True),
    "--kv-unified": ("kv_unified", True),
    "-no-kvu": ("kv_unified", False),
    "--no-kv-unified": ("kv_unified", False),
    "-nocb": ("cont_batching", False),
    "--no-cont-batching": ("cont_batching", False),
    "--cache-prompt": ("cache_prompt", True),
    "--no-cache-prompt": ("cache_prompt", False),
    "--context-shift": ("ctx_shift", True),
    "--no-context-shift": ("ctx_shift", False),
    "--no-warmup": ("warmup", False),
    "--log-jsonl": ("log_json", True),
    "--embedding": ("embedding", True),
    "--embeddings": ("embedding", True),
}

# Scores come from the machinery of vectors, with the pooling that ranks.
RERANKING = {"--rerank", "--reranking"}

POOLINGS = {
    "none": "LLAMA_POOLING_TYPE_NONE",
    "mean": "LLAMA_POOLING_TYPE_MEAN",
    "cls": "LLAMA_POOLING_TYPE_CLS",
    "last": "LLAMA_POOLING_TYPE_LAST",
    "rank": "LLAMA_POOLING_TYPE_RANK",
}

NUMBERS = {
    "--port": "port",
    "-c": "n_ctx",
    "--ctx-size": "n_ctx",
    "-np": "n_parallel",
    "--parallel": "n_parallel",
    "-b": "n_batch",
    "--batch-size": "n_batch",
    "-ub": "n_ubatch",
    "--ubatch-size": "n_ubatch",
    "-lv": "verbosity",
    "--verbosity": "verbosity",
    "--log-verbosity": "verbosity",
    "--threads-http": "n_threads_http",
    "--sse-ping-interval": "sse_ping_interval",
    "-cram": "cache_ram_mib",
    "--cache-ram": "cache_ram_mib",
    "--cache-reuse": "n_cache_reuse",
    "--sleep-idle-seconds": "sleep_idle_seconds",
}

FLASH_ATTENTION = {
    "on": "LLAMA_FLASH_ATTN_TYPE_ENABLED",
    "off": "LLAMA_FLASH_ATTN_TYPE_DISABLED",
    "auto": "LLAMA_FLASH_ATTN_TYPE_AUTO",
}


OTHERS_WITH_VALUE = {
    "-m", "--model", "-a", "--alias", "--host", "--api-key", "--api-key-file", "--fit", "-fit",
    "-fa", "--flash-attn", "--pooling", "--slot-save-path", "-t", "--threads",
}  # fmt: skip

WITH_VALUE = GPU_FLAGS | IGNORED_WITH_VALUE | set(NUMBERS) | OTHERS_WITH_VALUE


class Refused(Exception):
    """The command line is wrong; the text is llama-server's."""


def tell(line):
    print(line, file=sys.stderr, flush=True)


def refused(flag, reason):
    return Refused(f'error while handling argument "{flag}": {reason}\nusage:\n{flag}\nto show complete usage, run with -h')


def number(flag, text):
    try:
        return int(text)
    except ValueError:
        raise refused(flag, "stoi") from None


def keys_in(flag, path):
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    except OSError:
        raise refused(flag, f"error: failed to open file '{path}'") from None


def choice(flag, table, text):
    if text not in table:
        raise refused(flag, f"error: unknown value for {flag}: '{text}'")
    return table[text]


def set_value(engine, params, flag, text):
    """Applies a flag that has a value."""
    if flag in NUMBERS:
        setattr(params, NUMBERS[flag], number(flag, text))
    elif flag in ("-m", "--model"):
        params.model.path = text
    elif flag in ("-a", "--alias"):
        params.model_alias = set(text.split(","))
    elif flag == "--host":
        params.hostnames = [text]
    elif flag == "--api-key":
        params.api_keys = params.api_keys + text.split(",")
    elif flag == "--api-key-file":
        params.api_keys = params.api_keys + keys_in(flag, text)
    elif flag in ("--fit", "-fit"):
        params.fit_params = choice(flag, {"on": True, "off": False}, text)
    elif flag in ("-fa", "--flash-attn"):
        name = choice(flag, FLASH_ATTENTION, text)
        params.flash_attn_type = getattr(engine.llama_flash_attn_type, name)
    elif flag == "--pooling":
        params.pooling_type = getattr(engine.llama_pooling_type, choice(flag, POOLINGS, text))
    elif flag == "--slot-save-path":
        params.slot_save_path = os.path.join(text, "")
    else:
        params.cpuparams.n_threads = number(flag, text)


def read_flags(engine, params, arguments):
    """Applies all flags; returns those that were dropped because they need a GPU."""
    rest, dropped = iter(arguments), []
    for flag in rest:
        if flag in IGNORED:
            continue
        if flag in SWITCHES:
            setattr(params, *SWITCHES[flag])
            continue
        if flag in RERANKING:
            params.embedding = True
            params.pooling_type = engine.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
            continue
        if flag not in WITH_VALUE:
            raise Refused(f"error: invalid argument: {flag}")
        text = next(rest, None)
        if text is None:
            raise refused(flag, "expected value for argument")
        if flag in GPU_FLAGS:
            dropped.append(f"{flag} {text}")
        elif flag not in IGNORED_WITH_VALUE:
            set_value(engine, params, flag, text)
    return dropped


def defaults(params, arguments):
    """Defaults of llama-server where those of the package differ."""
    params.port = 8080
    if not {"-np", "--parallel"} & set(arguments):
        params.n_parallel = 4
        params.kv_unified = True
    keys = os.environ.get("LLAMA_API_KEY")
    if keys:
        params.api_keys = keys.split(",")


def stop(_signal, _frame):
    """As llama-server does: open streams are cut, the exit code is 0."""
    tell("llama_server.py: told to stop, exiting")
    os._exit(0)


def show_to_fake_nvml(model):
    """Where there is no driver, a supervisor's look for this process on the GPUs of its mask is answered by the fake NVML.

    The file says what a CUDA build would hold. It proves nothing about a GPU, and no real NVML reads it.
    """
    control = os.environ.get("FAKE_NVML_FILE")
    mask = [uuid for uuid in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if uuid]
    if not control or not mask:
        return
    with open("/proc/self/stat") as stat:
        started = int(stat.read().rsplit(")", 1)[1].split()[19])
    held = CONTEXT_BYTES + -(-os.path.getsize(model) // len(mask))
    folder = control + ".residents"
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, str(os.getpid()))
    with open(path + ".new", "w") as file:
        json.dump({"started_ticks": started, "held": {uuid: held for uuid in mask}}, file)
    os.rename(path + ".new", path)


def main(arguments):
    # Before the import, which takes a second: a supervisor may change its mind at once.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    import xllamacpp as engine

    if "--version" in arguments:
        build = engine.BUILD_INFO
        print(f"version: xllamacpp {engine.__version__} (build {build['build_number']}, commit {build['commit']})")
        print(f"built with {build['compiler']} for {build['build_target']}")
        return 0
    params = engine.CommonParams()
    defaults(params, arguments)
    try:
        dropped = read_flags(engine, params, arguments)
    except Refused as refusal:
        tell(refusal)
        return 1
    if not os.access(params.model.path, os.R_OK):
        tell(f"gguf_init_from_file: failed to open GGUF file '{params.model.path}'")
        tell("srv  llama_server: exiting due to model loading error")
        return 1
    if dropped:
        tell(f"llama_server.py: no GPU here, dropped: {', '.join(dropped)}; the model runs on the CPU of this test machine")
    try:
        server = engine.Server(params)
    except RuntimeError as error:
        tell(f"llama_server.py: {error}")
        return 1
    show_to_fake_nvml(params.model.path)
    tell(f"llama_server.py: serving on {server.listening_address}")
    while True:
        signal.pause()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # The extension's threads need not be waited for: nothing has been served.
    os._exit(code)
