"""Processes that compile quickly: what most tests start runs for less time than it compiles."""

import os

FLAGS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
"""Flags of XLA by which a CPU compiles in half the time: fusions from LLVM alone, in one piece."""


def environ(**settings):
    """The environment of such a process, with `settings` on top."""
    flags = [f"--{name}={value}".lower() for name, value in FLAGS.items()]
    quick = {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip(),
    }
    return os.environ | quick | settings
