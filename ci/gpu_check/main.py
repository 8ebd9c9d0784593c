"""The order of the steps, the folder of the run, and its end: whatever happens, every process is ended, the folder is removed
and the report is written."""

import os
import shutil
import signal
import sys
import tempfile

from . import check_faults, check_load, check_models, check_serving, engine_build, gguf, preflight
from .bench import Bench, Model
from .options import parse
from .report import CheckFailed, Report
from .system import System

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXITS = {"ok": 0, "failed": 1, "refused": 3, "interrupted": 130}

# Name, what is shown, the check. Each needs `ready`, and what is named below.
CHECKS = (
    ("node-facts", "what the node says of its GPUs is what NVML says", check_serving.node_facts),
    ("residency", "the engine holds its weights on its GPU and nothing on another", check_serving.residency),
    ("command", "llama-orch shows the pool", check_serving.command),
    ("stream", "a stream keeps to its grammar", check_serving.stream),
    ("determinism", "the same seed gives the same text", check_serving.determinism),
    ("concurrency", "many streams at once, and the same past the system", check_load.concurrency),
    ("cancel", "a cancel in mid-stream cuts it and frees the slot", check_faults.cancel),
    ("client-gone", "a client that leaves frees the slot", check_faults.client_gone),
    ("kill-engine", "kill -9 of the engine in mid-stream", check_faults.kill_engine),
    ("kill-pool-managerd", "kill -9 of pool-managerd in mid-stream", check_faults.kill_node),
    ("kill-orchestratord", "kill -9 of orchestratord in mid-stream", check_faults.kill_orchestrator),
    ("reload", "another model in mid-stream", check_models.reload),
    ("reload-broken", "a reload to a file that is no model goes back", check_models.reload_broken),
    ("drain", "a drain in mid-stream, then a load", check_models.drain),
    ("stop", "engines outlive a stop or end with it, as configured; nothing is left", check_models.stop),
)
NEEDS = {"reload-broken": ("reload",), "drain": ("reload",)}


def main(arguments):
    """Runs everything; gives the exit status."""
    options = parse(arguments)
    _make_absolute(options)
    os.environ.update(pair.split("=", 1) for pair in options.env)
    # A shell starts its background jobs with SIGINT ignored; whoever sends one means it.
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)
    return Session(options).run()


def _interrupt(_number, _frame):
    raise KeyboardInterrupt


def _make_absolute(options):
    for name in ("binaries", "llama_cpp", "llama_server", "nvml_library", "gpu_lock_dir", "report", "work_dir"):
        value = getattr(options, name)
        # A bare name of a library is looked up by the linker.
        if value and (name != "nvml_library" or "/" in value):
            setattr(options, name, os.path.abspath(value))
    options.model = [os.path.abspath(model) for model in options.model]


def _arguments(options):
    """For the report: all but the values of variables, which may be secret."""
    return {**vars(options), "env": [pair.partition("=")[0] for pair in options.env]}


class Session:
    """One run of the program."""

    def __init__(self, options):
        self._options, self._machine = options, preflight.machine_facts()
        self._report, self._bench = Report(options.report, _arguments(options)), Bench(options)

    def run(self):
        verdict = "interrupted"
        try:
            if self._report.perform("preflight", "what this machine has", self._preflight):
                self._steps()
                verdict = "failed" if self._report.failed_steps() else "ok"
            else:
                verdict = "refused"
        except KeyboardInterrupt:
            pass
        finally:
            verdict = self._end(verdict)
        return EXITS[verdict]

    def _preflight(self, notes):
        self._bench.ground = preflight.look(self._options, notes, self._machine)

    def _steps(self):
        bench, perform = self._bench, self._report.perform
        bench.folder = os.path.realpath(tempfile.mkdtemp(prefix="llama-orch-gpu-check-", dir=self._options.work_dir))
        bench.system = System(bench.folder, self._options)
        perform("build", "llama-server with CUDA", self._build)
        perform("models", "model files", self._models)
        perform("ready", "both daemons start and the pool becomes ready", _with(bench, check_serving.ready), ("build", "models"))
        for name, about, check in CHECKS:
            perform(name, about, _with(bench, check), ("ready", *NEEDS.get(name, ())))

    def _build(self, notes):
        """An engine to run: built here, or given."""
        bench, options = self._bench, self._options
        if options.llama_server:
            bench.engine = options.llama_server
            notes.saw(given=options.llama_server)
            return
        folder = os.path.join(bench.folder, "llama.cpp")
        bench.engine = engine_build.build(options.llama_cpp, folder, bench.ground.tools, bench.ground.gpu, notes)
        self._machine["versions"]["llama_server"] = preflight.first_line([bench.engine, "--version"])

    def _models(self, notes):
        """Two models: those that were given, and generated ones for the rest."""
        bench, options = self._bench, self._options
        bench.models = [Model(os.path.basename(path).rsplit(".gguf", 1)[0], path, None) for path in options.model]
        for name, mebibytes, seed in (("gpu-check-a", options.model_mib, 1), ("gpu-check-b", max(1, options.model_mib // 2), 2)):
            if len(bench.models) < 2:
                path, shape = bench.system.path("models", f"{name}.gguf"), gguf.shape_of(mebibytes, 2 * options.ctx)
                bench.models.append(Model(name, path, gguf.write_model(path, name, shape, seed)))
                notes.saw(**{name: shape._asdict()})
        if bench.models[0].name == bench.models[1].name:
            raise CheckFailed("both models have one name", "give files of different names")
        sizes = {model.name: {"bytes": os.path.getsize(model.path), "weight_bytes": model.weights} for model in bench.models}
        notes.saw(models=sizes)

    def _end(self, verdict):
        """Ends processes, writes the report, removes the folder. Nothing interrupts that; gives the verdict."""
        for number in INTERRUPTS:
            signal.signal(number, signal.SIG_IGN)
        bench, more = self._bench, {}
        if bench.folder:
            if verdict != "ok":
                more["daemons_said_last"] = bench.system.last_lines()
            left = bench.system.end()
            if left:
                more["processes_left"], verdict = left, "failed"
            if self._options.keep:
                more["folder"] = bench.folder
                print(f"kept: {bench.folder}", file=sys.stderr)
            else:
                shutil.rmtree(bench.folder, ignore_errors=True)
        self._report.finish(verdict, machine=self._machine, **more)
        return verdict


def _with(bench, check):
    return lambda notes: check(bench, notes)
