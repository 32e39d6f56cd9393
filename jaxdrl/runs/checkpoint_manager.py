"""Writes checkpoints in the background, chooses one to read, and decides which are kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from jaxdrl.core.finiteness import find_nonfinite
from jaxdrl.core.types import TrainState
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import read_object
from jaxdrl.io.outages import Outage
from jaxdrl.runs import checkpoint, checkpoint_rows, joint_save, staging
from jaxdrl.runs import run_dir as files
from jaxdrl.runs.checkpoint_arrays import Archive, DamagedCheckpointError, archive_of
from jaxdrl.runs.checkpoint_binding import require_of_run
from jaxdrl.runs.checkpoint_scores import (
    Check,
    accept,
    best_of,
    expendable,
    read_scores,
    score_of,
)
from jaxdrl.runs.exports import Exports
from jaxdrl.runs.joint_save import NotFiniteError
from jaxdrl.runs.locking import writer_of
from jaxdrl.runs.run_dir import RESULT_FILE
from jaxdrl.runs.run_dir_keeper import Keeper, with_checkpoints


class Saver:
    """Writes checkpoints, and keeps the last few and the best; a context manager.

    The training thread only asks the devices for a copy of the state, and writes what is too large
    for that. Another thread fetches the copy, writes it and removes what is no longer kept. A save
    that fails is reported, and leaves earlier checkpoints as they are.

    Where several processes train, all of them save the same updates in the same order, each the
    rows that it holds. What is due, is the best and is kept is up to process 0 alone.
    """

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any],
        *,
        every: int | None,
        minutes: float | None,
        keep: int,
        warn: Callable[[str], None],
        keeper: Keeper | None = None,
        hosts: Hosts | None = None,
        exports: Exports | None = None,
    ) -> None:
        self.keeper, self.hosts, self.num_saves = keeper, hosts or Hosts(), 0
        self.directory, self.warn = directory, warn
        self.config = with_checkpoints(config) if keeper else config
        self.every, self.minutes, self.keep = every, minutes, keep
        check = partial(require_of_run, config) if keeper else accept
        self.scores = read_scores(directory, check) if self.hosts.is_first else {}
        self.last_update = self.hosts.first(
            "last checkpoint", lambda: max(self.scores, default=None)
        )
        self.handed = self.last_update or 0
        self.last_time = time.monotonic()
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self.writing: Future | None = None
        self.begun: Archive | None = None
        self.outage, self.exports = Outage(warn), exports

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, *error: Any) -> None:
        self.drop()
        if self.exports is not None and not isinstance(error[1], KeyboardInterrupt):
            self.executor.submit(self.exports.finish, self.last_update)
        self.executor.shutdown()
        num_failed = self.outage.num_failed
        if num_failed > 1:
            self.warn(f"the last {num_failed} checkpoints were not written; {self._stands()}")

    def is_due(self, update: int) -> bool:
        """Whether a checkpoint of `update` is due, and the previous one is written.

        One that falls due while another is written comes as soon as that is done.
        """
        if self.writing is not None and not self.writing.done():
            return False
        by_count = self.every is not None and update // self.every > self.handed // self.every
        elapsed = time.monotonic() - self.last_time
        return by_count or (self.minutes is not None and elapsed >= 60 * self.minutes)

    def is_best(self, mean_return: float) -> bool:
        """Whether no checkpoint that is kept has as good an evaluation."""
        self.wait()
        return all(mean_return > score for score in self.scores.values() if score is not None)

    def take(self, update: int, state: TrainState) -> TrainState:
        """What `save` needs of a state, which may be donated afterwards."""
        if not staging.is_any_staged(state):
            return staging.copy(state)
        self.drop()
        recreate = self.keeper.recreate if self.keeper and self.hosts.is_first else tuple
        self.begun = staging.begin(self.directory, update, self.hosts.index, recreate)
        return staging.take(state, self.begun)

    def drop(self) -> None:
        """Removes what was written of a state that is not saved in the end."""
        self.wait()
        if self.begun is not None:
            self.begun.abandon()

    def save(
        self,
        update: int,
        snapshot: TrainState,
        progress: dict[str, Any],
        evaluation: dict[str, Any] | None = None,
    ) -> None:
        """Hands what was taken of the state to the thread, once the previous save is done.

        Args:
          update: updates done.
          snapshot: from `take`.
          progress: the state of the run on the host, as JSON.
          evaluation: figures of the evaluation of this state.
        """
        self.wait()
        self.last_time, self.handed = time.monotonic(), update
        self.num_saves += 1
        self.writing = self.executor.submit(self._write, update, snapshot, progress, evaluation)

    def wait(self) -> None:
        """Waits until everything that was handed over is written, or has failed."""
        if self.writing is not None:
            self.writing.result()

    def check(self) -> None:
        """Raises what has ended a save unexpectedly; other processes may wait for its rows."""
        if self.writing is not None and self.writing.done():
            self.writing.result()

    def _write(
        self,
        update: int,
        snapshot: TrainState,
        progress: dict[str, Any],
        evaluation: dict[str, Any] | None,
    ) -> None:
        try:
            if not self.hosts.is_first:
                parts = checkpoint_rows.split(snapshot)
                if joint_save.join(self.hosts, self._key(update), self.directory, update, parts):
                    self.last_update = update
                return
            manifest = {"config": self.config, "progress": progress, "evaluation": evaluation}
            self._write_files(update, snapshot, manifest)
        except NotFiniteError as error:
            self.warn(self._unwritten(update, str(error)))
            return
        except OSError as error:
            self.outage.failed(self._unwritten(update, error.strerror or str(error)))
            return
        finally:
            if begun := archive_of(snapshot):
                begun.abandon()
        self.outage.is_over(f"checkpoints can be written again: that of update {update} is")
        self.scores[update], self.last_update = score_of(manifest), update
        for old in expendable(self.scores, self.keep):
            try:
                checkpoint.remove(self.directory, old)
            except OSError as error:
                self.warn(f"the checkpoint of update {old} could not be removed ({error})")
            del self.scores[old]
        if self.exports is not None:  # not within this save, which training may wait for
            self.executor.submit(self.exports.after, update, evaluation is not None)

    def _write_files(self, update: int, snapshot: TrainState, manifest: dict[str, Any]) -> None:
        """Writes the checkpoint, with the other processes where there are some.

        Raises:
          NotFiniteError: if no agent in the state is finite.
          OSError: if it cannot be written.
        """
        described, directory = checkpoint.describe(snapshot), self.directory
        prepare = partial(self.keeper.before, manifest["progress"]) if self.keeper else tuple
        if self.hosts.is_alone:
            parts = checkpoint_rows.split(snapshot)
            names, is_nonfinite = find_nonfinite(parts.whole)
            if is_nonfinite.all():  # some of several members may still be finite
                raise NotFiniteError(f"{names[0]} holds NaN or infinity")
            prepare()
            checkpoint.write(directory, update, parts.whole, described, manifest, parts.begun)
        else:
            parts, key = checkpoint_rows.split(snapshot), self._key(update)
            joint_save.write(
                self.hosts, key, directory, update, parts, described, manifest, prepare
            )
        if self.keeper is not None:
            self.keeper.after()

    def _key(self, update: int) -> str:
        """Of what the processes tell each other about this save."""
        return f"checkpoints/{update}/{self.num_saves}"

    def _unwritten(self, update: int, why: str) -> str:
        what = f"the checkpoint of update {update} was not written ({why})"
        return f"{what}; training continues, and {self._stands()}"

    def _stands(self) -> str:
        last = self.last_update
        return "there is none yet" if last is None else f"that of update {last} is the last"


def choose(
    directory: Path,
    wanted: int | str | None,
    warn: Callable[[str], None],
    check: Check = accept,
) -> tuple[Path, dict[str, Any]]:
    """`(path, manifest)` of a checkpoint of a run.

    Args:
      directory: the run's checkpoints.
      wanted: the update of one; "best" for that with the best evaluation; None for the last valid
        one, with a warning about every damaged one that is passed over.
      warn: takes the warnings.
      check: refuses one that does not belong to the run.

    Raises:
      ConfigError: if there is none, naming those that there are.
      DamagedCheckpointError: if the one that is wanted is damaged, or all are.
    """
    updates = checkpoint.updates_in(directory)
    there = f"it has {_list(updates)}"
    if wanted == "best":
        wanted = best_of(read_scores(directory, check))
        if wanted is None:
            raise ConfigError(f"checkpoint = 'best': no evaluation in {directory}; {there}")
    if wanted is not None:
        if wanted not in updates:
            raise ConfigError(f"checkpoint = {wanted!r}: not in {directory}; {there}")
        path = checkpoint.path_of(directory, int(wanted))
        try:
            return path, _read(path, check)
        except DamagedCheckpointError as error:
            others = _list([update for update in updates if update != wanted])
            raise DamagedCheckpointError(f"{error}; beside it there are {others}") from error
    for update in reversed(updates):
        path = checkpoint.path_of(directory, update)
        try:
            return path, _read(path, check)
        except DamagedCheckpointError as error:
            warn(str(error))
    if updates:
        raise DamagedCheckpointError(
            f"{directory}: every checkpoint in it is damaged; put back a copy of one, or start the "
            "run again in another directory"
        )
    raise ConfigError(f"{directory}: holds no checkpoint{_why_none(directory.parent)}")


def _read(path: Path, check: Check) -> dict[str, Any]:
    manifest = checkpoint.read_manifest(path)
    check(path, manifest)
    return manifest


def _list(updates: list[int]) -> str:
    return f"those of updates {', '.join(map(str, updates))}" if updates else "none"


def _why_none(run_dir: Path) -> str:
    """Why a run has no checkpoint, and what to do about it."""
    works = "put one back, or run it again elsewhere"
    if (run_dir / RESULT_FILE).exists():
        return f" any more, and the run is finished; {works}"
    if had_checkpoints(run_dir):
        return f" any more, and there were some; {works}"
    writer = writer_of(run_dir)
    if writer is None:
        return f", the run ended before its first; `jaxdrl resume {run_dir}` starts it again"
    return (
        f" yet, and {writer} is still training; wait for the first, which comes after "
        "--checkpoint-minutes or --checkpoint-every updates"
    )


def had_checkpoints(run_dir: Path) -> bool:
    """Whether `config.json` says that there were checkpoints."""
    path = run_dir / files.CONFIG_FILE
    return path.exists() and bool(read_object(path, files.PUT_BACK).get("has_checkpoints"))
