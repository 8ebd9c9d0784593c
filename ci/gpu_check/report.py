"""The report: one JSON document of named steps with evidence and figures, written as a whole or not at all. Shows each step on
the terminal while it is done."""

import json
import os
import sys
import time
import traceback

from .grammar import Violation
from .nvml import NvmlError
from .wire import WireError

SCHEMA_VERSION = 1


class CheckFailed(Exception):
    """Something is not as it must be. `fix` says what a person can do about it."""

    def __init__(self, message, fix=None):
        super().__init__(message)
        self.fix = fix


EXPECTED = (CheckFailed, NvmlError, Violation, WireError)


class Notes:
    """What a step found out; kept also when it fails."""

    def __init__(self):
        self.evidence, self.figures = {}, {}

    def saw(self, **evidence):
        self.evidence.update(evidence)

    def measured(self, **figures):
        """Numbers, named with their units."""
        self.figures.update({name: _rounded(value) for name, value in figures.items()})


class Report:
    """Steps in their order, and the verdict."""

    def __init__(self, path, arguments):
        self._path, self._began = path, time.monotonic()
        self._steps = []
        self.head = {"schema_version": SCHEMA_VERSION, "program": "gpu-check", "started_at": _now(), "arguments": arguments}

    def perform(self, name, about, action, needs=()):
        """Does a step unless one that it needs has failed; whether it passed."""
        missing = [step for step in needs if not self.passed(step)]
        if missing:
            _show(f"{name}: {about}")
            return self._add(name, about, "skipped", 0.0, Notes(), {"error": f"needs {', '.join(missing)}"})
        notes, started = Notes(), time.monotonic()
        failure = {}
        try:
            _show(f"{name}: {about} …")
            action(notes)
        except KeyboardInterrupt:
            self._add(name, about, "interrupted", time.monotonic() - started, notes, failure)
            raise
        except Exception as error:
            failure = _failure(error)
        return self._add(name, about, "failed" if failure else "ok", time.monotonic() - started, notes, failure)

    def passed(self, name):
        return any(step["name"] == name and step["ok"] for step in self._steps)

    def failed_steps(self):
        return [step["name"] for step in self._steps if not step["ok"]]

    def figures(self):
        """All figures by `step.figure`."""
        return {f"{step['name']}.{key}": value for step in self._steps for key, value in step["figures"].items()}

    def finish(self, verdict, **more):
        """Writes the document."""
        ending = {"finished_at": _now(), "seconds": _rounded(time.monotonic() - self._began), **more}
        document = {**self.head, **ending, "verdict": verdict, "failed_steps": self.failed_steps()}
        document.update(figures=self.figures(), steps=self._steps)
        temporary = f"{self._path}.{os.getpid()}.new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2, ensure_ascii=False)
            file.write("\n")
        os.replace(temporary, self._path)
        _show(f"verdict: {verdict}; report: {self._path}")

    def _add(self, name, about, status, seconds, notes, failure):
        step = {"name": name, "about": about, "ok": status == "ok", "status": status, "seconds": _rounded(seconds)}
        self._steps.append({**step, **failure, "evidence": notes.evidence, "figures": notes.figures})
        said = f" ({failure['error']})" if failure else ""
        fix = f"\n    fix: {failure['fix']}" if "fix" in failure else ""
        _show(f"  {status} in {seconds:.1f} s{said}{fix}")
        return status == "ok"


def _failure(error):
    """What a report says of an error; of one that nobody has raised on purpose also where it came from."""
    said = {"error": str(error) or type(error).__name__}
    if getattr(error, "fix", None):
        said["fix"] = error.fix
    if not isinstance(error, EXPECTED):
        said["where"] = traceback.format_exception(type(error), error, error.__traceback__)[-4:]
    return said


def _rounded(value):
    return round(value, 4) if isinstance(value, float) else value


def _now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _show(text):
    print(text, file=sys.stderr, flush=True)
