"""A policy in use: it answers from any thread, and takes new checkpoints in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.checks import require
from jaxdrl.errors import ConfigError
from jaxdrl.io.outages import Outage
from jaxdrl.runs import checkpoint_manager
from jaxdrl.runs.run_dir import CONFIG_FILE
from jaxdrl.serving.checkpoint_watch import Candidate
from jaxdrl.serving.client import Client
from jaxdrl.serving.decisions import Decision, act, rows_of
from jaxdrl.serving.source import (
    Choice,
    Loaded,
    Source,
    Version,
    identity,
    load,
    open_source,
    require_same_spaces,
)

KEPT = 10_000
"""Versions and refusals that are remembered."""

POLL = 0.1
"""Seconds between two looks for the first checkpoint."""


class FollowedPolicy:
    """The greedy policy of a run's newest checkpoint, as `jaxdrl.follow` returns it.

    It can be called from several threads, and is a context manager that closes it.

    Attributes:
      run_dir: directory of the run.
      versions: those that were taken, the present one last.
      refusals: why checkpoints were refused, each once, the newest last.
    """

    def __init__(
        self,
        run_dir: Path,
        choice: Choice,
        report: Callable[[str], Any],
        on_change: Callable[[Version], Any] | None = None,
    ) -> None:
        self.run_dir, self.choice = run_dir, choice
        self.versions: deque[Version] = deque(maxlen=KEPT)
        self.refusals: deque[str] = deque(maxlen=KEPT)
        self._report, self._on_change = report, on_change
        self._source: Source | None = None
        self._loaded: Loaded | None = None
        self._target: Any = None
        self._num_missing = 0
        self._away = Outage(report)
        self._looking, self._closed = threading.Lock(), threading.Event()

    def __enter__(self) -> FollowedPolicy:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __call__(self, obs: Any) -> np.ndarray:
        """The action of one observation, or those `[N, ...]` of a batch.

        Raises:
          ConfigError: if the observation is not in the observation space, or is not finite; and for
            a policy with memory, which answers to a `client` of its own.
        """
        return self.decide(obs).action

    @property
    def loaded(self) -> Loaded:
        """The policy of the present version with its parameters."""
        assert self._loaded is not None, "it has been started"
        return self._loaded

    @property
    def version(self) -> Version:
        """The present version."""
        return self.loaded.version

    @property
    def update(self) -> int:
        """The update of the present version's checkpoint."""
        return self.version.update

    def client(self) -> Client:
        """Somebody who asks for actions step after step, with a recurrent state of its own."""
        return Client(lambda: self.loaded)

    def decide(self, obs: Any) -> Decision:
        """The action of one observation or a batch, with the version of the policy that gave it.

        Raises:
          ConfigError: as a call of the policy.
        """
        loaded = self.loaded
        works = (
            "acts step after step: make a client = policy.client() for each player and call that"
        )
        require(not loaded.policy.function.has_memory, "policy", "with memory", works)
        rows = rows_of(loaded, obs)
        found = act(loaded, rows.obs, (), np.zeros(rows.num, bool))
        return found._replace(action=found.action[0]) if rows.is_single else found

    def start(self, wait: float) -> None:
        """Takes the first version, for which it waits some seconds.

        Raises:
          ConfigError: if there is none then, with the reason.
        """
        deadline = time.monotonic() + wait
        while True:
            try:
                if self.look():
                    return
                why = self._why_none()
            except ConfigError as error:
                why = error
            if why is not None and time.monotonic() >= deadline:
                raise why
            time.sleep(POLL)

    def look(self) -> bool:
        """Looks for a checkpoint now; whether a new version was taken.

        Raises:
          ConfigError: for a run that cannot be followed, if there is no version yet.
        """
        with self._looking:
            self._find_source()
            assert self._source is not None
            while True:
                candidate = self._newest()
                if candidate is None or not self._is_wanted(candidate):
                    return False
                if (loaded := self._load(candidate)) is not None:
                    break
                if not self._source.watch.is_refused(candidate):
                    return False  # its files are just changing
            self._loaded, self._num_missing = loaded, 0
            self.versions.append(loaded.version)
        if self._on_change is not None:
            self._on_change(loaded.version)
        return True

    def switch(self, run_dir: Path | str) -> None:
        """Follows another run from now on, such as one that was started from this one.

        Raises:
          ConfigError: if it is not a run, has no valid checkpoint, or has other spaces; then the
            present run is followed as before.
        """
        before = self.run_dir, self._source, self._target
        try:
            with self._looking:
                self.run_dir, self._target = Path(run_dir), None
                self._find_source(raises=True)
            self.start(0.0)
        except Exception:
            with self._looking:
                self.run_dir, self._source, self._target = before
            raise

    def close(self) -> None:
        """Stops looking for checkpoints; the present version still answers."""
        self._closed.set()

    def keep_looking(self, seconds: float) -> None:
        """Looks every so many seconds, in a thread that ends with this policy."""
        given = weakref.ref(self), self._closed, seconds
        threading.Thread(
            target=_keep_looking, args=given, name="jaxdrl-follow", daemon=True
        ).start()

    def report(self, words: str) -> None:
        """Says and remembers why something is not taken."""
        self.refusals.append(words)
        self._report(words)

    def _find_source(self, raises: bool = False) -> None:
        """Opens the run, and another one where the directory is a link that now points there."""
        target = identity(self.run_dir)
        is_linked = os.path.islink(self.run_dir)
        if self._target is not None and (target in (None, self._target) or not is_linked):
            return
        path = target if is_linked and target is not None else self.run_dir
        if self._source is not None and not raises and not os.path.exists(path / CONFIG_FILE):
            return  # the link may point at a run that is about to begin
        self._target = target
        try:
            source = open_source(path, self.choice, "follow")
            if self._source is not None:
                require_same_spaces(self._source.env, source.env, self.run_dir)
            self._source = source
        except ConfigError as error:
            if self._source is None:
                self._target = None
            if self._source is None or raises:
                raise
            self.report(str(error))

    def _why_none(self) -> ConfigError | None:
        """Why a look has found no version, None where the next one may."""
        assert self._source is not None
        watch = self._source.watch
        try:
            checkpoint_manager.choose(watch.directory, watch.wanted, lambda _: None, watch.check)
        except ConfigError as error:
            return error
        except OSError as error:
            why = f"cannot be read ({error.strerror}); let this user read it"
            return ConfigError(f"{watch.directory}: {why}")
        if not self.refusals:
            return None  # it has been written since
        return ConfigError(f"run_dir = {str(self.run_dir)!r}: {self.refusals[-1]}")

    def _newest(self) -> Candidate | None:
        """The checkpoint that is wanted, as far as the directory can be read."""
        assert self._source is not None
        watch = self._source.watch
        try:
            candidate, refusals = watch.look()
            is_away = candidate is None and not watch.directory.is_dir()
            why = "there is no such directory"
        except OSError as error:
            candidate, refusals, is_away, why = None, [], True, error.strerror or str(error)
        for words in refusals:
            self.report(words)
        if is_away and self._loaded is not None and self._loaded.source is self._source:
            stays = f"the policy of update {self.update} stays in use"
            self._away.failed(f"{watch.directory}: cannot be read ({why}); {stays}")
        elif not is_away:
            self._away.is_over(f"{watch.directory}: can be read again")
        return candidate

    def _is_wanted(self, candidate: Candidate) -> bool:
        """Whether a checkpoint replaces the one in use."""
        loaded = self._loaded
        if loaded is None or loaded.source is not self._source:
            return True
        if candidate.signature == loaded.candidate.signature:
            self._num_missing = 0
            return False
        if self.choice.checkpoint == "best" or candidate.update >= loaded.candidate.update:
            return True
        if loaded.source.watch.is_there(loaded.candidate.update):
            return False  # it was valid when it was taken
        # The run was taken back, unless a checkpoint is just being replaced.
        self._num_missing += 1
        return self._num_missing > 1

    def _load(self, candidate: Candidate) -> Loaded | None:
        """The policy in a checkpoint; None where it cannot be used, which is reported."""
        assert self._source is not None
        loaded, watch = self._loaded, self._source.watch
        before = loaded if loaded is not None and loaded.source is self._source else None
        try:
            return load(self._source, candidate, before)
        except Exception as error:  # nothing in a file may end the thread
            if watch.is_unchanged(candidate):
                why = str(error) if isinstance(error, ConfigError) else repr(error)
                for words in watch.refuse(candidate, why):
                    self.report(words)
            return None


def _keep_looking(
    policy: weakref.ref[FollowedPolicy], closed: threading.Event, seconds: float
) -> None:
    while not closed.wait(seconds):
        found = policy()
        if found is None:
            return
        try:
            found.look()
        except Exception as error:  # such as one of `on_change`: the policy in use stays
            with contextlib.suppress(Exception):
                found.report(f"{found.run_dir}: {error}")
        del found
