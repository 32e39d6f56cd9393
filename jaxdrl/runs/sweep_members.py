"""Finds the member of a sweep that a number or a setting means, and describes it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxdrl.checks import require
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import value_of
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.episodes import best_of
from jaxdrl.io.advice import resume_call
from jaxdrl.io.numerals import short
from jaxdrl.runs.nested import TRIALS, best_part, folder_of, parts_of, read_result
from jaxdrl.runs.run_dir import RESULT_FILE, read_run


@dataclass(frozen=True)
class Member:
    """A member of a sweep.

    Attributes:
      number: among all members of the sweep that was named, from 0.
      setting: the number of its setting, as the table of the sweep has it.
      seed: which of the members of its setting it is, from 0.
      num_seeds: how many members its setting has.
      hyperparams: its own, by name.
      shape: its choices for settings that shape the program, in a search over these.
    """

    number: int
    setting: int
    seed: int
    num_seeds: int
    hyperparams: dict[str, float]
    shape: dict[str, Any]

    def __str__(self) -> str:
        seed = f", seed {self.seed} of 0 to {self.num_seeds - 1}" if self.num_seeds > 1 else ""
        numbers = {name: short(value) for name, value in self.hyperparams.items()}
        values = ", ".join(f"{name} {value}" for name, value in (self.shape | numbers).items())
        return f"member {self.number}, of setting {self.setting}{seed}: {values}"

    @property
    def figures(self) -> dict[str, Any]:
        """The member, for JSON."""
        named = asdict(self)
        return {"member": named.pop("number"), **named}


class Place(NamedTuple):
    """A run with the members that may be meant.

    Attributes:
      run_dir: of that run, an ordinary one or a part of a sweep.
      numbers: of these members in that run; None: any, or the one agent of the run.
      first: number of the first member of that run, among those of the sweep that was named.
      first_setting: likewise of its first setting; 0 for waves, whose settings have their numbers
        in the whole sweep.
    """

    run_dir: Path
    numbers: tuple[int, ...] | None = None
    first: int = 0
    first_setting: int = 0


def locate(run_dir: Path, member: int | None = None, setting: int | None = None) -> Place:
    """Finds the run with a member of a sweep, or with the members of a setting.

    Args:
      run_dir: of the sweep, or an ordinary run.
      member: its number, from 0.
      setting: in place of it, the number of a setting; None for both means the best so far.

    Raises:
      ConfigError: if the directory is not a run, or there is no such member or setting yet.
    """
    sweep = read_run(run_dir).experiment.sweep
    for name, value in {"member": member, "setting": setting}.items():
        if value is not None:
            require(sweep is not None, name, value, f"{run_dir} has one agent, not members")
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            require(is_integer, name, value, "must be an integer")
    if sweep is None:
        return Place(run_dir)
    works = f"must be None where member = {member} names one already"
    require(member is None or setting is None, "setting", setting, works)
    folder = folder_of(sweep)
    if folder is None:
        return Place(run_dir, _numbers_here(sweep, member, setting))
    if not parts_of(run_dir):
        works = f"ask again after its first update; if nothing runs: {resume_call(run_dir, [])}"
        raise ConfigError(
            f"run_dir = {str(run_dir)!r}: none of its {folder} has begun yet; {works}"
        )
    is_best = member is None and setting is None
    if is_best:
        if not os.path.lexists(run_dir / RESULT_FILE):
            return _in_part(run_dir, sweep, int(best_part(parts_of(run_dir)).name))
        member = read_result(run_dir)["evaluation"]["best_member"]
        if member is None:
            why = "no member has a finite return; name one of its members"
            raise ConfigError(f"run_dir = {str(run_dir)!r}: {why}")
    num_trials = sweep.trials if sweep.is_search else 1
    if setting is not None:
        _require_below(sweep.members * num_trials, setting, "setting")
        if folder == TRIALS:
            trial, own = divmod(setting, sweep.members)
            return _in_part(run_dir, sweep, trial, setting=own)
        member = _of_setting(run_dir, sweep, setting)
    assert member is not None
    _require_below(sweep.num_members * num_trials, member, "member")
    part, own = divmod(member, _members_of_part(sweep))
    if is_best and not (of_best := run_dir / folder / str(part)).is_dir():
        raise ConfigError(
            f"{of_best}: is missing, and holds the best member, {member}; put it back, or name "
            "another member"
        )
    return _in_part(run_dir, sweep, part, member=own)


def _require_below(total: int, number: int, what: str) -> None:
    works = f"must be from 0 to {total - 1}: there are {total} {what}s"
    require(0 <= number < total, what, number, works)


def _numbers_here(sweep: Sweep, member: int | None, setting: int | None) -> tuple[int, ...] | None:
    """The numbers of the members in a run that is trained at once."""
    if member is not None:
        _require_below(sweep.num_members, member, "member")
        return (member,)
    if setting is None:
        return None
    settings = [number // sweep.seeds for number in sweep.numbers]
    works = f"must be from {settings[0]} to {settings[-1]}: those are the settings"
    require(setting in settings, "setting", setting, works)
    return tuple(i for i, own in enumerate(settings) if own == setting)


def _members_of_part(sweep: Sweep) -> int:
    size = sweep.num_members if sweep.is_search else sweep.wave_size
    assert size is not None
    return size


def _in_part(run_dir: Path, sweep: Sweep, number: int, **which: int) -> Place:
    """`locate` in one of the parts of a sweep, numbered as in the whole."""
    part = run_dir / str(folder_of(sweep)) / str(number)
    for name, own in which.items():
        size = _members_of_part(sweep) if name == "member" else sweep.members
        whole = number * size + own
        require(part in parts_of(run_dir), name, whole, f"{part} has not begun")
    found = locate(part, **which)
    return found._replace(
        first=number * _members_of_part(sweep) + found.first,
        first_setting=number * sweep.members * sweep.is_search + found.first_setting,
    )


def _of_setting(run_dir: Path, sweep: Sweep, setting: int) -> int:
    """The best member of a setting whose members are in the waves of a sweep."""
    numbers = range(setting * sweep.seeds, (setting + 1) * sweep.seeds)
    if len(numbers) == 1:
        return numbers[0]
    which = f"name one of its members, {numbers[0]} to {numbers[-1]}"
    works = f"its best seed is known once the sweep is finished; {which}"
    require(os.path.lexists(run_dir / RESULT_FILE), "setting", setting, works)
    returns = read_result(run_dir)["evaluation"]["member_returns"]
    best = best_of([returns[number] for number in numbers])
    if best is None:
        raise ConfigError(f"setting = {setting}: no member has a finite return; {which}")
    return numbers[best]


def choose_member(place: Place, path: Path, manifest: dict[str, Any], num_members: int) -> int:
    """The number of the best member that may be meant, by the evaluation in a checkpoint.

    Raises:
      ConfigError: if the checkpoint was not evaluated, or no return is finite.
    """
    numbers = place.numbers or tuple(range(num_members))
    if len(numbers) == 1:
        return numbers[0]
    evaluation, first = manifest["evaluation"], place.first
    which = f"name one of its members, {first + numbers[0]} to {first + numbers[-1]}"
    if evaluation is None:
        raise ConfigError(f"{path}: was saved without an evaluation; {which}")
    best = best_of([evaluation["member_returns"][number] for number in numbers])
    if best is None:
        raise ConfigError(f"{path}: no member has a finite return; {which}")
    return numbers[best]


def describe(
    place: Place, number: int, sweep: Sweep, hyperparams: dict[str, float], config: Any
) -> Member:
    """The member with a number in the run of `place`.

    Args:
      place: from `locate`.
      number: from `choose_member`.
      sweep: of that run.
      hyperparams: the member's own.
      config: of that run.
    """
    own = sweep.numbers[number]
    return Member(
        number=place.first + number,
        setting=place.first_setting + own // sweep.seeds,
        seed=own % sweep.seeds,
        num_seeds=sweep.seeds,
        hyperparams=hyperparams,
        shape={name: value_of(config, name) for name in sweep.shapes},
    )


def numbers_in_words(members: list[int]) -> str:
    """The consecutive numbers of the members of one setting, in words.

    >>> numbers_in_words([4]), numbers_in_words([3, 4, 5])
    ('4', '3-5')
    """
    return str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}"
