"""Looks at the checkpoints of a run again and again: each is verified once, and refused once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint
from jaxdrl.runs.checkpoint_scores import Check, best_of, score_of

MAX_SAID = 10_000
"""Updates whose refusals are remembered; what a foreign program writes may have no end."""

Signature = tuple[tuple[Any, ...], ...]
"""Identity, size and times of the files of a checkpoint, which change when it is written anew."""


class Candidate(NamedTuple):
    """A checkpoint whose digests hold.

    Attributes:
      path: where it is.
      manifest: of it.
      signature: of the files that were verified.
    """

    path: Path
    manifest: dict[str, Any]
    signature: Signature

    @property
    def update(self) -> int:
        """Updates after which it was saved."""
        return self.manifest["update"]


@dataclass
class CheckpointWatch:
    """What is known of the checkpoints in a directory.

    Attributes:
      directory: with the checkpoints of a run.
      wanted: None for the last valid one, "best" for the best by evaluation, or an update.
      check: refuses one that does not belong to the run.
      known: the candidate of each update, None where it was refused, with its signature.
      said: for each update why it was refused, so that the same is said once.
    """

    directory: Path
    wanted: int | str | None
    check: Check
    known: dict[int, tuple[Signature, Candidate | None]] = field(default_factory=dict)
    said: dict[int, set[str]] = field(default_factory=dict)

    def look(self) -> tuple[Candidate | None, list[str]]:
        """`(the checkpoint that is wanted, None if there is none; what is newly refused)`.

        Raises:
          OSError: if the directory cannot be read.
        """
        updates, refusals = checkpoint.updates_in(self.directory), list[str]()
        for gone in self.known.keys() - set(updates):
            del self.known[gone]
        if isinstance(self.wanted, int):
            updates = [update for update in updates if update == self.wanted]
        valid: dict[int, Candidate] = {}
        for update in reversed(updates):
            candidate = self._verified(update, refusals)
            if candidate is not None:
                valid[update] = candidate
                if self.wanted != "best":
                    break
        if self.wanted != "best":
            return next(iter(valid.values()), None), refusals
        best = best_of({update: score_of(found.manifest) for update, found in valid.items()})
        return (None if best is None else valid[best]), refusals

    def is_there(self, update: int) -> bool:
        """Whether the directory has a checkpoint of `update`, valid or not."""
        return checkpoint.path_of(self.directory, update).exists()

    def is_unchanged(self, candidate: Candidate) -> bool:
        """Whether the files of a candidate are still those that were verified."""
        return signature_of(candidate.path) == candidate.signature

    def refuse(self, candidate: Candidate, why: str) -> list[str]:
        """Notes that a candidate cannot be used; `[why]`, or nothing if that was said already."""
        self.known[candidate.update] = candidate.signature, None
        return self._say(candidate.update, why)

    def is_refused(self, candidate: Candidate) -> bool:
        """Whether a candidate was refused."""
        return self.known.get(candidate.update) == (candidate.signature, None)

    def _verified(self, update: int, refusals: list[str]) -> Candidate | None:
        path = checkpoint.path_of(self.directory, update)
        signature = signature_of(path)
        before, candidate = self.known.get(update, (None, None))
        if before == signature:
            return candidate
        try:
            manifest = checkpoint.read_manifest(path)
            self.check(path, manifest)
        except Exception as error:  # a foreign file may raise anything
            if signature_of(path) != signature or not os.path.lexists(path):
                return None  # it is being replaced or removed: the next look will tell
            self.known[update] = signature, None
            words = str(error) if isinstance(error, ConfigError) else f"{path}: {error!r}"
            refusals += self._say(update, words)
            return None
        self.known[update] = signature, Candidate(path, manifest, signature)
        self.said.pop(update, None)
        return self.known[update][1]

    def _say(self, update: int, words: str) -> list[str]:
        if len(self.said) > MAX_SAID:
            self.said.clear()
        said = self.said.setdefault(update, set())
        is_new = words not in said
        said.add(words)
        return [words] if is_new else []


def signature_of(path: Path) -> Signature:
    """The signature of a checkpoint; empty where it cannot be read."""
    try:
        entries = sorted([path, *path.iterdir()] if path.is_dir() else [path])
        stats = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ()
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats)
