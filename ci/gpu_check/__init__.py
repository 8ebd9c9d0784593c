"""The parts of `ci/gpu-check`: one module for one thing. Standard library only; nothing here is imported by the product."""
