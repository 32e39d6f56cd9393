"""Writes the policy file of a run anew while it trains, from the checkpoints that it has saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jaxdrl.io.outages import Outage

POLICY_FILE = "policy.zip"
"""Name of the file in a run directory."""

Export = Callable[[Path, int], object]
"""`(run directory, update of a checkpoint in it)`: writes the policy file of the run."""


class Exports:
    """Exports the policy in every so many checkpoints, and in the last one of all.

    It is called in the thread that writes checkpoints. Nothing that goes wrong ends the training:
    the file then stays as it is, with a warning.

    Args:
      run_dir: directory of the run.
      every: checkpoints between two exports.
      export: writes the file.
      has_members: whether the run is a sweep, whose best member an evaluation decides.
      warn: takes warnings.
    """

    def __init__(
        self,
        run_dir: Path,
        every: int,
        export: Export,
        has_members: bool,
        warn: Callable[[str], object],
    ) -> None:
        self.run_dir, self.every, self.export = run_dir, every, export
        self.has_members, self.warn, self.outage = has_members, warn, Outage(warn)
        self.num_saved, self.unevaluated = 0, set[int]()
        self.exported: int | None = None

    def after(self, update: int, is_evaluated: bool) -> None:
        """Exports a checkpoint that has just been written, if that is due."""
        self.num_saved += 1
        if self.has_members and not is_evaluated:
            self._leave_out(update)
        if self.num_saved % self.every == 0:
            self.finish(update)

    def finish(self, update: int | None) -> None:
        """Exports the last checkpoint, unless there is none or it is exported already."""
        if update in (None, self.exported) or update in self.unevaluated:
            return
        path = self.run_dir / POLICY_FILE
        try:
            self.export(self.run_dir, update)
        except Exception as error:  # a network of the user's own may raise anything
            why = getattr(error, "strerror", None) or str(error) or repr(error)
            self.outage.failed(
                f"{path}: the policy of update {update} was not exported ({why}); training "
                "continues, and the file stays as it is"
            )
            return
        self.exported = update
        self.outage.is_over(f"{path}: can be written again, and has the policy of update {update}")

    def _leave_out(self, update: int) -> None:
        if not self.unevaluated:
            self.warn(
                f"{self.run_dir / POLICY_FILE}: is written only from checkpoints with an "
                f"evaluation, which tells the best member, and that of update {update} has none; "
                "give --evaluate-every the value of --checkpoint-every"
            )
        self.unevaluated.add(update)
