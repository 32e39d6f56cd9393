"""Several processes that train one run on this machine, and how each of them ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHILD = Path(__file__).with_name("disturbed.py")
LAUNCHERS = ("JAX_COORDINATOR", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAXDRL_HOSTS", "DISTURBED")
TAG = "JAXDRL_FAULTS_TAG"
"""A variable that all processes of a run have, also those that they start."""

SMALL = """train CartPole-v1 --reproducible --num-envs 16 --num-steps 8 --torso mlp
    --hidden-sizes 8 8 --num-epochs 1 --num-minibatches 1 --num-eval-episodes 4
    --evaluate-every 10 --checkpoint-every 2 --env-params max_steps_in_episode 12"""
PER_UPDATE = 16 * 8
"""Environment steps of an update of a small run."""


@dataclass
class Together:
    """Processes that train one run.

    Attributes:
      processes: by their index.
      outputs: the files that they print to.
      tag: that they and what they start carry in their environment.
      gone: when each was seen to have ended.
    """

    processes: Sequence[subprocess.Popen]
    outputs: Sequence[Path]
    tag: str
    gone: dict[int, float] = field(default_factory=dict)

    def look(self) -> None:
        """Notes which processes have ended."""
        for index, process in enumerate(self.processes):
            if index not in self.gone and process.poll() is not None:
                self.gone[index] = time.time()

    def wait(self, seconds: float, but: Sequence[int] = ()) -> bool:
        """Waits until all have ended, but for some; returns whether they have."""

        def all_gone() -> bool:
            self.look()
            return all(i in self.gone or i in but for i in range(len(self.processes)))

        return until(all_gone, seconds)

    def text(self, index: int) -> str:
        """What a process has printed."""
        return self.outputs[index].read_text(errors="replace")

    def codes(self) -> list[int | None]:
        """The exit codes, None of those that run."""
        return [process.poll() for process in self.processes]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for a condition; returns whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def by_jax(count: int, port: int) -> list[dict[str, str]]:
    """The variables of each process, as JAX has them."""
    all_have = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
    return [all_have | {"JAX_PROCESS_ID": str(index)} for index in range(count)]


def environment(devices: int, cache: Path, tag: str) -> dict[str, str]:
    """Variables of a process with so many devices, without those of any launcher."""
    own = {n: value for n, value in os.environ.items() if not n.startswith(LAUNCHERS)}
    own |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    return own | {"XDG_CACHE_HOME": str(cache), TAG: tag}


@contextlib.contextmanager
def running(
    commands: Sequence[Sequence[str]],
    variables: Sequence[dict[str, str]],
    directory: Path,
    *,
    devices: int = 1,
) -> Iterator[Together]:
    """Starts processes, and kills what is left of them at the end of the block.

    Args:
      commands: what each runs.
      variables: its own ones.
      directory: for what they print, and for compiled programs, in `cache` beside it.
      devices: of each.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tag = uuid.uuid4().hex
    base = environment(devices, directory.parent / "cache", tag)
    outputs = [directory / f"output-{index}" for index in range(len(commands))]
    processes = []
    for index, command in enumerate(commands):
        with outputs[index].open("w") as file:
            processes.append(
                subprocess.Popen(
                    command,
                    env=base | variables[index],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        yield Together(processes, outputs, tag)
    finally:
        for pid in tagged(tag):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in processes:
            process.kill()
            process.wait()


def train(
    arguments: Sequence[str],
    count: int,
    directory: Path,
    plan: Mapping[str, object] | None = None,
    devices: int = 1,
) -> contextlib.AbstractContextManager[Together]:
    """`running` of one `jaxdrl` command in several processes; `plan` disturbs one of them."""
    variables = by_jax(count, free_port()) if count > 1 else [{}]
    if plan is not None:
        variables = [own | {"DISTURBED": json.dumps(plan)} for own in variables]
    command = [sys.executable, str(CHILD), *arguments]
    return running([command] * count, variables, directory, devices=devices)


def tagged(tag: str) -> list[int]:
    """Processes that run and carry a tag in their environment."""
    found, wanted = [], f"{TAG}={tag}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                state = (path / "stat").read_bytes().rpartition(b")")[2].split()[0]
                if state != b"Z":
                    found.append(int(path.name))
    return found
