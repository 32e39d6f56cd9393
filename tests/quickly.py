"""Settings by which XLA compiles quickly: programs here run for less time than they compile.

Equal bits are promised under the users' settings alone: a file that compares bits of different
programs says `FULLY_OPTIMIZED = True`. Since the flags of XLA are those of a process, one session
of pytest runs the one kind of files, and `make test` starts two.
"""

import os
from importlib.metadata import version

from packaging.version import Version

FLAGS = "--xla_cpu_parallel_codegen_split_count=1"
"""Flags for a CPU: no pieces to be compiled by threads, and fusions from LLVM alone."""
if Version(version("jaxlib")) < Version("0.11"):  # which has this flag no more
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
FEW_PASSES = "JAX_DISABLE_MOST_OPTIMIZATIONS"


def turn_on():
    """For this process, in which jax is not imported yet, and for those that it starts."""
    os.environ[FEW_PASSES] = "1"
    os.environ["XLA_FLAGS"] = f"{_own_flags()} {FLAGS}".strip()


def turn_off(monkeypatch):
    """For the processes that a test starts."""
    monkeypatch.delenv(FEW_PASSES, raising=False)
    monkeypatch.setenv("XLA_FLAGS", _own_flags())


def _own_flags():
    """What the user of the tests has set."""
    return os.environ.get("XLA_FLAGS", "").removesuffix(FLAGS).strip()


def choose(paths, kind=None):
    """`(kind of the session, which of the test files are of the other kind)`.

    Without a kind it is "fully" where all the files say that they want it, otherwise "quickly".
    """
    full = [path for path in paths if "\nFULLY_OPTIMIZED = True\n" in path.read_text()]
    kind = kind or ("fully" if full and len(full) == len(paths) else "quickly")
    left_out = full if kind == "quickly" else [path for path in paths if path not in full]
    return kind, left_out
