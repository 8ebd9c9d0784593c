"""Tests of `ci/gpu-check` on a machine without a GPU: `python3 -m unittest discover -s ci/gpu_check/tests -t ci`. Those over the
built programs take them from the folder that LLAMA_ORCH_BIN_DIR names."""
