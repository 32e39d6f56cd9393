"""Follows a run while it trains, asks for actions all the time, and puts bad checkpoints there."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress

import jaxdrl
from jaxdrl.runs import checkpoint
from jaxdrl.serving.followed_policy import FollowedPolicy

FOREIGN = 10_000_000
"""Updates from here on are those of bad checkpoints."""


@dataclass(frozen=True)
class Settings:
    """How much of it."""

    checkpoints: int = 200
    """Checkpoints that have to be taken."""
    bad: int = 100
    """Damaged and foreign checkpoints that are put there meanwhile."""
    threads: int = 2
    """Threads that ask."""
    pause: float = 0.002
    """Seconds that each waits between two questions."""
    stall_ms: float = 50.0
    """Longest 99th percentile of the calls that overlap with the taking of a checkpoint."""


@dataclass
class Calls:
    """What those who ask saw: when each call began and ended, and what went wrong."""

    times: list[tuple[float, float]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def flip(path: Path) -> None:
    file = path / "state.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    os.truncate(path / "state.npz", 1000)


def lose_digests(path: Path) -> None:
    (path / "SHA256SUMS").unlink()


def change_manifest(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace("0", "1", 1))


def put_pipe(path: Path) -> None:
    (path / "state.npz").unlink()
    os.mkfifo(path / "state.npz")


def rename(path: Path) -> None:
    """Leaves it whole, under the number of another update."""


DAMAGES: tuple[Callable[[Path], None], ...] = (
    *(flip, truncate, lose_digests, change_manifest, put_pipe, rename),
)


def put_bad(run_dir: Path, other: Path, number: int) -> None:
    """Puts a checkpoint there at once, damaged, of another run, or with NaN in it."""
    directory, kind = run_dir / "checkpoints", number % (len(DAMAGES) + 2)
    hidden = directory / f".bad-{number}"
    if kind < len(DAMAGES):
        shutil.copytree(newest(run_dir), hidden)
        DAMAGES[kind](hidden)
    else:
        with_nan = kind > len(DAMAGES)
        written = rewrite(newest(run_dir if with_nan else other), FOREIGN + number, with_nan)
        written.rename(hidden)
    hidden.rename(checkpoint.path_of(directory, FOREIGN + number))


def newest(run_dir: Path) -> Path:
    directory = run_dir / "checkpoints"
    updates = [update for update in checkpoint.updates_in(directory) if update < FOREIGN]
    return checkpoint.path_of(directory, updates[-1])


def rewrite(path: Path, update: int, with_nan: bool) -> Path:
    """A checkpoint with digests that hold and another number, somewhere else."""
    manifest = checkpoint.read_manifest(path)
    described = manifest.pop("arrays")
    with np.load(path / "state.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["learner/num_updates"] = np.asarray(update, np.int32)
    if with_nan:
        arrays["learner/params/policy/bias"] = np.full(2, np.nan, np.float32)
    content = {k: v for k, v in manifest.items() if k not in ("format_version", "update")}
    aside = path.parent.parent / ".aside"
    return checkpoint.write(aside, update, arrays, described, content)


@contextmanager
def training(run_dir: Path, *flags: str) -> Iterator[subprocess.Popen]:
    """A run in a process of its own, with a checkpoint after each update."""
    command = [sys.executable, "-c", "from jaxdrl.cli.main import main; main()"]
    command += ["train", "CartPole-v1"]
    sizes = "--num-envs 64 --num-steps 64 --checkpoint-every 1 --keep-checkpoints 3 --devices 1"
    process = subprocess.Popen(
        [*command, *sizes.split(), "--run-dir", str(run_dir), *flags], stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def ask(policy: FollowedPolicy, pause: float, stop: threading.Event, calls: Calls) -> None:
    """Asks until it is told to stop, with batches of several sizes."""
    rng = np.random.default_rng(threading.get_ident() % 2**32)
    sizes = (None, 1, 3, 64, 700)
    while not stop.is_set():
        size = sizes[rng.integers(len(sizes))]
        obs = rng.normal(size=4 if size is None else (size, 4))
        began = time.perf_counter()
        try:
            found = policy.decide(obs)
        except Exception as error:
            calls.troubles.append(f"a call failed: {error!r}")
            continue
        calls.times.append((began, time.perf_counter()))
        if found.version.update >= FOREIGN or found.action.shape != np.shape(obs)[:-1]:
            calls.troubles.append(f"a wrong answer: {found}")
        time.sleep(pause)


def memory_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def milliseconds(calls: list[Calls], taken: list[float], near: float | None) -> np.ndarray:
    """Durations of the calls; those that end at most `near` s before or after one was taken."""
    times = np.concatenate([np.array(each.times).reshape(-1, 2) for each in calls])
    durations = (times[:, 1] - times[:, 0]) * 1e3
    if near is None or not taken:
        return durations
    moments = np.array(taken)
    place = np.clip(np.searchsorted(moments, times[:, 0]), 0, len(moments) - 1)
    is_near = (times[:, 0] < moments[place]) & (times[:, 1] > moments[place] - near)
    return durations[is_near]


def in_words(durations: np.ndarray) -> str:
    """Number and quantiles of durations in milliseconds."""
    median, most = np.percentile(durations, (50, 99))
    longest = durations.max()
    return (
        f"{len(durations):,}; median {median:.2f} ms, 99% {most:.2f} ms, longest {longest:.1f} ms"
    )


def main(settings: Settings) -> None:
    """Follows a run, and says what fell short."""
    console, taken, memory = Console(highlight=False), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as temporary:
        run_dir, other = Path(temporary, "run"), Path(temporary, "other")
        with training(other, "--total-env-steps", "5000") as process:
            process.wait()
        with training(run_dir, "--total-env-steps", str(10**9)):
            policy = jaxdrl.follow(
                run_dir,
                seconds=0.02,
                wait=120,
                on_change=lambda version: taken.append(time.perf_counter()),
                on_refusal=lambda words: None,
            )
            calls, stop = [Calls() for _ in range(settings.threads)], threading.Event()
            threads = [
                threading.Thread(target=ask, args=(policy, settings.pause, stop, each))
                for each in calls
            ]
            for thread in threads:
                thread.start()
            disturb(settings, policy, run_dir, other, memory)
            stop.set()
            for thread in threads:
                thread.join()
            policy.close()
    troubles = [words for each in calls for words in each.troubles] + judge(settings, policy)
    every = milliseconds(calls, taken, None)
    near = milliseconds(calls, taken, 0.1)
    stall = float(np.percentile(near, 99))
    if stall > settings.stall_ms:
        troubles.append(f"99% of the calls while one was taken: {stall:.1f} ms")
    lines = (
        f"{len(policy.versions)} checkpoints taken, {len(policy.refusals)} refused of "
        f"{settings.bad} bad ones",
        f"all calls: {in_words(every)}",
        f"within 100 ms before one was taken: {in_words(near)}",
        f"memory: {memory[0]:.0f} MiB at the start, {memory[len(memory) // 2]:.0f} half way, "
        f"{memory[-1]:.0f} at the end",
    )
    console.print("\n".join(lines), soft_wrap=True)
    for words in troubles:
        console.print(f"falls short: {words}", markup=False)
    sys.exit(bool(troubles))


def disturb(
    settings: Settings, policy: FollowedPolicy, run_dir: Path, other: Path, memory: list[float]
) -> None:
    """Puts one bad checkpoint after another there until enough good ones are taken."""
    number = 0
    with Progress() as progress:
        task = progress.add_task("checkpoints taken", total=settings.checkpoints)
        while len(policy.versions) < settings.checkpoints or number < settings.bad:
            due = len(policy.versions) * settings.bad / settings.checkpoints
            if number < min(settings.bad, due):
                try:
                    put_bad(run_dir, other, number)
                    number += 1
                except OSError:
                    continue  # the run has just removed the one that is copied
            time.sleep(0.01)
            memory.append(memory_mib())
            progress.update(task, completed=len(policy.versions))
    time.sleep(1.0)


def judge(settings: Settings, policy: FollowedPolicy) -> list[str]:
    """What fell short in what was taken and refused."""
    troubles = [
        f"update {version.update} was taken"
        for version in policy.versions
        if version.update >= FOREIGN
    ]
    said = list(policy.refusals)
    for number in range(settings.bad):
        name = f"checkpoints/{FOREIGN + number:08d}"
        count = sum(name in words for words in said)
        if count != 1:
            troubles.append(f"bad checkpoint {number} was reported {count} times")
    bad = f"checkpoints/{FOREIGN // 1000}"
    others = [words for words in said if bad not in words]
    return troubles + [f"reported: {words}" for words in others]


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
