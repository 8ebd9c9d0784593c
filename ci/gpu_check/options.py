"""The command line."""

import argparse
import os

EPILOG = """exit status: 0 every step passed; 1 a step failed; 2 wrong command line; 3 refused: this machine lacks something, and the
report says what to do; 130 interrupted.

examples:
  gpu-check --binaries target/release --llama-cpp ~/llama.cpp --report gpu.json
  gpu-check --binaries target/release --llama-server /usr/local/bin/llama-server --gpu 1 --report gpu.json"""


def parse(arguments):
    """The options; ends the program with status 2 where they make no sense."""
    parser = argparse.ArgumentParser(
        prog="gpu-check",
        description="Proves the GPU path of llama-orch on this machine: runs the whole system on an NVIDIA GPU, checks by NVML "
        "where the engine is, streams, cancels, kills, reloads, measures, and writes one JSON report. Needs no network.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _what_to_run(parser)
    _where(parser)
    _how_much(parser)
    options = parser.parse_args(arguments)
    _check(parser, options)
    return options


def _what_to_run(parser):
    parser.add_argument("--binaries", required=True, metavar="DIR", help="folder with orchestratord, pool-managerd, llama-orch")
    engine = parser.add_mutually_exclusive_group(required=True)
    engine.add_argument("--llama-cpp", metavar="DIR", help="llama.cpp's source tree: its server is built here with CUDA")
    engine.add_argument("--llama-server", metavar="FILE", help="a llama-server that is built already")
    parser.add_argument(
        "--model", action="append", default=[], metavar="GGUF",
        help="a model file; give it twice, the second one is what is reloaded to. Default: two are generated",
    )  # fmt: skip
    parser.add_argument("--report", required=True, metavar="FILE", help="where to write the report")
    parser.add_argument("--keep", action="store_true", help="keep the folder with configuration, logs, models and build")


def _where(parser):
    parser.add_argument("--gpu", metavar="UUID|INDEX", help="the GPU to use. Default: the one with the most free memory")
    parser.add_argument("--nvml-library", metavar="FILE", help="the NVML library, for this program and pool-managerd")
    parser.add_argument("--gpu-lock-dir", metavar="DIR", help="pool-managerd's folder for GPU locks. Default: its own default")
    parser.add_argument("--work-dir", metavar="DIR", help="where the folder of the run is made. Default: the folder for temporary files")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE",
        help="a variable for NVML, pool-managerd and its engines, e.g. LD_LIBRARY_PATH; may be repeated",
    )  # fmt: skip


def _how_much(parser):
    parser.add_argument("--model-mib", type=int, default=1024, metavar="N", help="size of the generated model (default %(default)s)")
    parser.add_argument("--slots", type=int, default=8, metavar="N", help="slots of the engine (default %(default)s)")
    parser.add_argument("--ctx", type=int, default=4096, metavar="N", help="context of a slot, tokens (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=256, metavar="N", help="tokens of a measured stream (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="repeats of a measurement (default %(default)s)")
    parser.add_argument(
        "--free-within", type=float, default=1.0, metavar="SECONDS",
        help="how soon a slot must be free after a cancel, or after its client has left (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--wait", type=int, default=600, metavar="SECONDS", help="longest wait for an engine to load (default %(default)s)"
    )


def _check(parser, options):
    if len(options.model) > 2:
        parser.error("--model is given at most twice")
    for name, least in (("model_mib", 1), ("slots", 1), ("ctx", 1024), ("tokens", 8), ("repeats", 1), ("wait", 10)):
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}")
    if options.tokens > options.ctx // 4:
        parser.error("--tokens must be at most a quarter of --ctx")
    if not os.path.isdir(os.path.dirname(os.path.abspath(options.report))):
        parser.error(f"--report {options.report}: there is no such folder")
    for pair in options.env:
        if not pair.partition("=")[1] or pair.startswith("="):
            parser.error(f"--env {pair}: NAME=VALUE is needed")
