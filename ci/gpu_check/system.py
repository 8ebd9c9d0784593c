"""The system under check: the configuration, both daemons as processes of their own, their ends. Everything lies in one folder
that only its user can read; whatever was started from it is found by its name and ended."""

import ctypes
import json
import os
import secrets
import select
import signal
import subprocess
import time

from . import procs
from .report import CheckFailed
from .wire import Server

POOL = "gpu-check"
LISTENING = "listening "
START_SECONDS = 30.0
STOP_SECONDS = 60.0
# What a daemon needs of the caller's environment; nothing else is passed on.
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "RUST_BACKTRACE")
LAST_LINES = 30
# Should this program be killed, its engines end themselves after so long.
ADOPT_WITHIN_MS = 180_000
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Daemon:
    """One run of a daemon."""

    def __init__(self, program, arguments, environment, log):
        self.name, self.log = os.path.basename(program), log
        with open(log, "ab") as stderr:
            self._process = subprocess.Popen(
                [program, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )  # fmt: skip
        self.pid = self._process.pid
        self.url = self._listening()

    def _listening(self):
        said = select.select([self._process.stdout], [], [], START_SECONDS)[0]
        line = self._process.stdout.readline().decode(errors="replace").strip() if said else ""
        if not line.startswith(LISTENING):
            self.kill()
            raise CheckFailed(f"{self.name} does not start: {line or last_lines(self.log, 3)}")
        return line[len(LISTENING) :]

    def runs(self):
        return self._process.poll() is None

    def kill(self):
        """kill -9, as a crash would; waits for it."""
        self._process.kill()
        self._process.wait()

    def stop(self, seconds=STOP_SECONDS):
        """SIGTERM; gives its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"{self.name} does not end within {seconds:g} s of SIGTERM") from None


class System:
    """Both daemons and what they share."""

    def __init__(self, folder, options):
        self.folder, self._options = folder, options
        self._environment = dict(pair.split("=", 1) for pair in options.env)
        self.token = secrets.token_hex(24)
        self.orchestrator, self.node = None, None
        self._addresses = {"orchestratord": "127.0.0.1:0", "pool-managerd": "127.0.0.1:0"}
        for name in ("state", "models", "logs"):
            os.makedirs(self.path(name), exist_ok=True)
        write_private(self.path("token"), self.token)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def configure(self, gpu, engine, models, keep_engines=True):
        """Writes the configuration of both daemons."""
        write_private(self.path("config.toml"), self._configuration(gpu, engine, models, keep_engines))

    def start_orchestrator(self):
        self.orchestrator = self._start("orchestratord", {"ORCHD_STATE_DIR": self.path("state")})

    def start_node(self):
        self.node = self._start(
            "pool-managerd", {"POOL_MANAGERD_STATE_DIR": self.path("state"), "ORCHD_URL": self.orchestrator.url, **self._environment}
        )

    def api(self):
        """The orchestrator, as a client sees it."""
        return Server(self.orchestrator.url, self.token)

    def node_api(self):
        return Server(self.node.url, self.token)

    def engine_api(self, replica):
        """The engine itself, past the product, with the key of its latest start."""
        folder = self._replica_folder(replica["replica_id"])
        with open(os.path.join(folder, f"api-key.{replica['generation']}"), encoding="utf-8") as file:
            return Server(replica["endpoint"], file.read().strip())

    def command(self, *arguments):
        """Runs `llama-orch` and gives the JSON it writes."""
        environment = {**inherited(), "ORCHD_URL": self.orchestrator.url, "AUTH_TOKEN_FILE": self.path("token")}
        program = os.path.join(self._options.binaries, "llama-orch")
        done = subprocess.run([program, "--json", *arguments], env=environment, capture_output=True, timeout=60, check=False)
        if done.returncode:
            raise CheckFailed(f"llama-orch {' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
        return json.loads(done.stdout)

    def end(self):
        """Ends everything; gives what could not be ended."""
        for daemon in (self.node, self.orchestrator):
            if daemon and daemon.runs():
                daemon.kill()
        return procs.end_all(self.folder)

    def last_lines(self):
        """What the daemons said last."""
        logs = sorted(os.listdir(self.path("logs")))
        return {log: last_lines(self.path("logs", log), LAST_LINES) for log in logs}

    def _start(self, name, environment):
        variable = {"orchestratord": "ORCHD_ADDR", "pool-managerd": "POOL_MANAGERD_ADDR"}[name]
        environment = {**inherited(), "LLAMA_ORCH_CONFIG": self.path("config.toml"), variable: self._addresses[name], **environment}
        daemon = Daemon(os.path.join(self._options.binaries, name), [], environment, self.path("logs", f"{name}.log"))
        # A later run takes the same address, as after a crash.
        self._addresses[name] = daemon.url.rpartition("/")[2]
        return daemon

    def _replica_folder(self, replica_id):
        for where, _, files in os.walk(self.path("state")):
            if os.path.basename(where) == replica_id and "start.json" in files:
                return where
        raise CheckFailed(f"the state directory holds no start of replica {replica_id}")

    def _configuration(self, gpu, engine, models, keep_engines):
        options, text = self._options, toml_text
        node = {"gpu_lock_dir": options.gpu_lock_dir, "nvml_library": options.nvml_library}
        lines = ["[auth]", f"token_file = {text(self.path('token'))}", "", "[pool_managerd]", 'node_id = "gpu-check"']
        folders = sorted({self.path("models"), *(os.path.dirname(model.path) for model in models)})
        lines += [f"adopt_within_ms = {ADOPT_WITHIN_MS}"]
        lines += [f"keep_engines = {'true' if keep_engines else 'false'}", f"model_dirs = [{', '.join(map(text, folders))}]"]
        lines += [f"{key} = {text(os.path.abspath(value))}" for key, value in node.items() if value]
        lines += ["", "[[pool_managerd.pools]]", f"id = {text(POOL)}", 'engine = "llamacpp"', f"binary = {text(engine)}"]
        lines += [f"model = {text(models[0].reference)}", f"model_id = {text(models[0].name)}", f"devices = [{text(gpu.uuid)}]"]
        lines += [f"slots = {options.slots}", f"ctx = {options.ctx}", "health_interval_ms = 250", "[pool_managerd.pools.env]"]
        lines += [f"{text(name)} = {text(value)}" for name, value in self._environment.items()]
        return "\n".join(lines) + "\n"


def _end_with_parent():
    """A daemon does not outlive this program, even where that is killed."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def inherited():
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def toml_text(value):
    """A TOML string: JSON's escapes are among TOML's."""
    return json.dumps(value, ensure_ascii=False)


def write_private(path, text):
    """Writes a file that only its user can read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def last_lines(path, count):
    """The end of a log."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 64 * 1024))
        return file.read().decode(errors="replace").splitlines()[-count:]


def wait_until(what, seconds, look, pause=0.02):
    """Waits until `look` gives something true, and gives it; tells at the end what it saw instead."""
    started = time.monotonic()
    while True:
        found, seen = look()
        if found:
            return found
        if time.monotonic() - started > seconds:
            raise CheckFailed(f"waited {seconds:g} s for {what}; the last seen is {json.dumps(seen, default=str)[:1500]}")
        time.sleep(pause)
