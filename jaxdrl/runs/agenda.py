"""What a run does next, as process 0 decides: after which update it saves, and after which it ends.

The processes of a run are not at the same update at the same time, but at most one apart: each
update needs all of them. What process 0 decides after update `u` is for update `u + LEAD`, which
the others cannot have passed, and they read it before they get there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from jaxdrl.distributed.hosts import Hosts

LEAD = 2
"""Updates between a decision and what it decides, where there are other processes.

A process that looks at the agenda after update `u` has handed that to its devices, and has seen the
metrics of update `u - 1`. Process 0 has written its decision before it hands over update `u + 1`,
whose metrics every process has seen when it looks after update `u + 2`.
"""


@dataclass(frozen=True)
class Decisions:
    """What has been decided.

    Attributes:
      save_at: the last update after which a checkpoint is saved between evaluations.
      end_at: the update after which the run is interrupted.
      end_by: what interrupts it: the name of a signal, or an error of process 0.
      cut_at: the update after which the run ends with its result, because `on_update` wants it.
    """

    save_at: int | None = None
    end_at: int | None = None
    end_by: str | None = None
    cut_at: int | None = None


class Agenda:
    """The decisions of a run.

    Args:
      hosts: the processes of the run.
      interrupted_by: what interrupts the run now, None if nothing does; asked in process 0 alone.
      wants_cut: whether `on_update` wants the run to end; likewise.
      is_save_due: whether a checkpoint is due after an update; likewise.
    """

    def __init__(
        self,
        hosts: Hosts,
        interrupted_by: Callable[[], str | None],
        wants_cut: Callable[[], bool],
        is_save_due: Callable[[int], bool],
    ) -> None:
        self.hosts, self.lead = hosts, 0 if hosts.is_alone else LEAD
        self.interrupted_by, self.wants_cut = interrupted_by, wants_cut
        self.is_save_due = is_save_due
        self.decided = Decisions()

    def settle(self, update: int) -> None:
        """Decides about `update` itself, at a place where all processes wait for each other."""
        if self.hosts.is_first:
            self._decide(update, update)
        found = self.hosts.first(f"agenda-{update}", lambda: asdict(self.decided))
        self.decided = Decisions(**found)

    def begin(self, update: int) -> None:
        """Decides about the second update after `update`; the first one is too near for that.

        A process looks after its first update without having waited for another one.
        """
        if self.lead:
            self._decide_save(update, update + self.lead)
            self._share(None)

    def look(self, update: int) -> None:
        """Decides about a later update, or learns what has been decided about this one."""
        before, passed = self.decided, update - self.lead  # by all of them
        if not self.hosts.is_first:
            found = self.hosts.read("agenda")
            self.decided = before if found is None else Decisions(**found)
            return
        self._decide_save(passed, update + self.lead)
        self._decide(update, update + self.lead)
        self._share(before)

    def _share(self, before: Decisions | None) -> None:
        if self.hosts.is_first and not self.hosts.is_alone and self.decided != before:
            self.hosts.post("agenda", asdict(self.decided))

    def _decide(self, update: int, target: int) -> None:
        """Decides whether the run ends after `target`, or sooner if that is decided already."""
        decided, by = self.decided, self.interrupted_by()
        if decided.end_at is not None or decided.cut_at is not None:
            if target == update:  # all are here
                end_at, cut_at = (x and min(x, update) for x in (decided.end_at, decided.cut_at))
                self.decided = replace(decided, end_at=end_at, cut_at=cut_at)
        elif by is not None:
            self.decided = replace(decided, end_at=target, end_by=by)
        elif self.wants_cut():
            self.decided = replace(decided, cut_at=target)

    def _decide_save(self, passed: int, target: int) -> None:
        """Decides whether `target` is saved, unless another process may still look for a save.

        Args:
          passed: the last update after which all processes have looked for certain.
          target: the update.
        """
        pending = self.decided.save_at is not None and self.decided.save_at > passed
        if self.hosts.is_first and not (pending and self.lead) and self.is_save_due(target):
            self.decided = replace(self.decided, save_at=target)

    def is_interrupted(self, update: int) -> bool:
        """Whether the run is interrupted after `update`."""
        return self.decided.end_at is not None and update >= self.decided.end_at

    def is_cut(self, update: int) -> bool:
        """Whether the run ends with its result after `update`."""
        return self.decided.cut_at is not None and update >= self.decided.cut_at

    def is_saved(self, update: int) -> bool:
        """Whether a checkpoint is saved after `update`, if none is for its evaluation."""
        return self.decided.save_at == update
