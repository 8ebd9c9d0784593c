"""Step of many at once: time to first token and speed, through the system and past it, in turns on the same engine."""

import json
import statistics
import threading
import time
from typing import NamedTuple

from .bench import PROMPT, ended_well, expect
from .grammar import StreamCheck
from .report import CheckFailed


class Sample(NamedTuple):
    """One stream: when it was asked for, its first and last token, by the monotonic clock, seconds."""

    asked: float
    first: float
    last: float
    tokens: int

    @property
    def ttft_ms(self):
        return 1000 * (self.first - self.asked)

    @property
    def speed(self):
        """Tokens per second, the wait for the first one included."""
        return self.tokens / (self.last - self.asked)


class Round(NamedTuple):
    """So many streams at once."""

    ttft_ms: float
    slowest_ttft_ms: float
    stream_tokens_per_s: float
    tokens_per_s: float


def concurrency(bench, notes):
    """1, 4 and all slots at once; medians of the repeats."""
    levels = sorted({level for level in (1, 4, bench.options.slots) if level <= bench.options.slots})
    for level in levels:
        rounds = {"ours": [], "direct": []}
        for repeat in range(bench.options.repeats):
            seed = 1000 * level + 100 * repeat
            for name, one in (("ours", _ours), ("direct", _direct)):
                rounds[name].append(_at_once(bench, one, level, seed))
                bench.wait_idle(10)
        _note(bench, notes, level, rounds)
    notes.saw(levels=levels, repeats=bench.options.repeats, tokens_per_stream=bench.options.tokens, figures="medians of the repeats")


def _note(bench, notes, level, rounds):
    median = {name: Round(*map(statistics.median, zip(*each))) for name, each in rounds.items()}
    for name, values in median.items():
        notes.measured(**{f"at_{level}_{name}_{key}": value for key, value in values._asdict().items()})
    ours, direct = median["ours"], median["direct"]
    bench.speeds[level] = ours.stream_tokens_per_s
    ratios = [a.tokens_per_s / b.tokens_per_s for a, b in zip(rounds["ours"], rounds["direct"])]
    notes.measured(
        **{
            f"at_{level}_throughput_ratio": ours.tokens_per_s / direct.tokens_per_s,
            f"at_{level}_throughput_ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
            f"at_{level}_added_ttft_ms": ours.ttft_ms - direct.ttft_ms,
        }
    )


def _at_once(bench, one, count, seed):
    """Starts so many streams together; every one must have been whole."""
    samples, errors, gate = [None] * count, [], threading.Barrier(count)

    def follow(at):
        try:
            samples[at] = one(bench, seed + at, gate)
        except Exception as error:
            errors.append(error)
            gate.abort()

    threads = [threading.Thread(target=follow, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
    total = sum(sample.tokens for sample in samples)
    spent = max(sample.last for sample in samples) - min(sample.asked for sample in samples)
    first = [sample.ttft_ms for sample in samples]
    return Round(statistics.median(first), max(first), statistics.median(sample.speed for sample in samples), total / spent)


def _prompt(seed):
    """No two streams share a beginning that could be cached."""
    return f"{seed} {PROMPT * 4}"


def _ours(bench, seed, gate):
    gate.wait()
    asked = time.monotonic()
    receipt = bench.submit(bench.options.tokens, seed=seed, prompt=_prompt(seed))
    check = ended_well(StreamCheck().whole(bench.open(receipt)))
    return Sample(asked, check.times[0], check.times[-1], check.terminal[1]["tokens_out"])


def _direct(bench, seed, gate):
    """What the system asks of its engine, asked without it."""
    body = {"prompt": _prompt(seed), "n_predict": bench.options.tokens, "seed": seed, "stream": True, "cache_prompt": False}
    engine = bench.system.engine_api(bench.replica())
    gate.wait()
    asked = time.monotonic()
    times, final = [], None
    for event in engine.stream("/completion", body):
        frame = json.loads(event.data)
        if frame and frame.get("error"):
            raise CheckFailed(f"the engine says {frame['error']}")
        if frame and frame.get("stop"):
            final = frame
        elif frame and frame.get("content"):
            times.append(event.at)
    expect(final and times, "the engine's stream has no end")
    return Sample(asked, times[0], times[-1], final["tokens_predicted"])
