"""Settings by which XLA compiles quickly: programs here run for less time than they compile."""

import os
from importlib.metadata import version

from packaging.version import Version

FLAGS = {"xla_cpu_parallel_codegen_split_count": 1}
"""Flags for a CPU: no pieces to be compiled by threads, and fusions from LLVM alone."""
if Version(version("jaxlib")) < Version("0.11"):  # which has this flag no more
    FLAGS["xla_cpu_use_fusion_emitters"] = False


def environ(**settings):
    """The environment of a process that compiles quickly, with `settings` on top."""
    flags = [f"--{name}={value}".lower() for name, value in FLAGS.items()]
    quick = {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip(),
    }
    return os.environ | quick | settings
