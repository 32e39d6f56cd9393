"""Other trainers from PyPI, each in a virtual environment that is made when it is needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PINS = {
    # gymnax 1.0 has another `step` than rejax 0.1.3 calls; older distrax does not import under
    # jax 0.10, for the tensorflow-probability that it takes.
    "rejax": (
        "rejax==0.1.3",
        "gymnax==0.0.9",
        "distrax==0.1.9",
        "tfp-nightly==0.26.0.dev20261027",
        "jax==0.10.2",
        "jaxlib==0.10.2",
        "flax==0.12.8",
        "optax==0.2.8",
        "numpy==2.4.6",
    ),
    # brax 0.14.2 calls jax.device_put_replicated, which jax 0.10 has no more.
    "brax": (
        "brax==0.14.2",
        "jax==0.9.2",
        "jaxlib==0.9.2",
        "flax==0.12.6",
        "optax==0.2.8",
        "numpy==2.4.6",
    ),
    # It acts and keeps its data by PyTorch, and learns by JAX.
    "sbx": (
        "sbx-rl==0.28.0",
        "stable-baselines3==2.9.2",
        "torch==2.13.0",
        "gymnasium==1.3.0",
        "mujoco==4.0.0",
        "imageio==2.38.1",
        "jax==0.10.2",
        "jaxlib==0.10.2",
        "flax==0.12.8",
        "optax==0.2.8",
        "numpy==2.4.6",
    ),
}
"""Versions that were tried together, on Python 3.11."""

STAMP = ".installed"


class PeerError(Exception):
    """A peer that cannot be installed; the message says how to do without."""


def default_dir() -> Path:
    """Where the environments go: a directory of the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "jaxdrl" / "peers"


def python_of(directory: Path, peer: str) -> Path:
    """The Python of a peer's environment."""
    return directory / peer / "bin" / "python"


def is_installed(directory: Path, peer: str) -> bool:
    """Whether there is an environment with exactly the pinned versions."""
    stamp = directory / peer / STAMP
    return stamp.exists() and stamp.read_text() == "\n".join(PINS[peer])


def install(directory: Path, peer: str) -> None:
    """Makes a peer's environment, unless there is one already.

    Raises:
      PeerError: if pip fails, with its last words.
    """
    if is_installed(directory, peer):
        return
    shutil.rmtree(directory / peer, ignore_errors=True)
    _run(peer, [sys.executable, "-m", "venv", str(directory / peer)])
    pip = [str(python_of(directory, peer)), "-m", "pip", "--disable-pip-version-check"]
    _run(peer, [*pip, "install", "--quiet", *PINS[peer]])
    (directory / peer / STAMP).write_text("\n".join(PINS[peer]))


def _run(peer: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-6:])
        raise PeerError(
            f"peers = {peer}: cannot be installed; leave it out with --peers textbook\n{last}"
        )
